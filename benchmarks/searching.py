"""What the evidence on searching shares: its command line, and tables that can be gone on with."""

import os
from pathlib import Path

import subjects
import tables

from prune_keras.models import fingerprints, records

RESULTS = subjects.RESULTS.parent / "search"


def add_arguments(parser, images):
    """Add the places of data and tables, the seeds and the number of training images."""
    data = os.environ.get("PRUNE_KERAS_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=images, help="training images at most")


def cifar10(arguments):
    """Return the splits of CIFAR-10, with the first training images only."""
    data = subjects.cifar10(arguments)
    return data._replace(train=subjects.first(data.train, arguments.images))


class Table:
    """A CSV file of rows that are made once, beside the settings that all of them share.

    Args:
        path: the file; what it holds already is read.
        keys: names of the columns that tell rows apart.
        **settings: what decides the rows, beside their keys.

    Raises:
        ValueError: if the rows that are there were made with other settings.
    """

    def __init__(self, path, keys, **settings):
        settings = fingerprints.of_value(settings)  # as they are read back
        self.path, self.keys, self.settings = path, keys, settings
        self.rows = tables.read(path)
        held = records.read_json(path.with_suffix(".json")) if self.rows else settings
        differ = {name: held.get(name) for name in settings if held.get(name) != settings[name]}
        if differ:
            raise ValueError(
                f"All rows of a table must be made with the same settings. Received: '{path}', "
                f"made with {differ}, not {settings}. Name another --output, or delete it."
            )

    def find(self, *key):
        """Return the row of a key, as strings; None if it is not there."""
        wanted = tuple(map(str, key))
        found = (r for r in self.rows if tuple(str(r[k]) for k in self.keys) == wanted)
        return next(found, None)

    def add(self, row):
        """Print a row and write the table with it."""
        print(row, flush=True)
        self.rows.append(row)
        subjects.write(self.path, self.rows, **self.settings)

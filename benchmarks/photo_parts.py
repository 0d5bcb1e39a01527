"""Accuracy right after one cut of only the dense units, or only the filters, of a VGG-16 on photos.

    python benchmarks/photo_parts.py results/vgg16_cats_vs_dogs/seed0 --data cats_vs_dogs

The folder is one of `prune-keras cats-vs-dogs`. Of one kind of layers a share of the units goes by
Taylor scores on training photos, with the weights fused and without; accuracy is that of the
validation photos, without any training.
"""

import argparse
from pathlib import Path

import keras
import measuring

import prune_keras
from prune_keras.models import photos, records, runs
from prune_keras.models.settings import Settings, compile_model

EXCLUDED = {"dense": "vgg16/*", "convolutions": "hidden"}  # what stays as it is
SHARES = (0.25, 0.5, 0.75, 0.9)
REPAIRS = ("weights", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the photos; see prune-keras cats-vs-dogs")
    given = parser.parse_args()
    settings = Settings(**records.read_json(given.folder / "settings.json"))
    model = keras.models.load_model(given.folder / "dense.keras", compile=False)
    compile_model(model, settings, 0.0, 1)
    data = photos.load_data(given.data, model.input_shape[1])
    path, rows = given.folder.parent / "parts.csv", []
    for row in cuts(model, data, settings):
        print(row, flush=True)
        rows.append(row)
        records.write_table(path, rows)
    measuring.write_settings(path, samples=settings.samples)


def cuts(model, data, settings):
    """Yield a row for each kind of layers, share and repair."""
    graph = prune_keras.trace(model)
    samples = tuple(array[: settings.samples] for array in data.train)
    dense = graph.widths["hidden"]
    units = {"dense": dense, "convolutions": graph.neurons - dense}
    whole = runs.accuracy(model, data.validation, settings)
    for kind, excluded in EXCLUDED.items():
        for share in SHARES:
            gone = round(share * units[kind]) / graph.neurons
            for fuse in REPAIRS:
                arguments = {"criterion": "taylor", "fuse": fuse, "exclude": excluded}
                thin, report = prune_keras.prune(model, fraction=gone, data=samples, **arguments)
                left = report.after.share_of(report.before)
                row = {"kind": kind, "gone": share, "fuse": fuse or "none"}
                row |= {"params": left["params"], "flops": left["flops"], "before": whole}
                yield row | {"accuracy": runs.accuracy(thin, data.validation, settings)}


if __name__ == "__main__":
    main()

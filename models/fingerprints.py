"""Short texts by which data, networks, files and settings are known again.

Equal ones give equal texts, in another process and on another backend, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np  # noqa: F401, for the examples

from prune_keras.differing import described, digest, of_array
from prune_keras.models.images import Data

Builder = Callable[[], Any]
"""Returns a new network, at each call."""

PARTS = ("train", "validation", "test")
SEEDS = (0, 1)


def of_file(path: Path) -> str | None:
    """Return a digest of what a file holds; `None` if it is not there."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def of_data(data: Data) -> dict[str, str]:
    """Return a text for the images and one for the labels of each part of a `Data`."""
    return {
        f"{part} {name}": of_array(array)
        for part, pair in zip(PARTS, data, strict=True)
        for name, array in zip(("images", "labels"), pair, strict=True)
    }


def of_network(build: Builder) -> dict[str, str]:
    """Return a text for the layers that a function builds, and one for the weights it is given.

    Names that Keras makes up do not count. Weights are given where they do not depend on the
    random seed: read from a file, say. The others follow from the seed of a run, and differ
    between backends. So the function is called twice.
    """
    first, second = (_built(build, seed) for seed in SEEDS)
    given = [mine for mine, other in zip(first[1], second[1], strict=True) if mine == other]
    return {"network": first[0], "given weights": digest("".join(given).encode())}


def of_value(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples as lists, objects by class and content.

    Example:

    >>> of_value({"exclude": ("conv1",), 3: np.float32(0.5)})
    {'exclude': ['conv1'], '3': 0.5}
    """
    return json.loads(json.dumps(value, default=described))


def _built(build: Builder, seed: int) -> tuple[str, list[str]]:
    """Return a text for the layers of a new network, and a digest of each of its weights."""
    keras.utils.set_random_seed(seed)
    model = build()
    config = _with_plain_names(keras.saving.serialize_keras_object(model))
    size = f"{model.count_params():,} parameters"
    return f"{size} {digest(config.encode())}", [of_array(w) for w in model.get_weights()]


def _with_plain_names(config: Any) -> str:
    """Return a network's config as text, names that Keras made up numbered from its beginning."""
    renamed: dict[str, str] = {}
    for kind, name in _named(config):
        if re.sub(r"_\d+$", "", name).replace("_", "") == kind.lower():
            renamed.setdefault(name, f"{kind} {len(renamed)}")
    return json.dumps(_renamed(config, renamed), sort_keys=True, default=described)


def _named(config: Any) -> Iterator[tuple[str, str]]:
    """Yield class and name of every layer in a config, in its order."""
    if isinstance(config, dict):
        held = config.get("config")
        if isinstance(held, dict) and isinstance(held.get("name"), str):
            yield str(config.get("class_name")), held["name"]
    children = config.values() if isinstance(config, dict) else config
    for child in children:
        if isinstance(child, dict | list | tuple):
            yield from _named(child)


def _renamed(config: Any, names: dict[str, str]) -> Any:
    """Return a config with other names, without how it was compiled."""
    if isinstance(config, dict):
        kept = ((key, value) for key, value in config.items() if key != "compile_config")
        return {key: _renamed(value, names) for key, value in kept}
    if isinstance(config, list | tuple):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config

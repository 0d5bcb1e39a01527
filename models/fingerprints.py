"""Short texts by which data, networks, files and settings are known again.

Equal ones give equal texts, in another process and on another backend, too.
"""

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path

import keras
import numpy as np

PARTS = ("train", "validation", "test")
SEEDS = (0, 1)


def of_file(path):
    """Return a digest of what a file holds; `None` if it is not there."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def of_array(array):
    """Return the shape, the type and a digest of all entries.

    Example:

    >>> of_array(np.zeros((2, 3), "uint8"))
    '2x3 uint8 3346a0d3f9b3a626'
    """
    array = np.asarray(array)
    shape = "x".join(map(str, array.shape))
    return f"{shape} {array.dtype} {_digest(np.ravel(array).view('uint8'))}"


def of_data(data):
    """Return a text for the images and one for the labels of each part of a `Data`."""
    return {
        f"{part} {name}": of_array(array)
        for part, pair in zip(PARTS, data, strict=True)
        for name, array in zip(("images", "labels"), pair, strict=True)
    }


def of_network(build):
    """Return a text for the layers that a function builds, and one for the weights it is given.

    Names that Keras makes up do not count. Weights are given where they do not depend on the
    random seed: read from a file, say. The others follow from the seed of a run, and differ
    between backends. So the function is called twice.
    """
    first, second = (_built(build, seed) for seed in SEEDS)
    given = [mine for mine, other in zip(first[1], second[1], strict=True) if mine == other]
    return {"network": first[0], "given weights": _digest("".join(given).encode())}


def of_value(value):
    """Return a value as JSON gives it back: tuples as lists, objects by class and content.

    Example:

    >>> of_value({"exclude": ("conv1",), 3: np.float32(0.5)})
    {'exclude': ['conv1'], '3': 0.5}
    """
    return json.loads(json.dumps(value, default=described))


def described(value):
    """Return what JSON can hold of any other object; a `default` for `json.dumps`."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return of_array(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if dataclasses.is_dataclass(value):
        return {
            "class": name,
            **{f.name: getattr(value, f.name) for f in dataclasses.fields(value)},
        }
    if hasattr(value, "get_config"):
        return {"class": name, "config": value.get_config()}
    if hasattr(value, "__code__"):
        return _function(value)
    return (
        str(value) if isinstance(value, Path) else {"class": name, **getattr(value, "__dict__", {})}
    )


def _function(function):
    """Return a function's name, what it does, and the values that it holds."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    name = f"{function.__module__}.{function.__qualname__}"
    return [name, _code(function.__code__), cells, function.__defaults__]


def _code(code):
    inner = [_code(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return _digest(repr((code.co_code, code.co_names, inner)).encode())


def _built(build, seed):
    """Return a text for the layers of a new network, and a digest of each of its weights."""
    keras.utils.set_random_seed(seed)
    model = build()
    config = _with_plain_names(keras.saving.serialize_keras_object(model))
    size = f"{model.count_params():,} parameters"
    return f"{size} {_digest(config.encode())}", [of_array(w) for w in model.get_weights()]


def _with_plain_names(config):
    """Return a network's config as text, names that Keras made up numbered from its beginning."""
    renamed: dict[str, str] = {}
    for kind, name in _named(config):
        if re.sub(r"_\d+$", "", name).replace("_", "") == kind.lower():
            renamed.setdefault(name, f"{kind} {len(renamed)}")
    return json.dumps(_renamed(config, renamed), sort_keys=True, default=described)


def _named(config):
    """Yield class and name of every layer in a config, in its order."""
    if isinstance(config, dict):
        held = config.get("config")
        if isinstance(held, dict) and isinstance(held.get("name"), str):
            yield str(config.get("class_name")), held["name"]
    children = config.values() if isinstance(config, dict) else config
    for child in children:
        if isinstance(child, dict | list | tuple):
            yield from _named(child)


def _renamed(config, names):
    """Return a config with other names, without how it was compiled."""
    if isinstance(config, dict):
        kept = ((key, value) for key, value in config.items() if key != "compile_config")
        return {key: _renamed(value, names) for key, value in kept}
    if isinstance(config, list | tuple):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def _digest(content):
    return hashlib.blake2b(content, digest_size=8).hexdigest()

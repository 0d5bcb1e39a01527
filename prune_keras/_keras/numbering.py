"""Private Keras, numbering: samples of arrays that a step can tell from each other.

Keras shuffles all arrays of a `fit` alike, so that numbers beside the inputs tell which samples
a batch has.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.trainers.data_adapters.array_slicing import train_validation_split

_NUMBER = "number of the sample"


def number(model: Any, arguments: dict[str, Any]) -> Any:
    """Put numbers beside the inputs of a `fit`, and return the inputs in the order of these.

    Args:
        model: the model, built and compiled.
        arguments: of `fit`, by name; they are changed. What `validation_split` splits off is.

    Raises:
        ValueError: if the inputs are no arrays.
    """
    x: Any = arguments.get("x")
    count = _count(x)
    if arguments.get("validation_split") and arguments.get("validation_data") is None:
        names = ("x", "y", "sample_weight")
        given = tuple(arguments.get(name) for name in names)
        kept, apart = train_validation_split(given, arguments.pop("validation_split"))
        arguments.update(zip(names, kept, strict=True))
        arguments["validation_data"] = apart
        x, count = arguments["x"], _count(arguments["x"])
    size = arguments.get("batch_size") or 32  # as in Keras
    given = tuple(arguments.get(name) for name in ("x", "y", "sample_weight"))
    batch = tree.map_structure(lambda each: None if each is None else each[:size], given)
    model._symbolic_build(data_batch=batch)  # else Keras would, of a batch with numbers
    arguments["x"] = {"x": x, _NUMBER: np.arange(count, dtype="int32")}
    return x


def numbers(batch: Any) -> tuple[Any, Any]:
    """Return a batch without numbers of samples, and these, or None if it has none."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    if not (isinstance(x, dict) and _NUMBER in x):
        return batch, None
    return keras.utils.pack_x_y_sample_weight(x["x"], y, weight), x[_NUMBER]


def _count(x: Any) -> int:
    leaves = tree.flatten(x)
    shapes: list[Any] = [getattr(leaf, "shape", None) for leaf in leaves]
    if not leaves or isinstance(x, keras.utils.PyDataset) or not all(shapes):
        raise ValueError(
            "Outputs are stored for each sample of arrays, whose order is known. Received: "
            f"x={type(x).__name__}. Pass x and y as arrays to fit, or leave Teacher(store=True) "
            "out, so that the teacher is asked in each step."
        )
    return int(shapes[0][0])

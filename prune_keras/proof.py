"""Proof: that a model that was read back is the one that was written."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras
from prune_keras.samples.drawing import OPEN_SIZES, draw, sample_shapes

_LAYERS = "Look for layers whose get_config is incomplete."


@dataclass(frozen=True)
class Case:
    """Inputs, and what the model that is written gives for them, as flat arrays."""

    inputs: Any
    outputs: list[np.ndarray]


def case_of(model: Any, samples: Any = None) -> Case:
    """Return what to compare on.

    Args:
        model: a built functional or Sequential model.
        samples: inputs as `predict` takes them. Defaults to None: drawn, of the first kind for
            which the model runs and says something, or else just runs.

    Raises:
        ValueError: if the model cannot run on them, or an output has no finite number.
    """
    ran, failed = [], None
    for inputs in _drawn(model) if samples is None else [_given(model, samples)]:
        try:
            ran.append(Case(inputs, outputs_of(model, inputs)))
        except Exception as error:
            failed = failed or error
            continue
        if _says_something(ran[-1]):
            return ran[-1]
    if not ran:
        raise ValueError(
            "A model that is exported must run, so that its outputs can be compared. Received: "
            f"{model.name!r}, which fails on {'drawn' if samples is None else 'these'} samples: "
            f"{in_one_line(failed)}. Pass samples= of inputs that it can run on."
        ) from failed
    return _finite(model, ran[0])


def _drawn(model: Any) -> Iterator[Any]:
    drawn = [sample_shapes(model, size) for size in OPEN_SIZES]
    shapes = [each for place, each in enumerate(drawn) if each not in drawn[:place]]
    for normal in (False, True):
        for each in shapes:
            yield draw(model, each, normal=normal)


def _given(model: Any, samples: Any) -> Any:
    inputs = _keras.graph_of(model).inputs
    names = [tensor.name for tensor in inputs]
    by_name = isinstance(samples, dict) and {*names} <= {*samples}
    flat = [samples[name] for name in names] if by_name else tree.flatten(samples)
    if len(flat) != len(inputs):
        raise ValueError(
            f"`samples` must hold one array for each input of the model, {names}. "
            f"Received: {len(flat)} arrays. Pass what predict takes."
        )
    pairs = zip(flat, inputs, strict=True)
    tensors = [ops.convert_to_tensor(value, dtype=tensor.dtype) for value, tensor in pairs]
    return tree.pack_sequence_as(_keras.input_structure(model), tensors)


def _says_something(case: Case) -> bool:
    return all(np.isfinite(y).any() and y.any() for y in map(_numbers, case.outputs) if y.size)


def _finite(model: Any, case: Case) -> Case:
    for y in map(_numbers, case.outputs):
        if y.size and not np.isfinite(y).any():
            raise ValueError(
                "A model that is exported must give numbers, so that its outputs can be compared. "
                f"Received: {model.name!r}, with an output of which nothing is finite. "
                "Pass samples= for which it is, or look for NaN in its weights."
            )
    return case


def check_weights(model: Any, read: Any) -> None:
    """Raise a ValueError unless a model that was read has the weights of the one written."""
    if len(model.weights) != len(read.weights):
        raise ValueError(
            "A file must give back the weights it was written from. Received: "
            f"{len(read.weights)} weights for {len(model.weights)} of {model.name!r}. {_LAYERS}"
        )
    for old, new in zip(model.weights, read.weights, strict=True):
        if not np.array_equal(_array(old), _array(new), equal_nan=True):
            raise ValueError(
                f"A file must give back the weights it was written from. Received: {old.path} "
                f"differs after reading. {_LAYERS}"
            )


def check_configs(model: Any, read: Any) -> None:
    """Raise a ValueError unless a model that was read has the layers of the one written."""
    for old, new in zip(_layers(model), _layers(read), strict=True):
        if _config(old) != _config(new):
            raise ValueError(
                f"A file must give back the layers it was written from. Received: layer "
                f"{old.name!r}, whose config differs after reading. {_LAYERS}"
            )


def _layers(model: Any) -> list:
    return [each for each in _keras.operations_in(model) if _keras.is_layer(each)]


def _config(layer: Any) -> str:
    return json.dumps(keras.saving.serialize_keras_object(layer)["config"], sort_keys=True)


def check_outputs(model: Any, read: Any, case: Case) -> None:
    """Raise a ValueError unless a model that was read gives the outputs of the one written."""
    try:
        found = outputs_of(read, case.inputs)
    except Exception as error:
        raise ValueError(
            f"A file must give back a model that runs. Received: {model.name!r}, which fails after "
            f"reading: {in_one_line(error)}. {_LAYERS}"
        ) from error
    close = _keras.tolerance(model)
    same = max(map(apart, case.outputs, found), default=0.0) <= close
    if same and _says_something(case):
        return
    where = _first_apart(model, read, case.inputs, close)
    if where or not same:
        raise ValueError(
            f"A file must give back the outputs of the model. Received: outputs of {model.name!r} "
            f"that differ by {_most(case.outputs, found):.3g} after reading{where}. {_LAYERS}"
        )


def _first_apart(model: Any, read: Any, inputs: Any, close: float) -> str:
    """Return which call is the first whose outputs are apart, in words; empty if none is."""
    for (path, old), (_, new) in zip(_steps(model, inputs), _steps(read, inputs), strict=False):
        if max(map(apart, old, new), default=0.0) > close:
            return f", first behind {path!r}, by {_most(old, new):.3g}"
    return ""


def _steps(model: Any, inputs: Any) -> list[tuple[str, list[np.ndarray]]]:
    found: list[tuple[str, list[np.ndarray]]] = []

    def call(visited: _keras.Call) -> Any:
        outputs = _keras.run(visited)
        found.append((visited.path, [_array(t) for t in tree.flatten(outputs)]))
        return outputs

    with _keras.unmoved(model):
        _keras.walk(model, tree.flatten(inputs), call)
    return found


def outputs_of(model: Any, inputs: Any) -> list[np.ndarray]:
    """Return the outputs of a model, which does not move its states, as flat arrays."""
    with _keras.unmoved(model):
        return [_array(t) for t in tree.flatten(model(inputs, training=False))]


def _most(old: list[np.ndarray], new: list[np.ndarray]) -> float:
    """Return how far finite entries are apart at most."""
    pairs = [(a, b) for a, b in zip(old, new, strict=False) if a.shape == b.shape]
    apart = [np.abs(_numbers(a) - _numbers(b)) for a, b in pairs]
    return max((float(each[np.isfinite(each)].max(initial=0)) for each in apart), default=0.0)


def apart(old: np.ndarray, new: np.ndarray) -> float:
    """Return how far two arrays are apart, relative to the largest finite entry of the first."""
    a, b = _numbers(old), _numbers(new)
    if a.shape != b.shape or old.dtype.kind in "OSU":
        return 0.0 if np.array_equal(old, new) else np.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    away = np.abs(a - b)[~same].max()
    return float(away / scale) if scale and np.isfinite(away) else np.inf


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return an array of numbers; texts say something wherever there are any."""
    return np.ones(array.shape) if array.dtype.kind in "OSU" else array.astype(np.float64)


def _array(tensor: Any) -> np.ndarray:
    value = ops.convert_to_numpy(ops.convert_to_tensor(tensor))
    return value.astype(np.float64) if value.dtype.kind not in "iubOSU" else value


def in_one_line(error: Exception | None) -> str:
    """Return what an error says in one line, without colours and the configs that Keras adds."""
    text = re.sub(r"\x1b\[\d*m|\{\{.*?\}\}( ?\S*})?", "", str(error))
    text = re.split(r"Arguments received by|Example:|Full object config|config=\{", text)[0]
    return textwrap.shorten(text, 300, placeholder=" ...").rstrip(". ") or type(error).__name__

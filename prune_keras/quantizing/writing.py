"""Writing: a LiteRT file in eight bits, which is read back and compared before it is done."""

from __future__ import annotations

from itertools import tee
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras, atomic
from prune_keras.quantizing.grids import step_of
from prune_keras.quantizing.litert import Interpreted, check, converted
from prune_keras.quantizing.points import FIXED, INPUT
from prune_keras.quantizing.quantization import Quantization, check_covers, check_ranges
from prune_keras.samples.batches import Samples, batches, is_read_once
from prune_keras.samples.inputs import flat_inputs

MOST = 32  # samples that outputs are compared on
NEAR = 1.01  # steps of the grid of outputs
FAR = 0.25  # share of outputs that may be further apart, by roundings that add up on their way
ROUNDED = 2  # of what eight bits move outputs by, which those of a deep network may be apart
STEPS = 2  # of the grid of outputs that those of grids which LiteRT found may be apart
FINEST = 8e-9  # step of the finest grid that LiteRT makes, whatever outputs are
MISSED = 0.5  # of how outputs vary that may be missed beyond that; 1 for a file that gives a mean
_FIXED_STEPS = {step_of(within) for within in FIXED.values()}


def write(model: Any, path: Path, samples: Any, int8: Any) -> None:
    """Write a LiteRT file, once its interpreter gives what the model gives.

    Args:
        model: the model.
        path: ends in `.tflite`.
        samples: inputs to compare outputs on; None to draw some.
        int8: what `litert.converted` takes.

    Raises:
        ValueError: if the file gives something else.
    """
    check(model)
    if isinstance(int8, Quantization):
        check_ranges(model, int8)
    x, int8 = _inputs(model, samples, int8)
    if isinstance(int8, Quantization) and samples is not None:
        check_covers(model, int8, x)
    content = converted(model, int8)
    found = Interpreted(content)
    expected = _outputs(model, x)
    if isinstance(int8, Quantization):
        with int8.running(model):
            rounded = _outputs(model, x)
        _check_steps(model, expected, rounded, found, x)
    else:
        _check_near(model, expected, found, x)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content)


def _inputs(model: Any, samples: Any, int8: Any) -> tuple[np.ndarray, Any]:
    """Return what outputs are compared on, and `int8`, of which nothing is used up.

    The former are samples, or what lies within the grid of inputs.
    """
    if samples is None and isinstance(int8, Quantization):
        shape = (MOST, *model.input_shape[1:])
        x = np.random.default_rng(0).uniform(*int8.ranges[INPUT], shape)
    elif samples is None or samples is int8:
        x, int8 = _begun(model, int8)
    else:
        x, _ = _begun(model, samples)
    return x[:MOST].astype(_keras.graph_of(model).inputs[0].dtype), int8


def _begun(model: Any, data: Any) -> tuple[np.ndarray, Any]:
    """Return the inputs of the first batch, and data that still begin with it.

    Raises:
        ValueError: if they are none of the model's, or not finite.
    """
    ahead, data = tee(data) if is_read_once(data) else (data, data)
    inputs, _, _ = next(batches(Samples.of(ahead)))
    (x,) = flat_inputs(_keras.graph_of(model).inputs, inputs)
    return ops.convert_to_numpy(x), data


def _outputs(model: Any, x: np.ndarray) -> np.ndarray:
    given = tree.pack_sequence_as(_keras.input_structure(model), [x])
    with _keras.undisturbed(model), keras.StatelessScope():
        return ops.convert_to_numpy(tree.flatten(model(given, training=False))[0])


def _check_steps(
    model: Any, exact: np.ndarray, rounded: np.ndarray, found: Interpreted, x: np.ndarray
) -> None:
    """Raise a ValueError for outputs that are neither a step from what a model gives in eight bits,
    nor about as near as that is to what it gives in floating point: each layer of a deep network
    rounds once more, and the grid of a sigmoid is finer than that of what it is given."""
    if "float32" in found.kinds:
        raise ValueError(_differs(model, "tensors that LiteRT left in floating point"))
    apart = found(x) - rounded
    share = float(np.mean(np.abs(apart) / (found.output_step or 1.0) > NEAR))
    far, moved = _size(apart), _size(rounded - exact)
    if share > FAR and not far <= ROUNDED * moved:
        raise ValueError(
            _differs(
                model,
                f"{share:.0%} of outputs more than one step apart, {far:.3g} in the mean square, "
                f"where eight bits move them by {moved:.3g}",
            )
        )


def _check_near(model: Any, expected: np.ndarray, found: Interpreted, x: np.ndarray) -> None:
    given, expected = found(x), expected.astype("float64")
    if not np.isfinite(given).all():
        raise ValueError(_differs(model, "outputs that are not finite"))
    beyond = np.abs(given - expected) - _unseen(expected, found.output_step)
    missed, spread = _size(beyond.clip(0)), _size(expected - expected.mean())
    if not missed <= MISSED * spread:
        what = f"outputs that are {missed:.3g} off where they vary by {spread:.3g}"
        raise ValueError(_differs(model, what, _AS_USED))


def _unseen(expected: np.ndarray, step: float) -> float:
    """Return how far apart outputs may be for the grid alone that holds them.

    One that LiteRT fixes is too coarse for small probabilities. Any other is to hold outputs on 16
    levels or more, so that one found on samples that are far too large does not excuse itself.
    """
    if step in _FIXED_STEPS:
        return STEPS * step
    spread = expected.max(initial=0) - expected.min(initial=0)
    return max(min(STEPS * step, spread / 16), STEPS * FINEST)


def _size(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


_AS_USED = "Pass int8= samples as the model is used on, scaled as those that it was trained on."


def _differs(
    model: Any,
    what: str,
    instead: str = "Export to .keras, and report the layers of this model.",
) -> str:
    return (
        f"A LiteRT file must give the outputs of the model. Received: {what}, of {model.name!r}. "
        f"{instead}"
    )

"""Writing: a LiteRT file in eight bits, which is read back and compared before it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras, atomic
from prune_keras.quantizing.litert import Interpreted, converted
from prune_keras.quantizing.points import INPUT
from prune_keras.quantizing.quantization import Quantization
from prune_keras.samples.batches import Samples, batches

MOST = 32  # samples that outputs are compared on
NEAR = 1.01  # steps of the grid of outputs
FAR = 0.25  # share of outputs that may be further apart, by roundings that add up on their way


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
    content = converted(model, int8)
    x, found = _inputs(model, samples, int8), Interpreted(content)
    if isinstance(int8, Quantization):
        with int8.running(model):
            _check_steps(model, _outputs(model, x), found, x)
    elif not np.isfinite(found(x)).all():
        raise ValueError(_differs(model, "outputs that are not finite"))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content)


def _inputs(model: Any, samples: Any, int8: Any) -> np.ndarray:
    """Return what outputs are compared on: samples, or what lies within the grid of inputs."""
    if samples is None and isinstance(int8, Quantization):
        drawn = np.random.default_rng(0).uniform(
            *int8.ranges[INPUT], (MOST, *model.input_shape[1:])
        )
        return drawn.astype("float32")
    inputs, _, _ = next(batches(Samples.of(int8 if samples is None else samples)))
    return ops.convert_to_numpy(tree.flatten(inputs)[0])[:MOST]


def _outputs(model: Any, x: np.ndarray) -> np.ndarray:
    given = tree.pack_sequence_as(_keras.input_structure(model), [x])
    with _keras.undisturbed(model), keras.StatelessScope():
        return ops.convert_to_numpy(tree.flatten(model(given, training=False))[0])


def _check_steps(model: Any, expected: np.ndarray, found: Interpreted, x: np.ndarray) -> None:
    if "float32" in found.kinds:
        raise ValueError(_differs(model, "tensors that LiteRT left in floating point"))
    steps = np.abs(found(x) - expected) / (found.output_step or 1.0)
    share = float(np.mean(steps > NEAR))
    if share > FAR:
        raise ValueError(_differs(model, f"{share:.0%} of outputs more than one step apart"))


def _differs(model: Any, what: str) -> str:
    return (
        f"A LiteRT file must give the outputs of the model. Received: {what}, of {model.name!r}. "
        "Export to .keras, and report the layers of this model."
    )

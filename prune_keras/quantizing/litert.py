"""LiteRT: files of a model in eight bits, read back by its interpreter."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras
from prune_keras.deploying.runtimes import interpreted
from prune_keras.quantizing.grids import converters
from prune_keras.quantizing.points import check_floats, points
from prune_keras.quantizing.quantization import Quantization, on_grid
from prune_keras.samples.batches import Samples, batches
from prune_keras.samples.inputs import flat_inputs
from prune_keras.tracing import trace


def converted(model: Any, int8: Any) -> bytes:
    """Return a LiteRT file of a model, for one sample at a time.

    Args:
        model: a built model with one input and one output.
        int8: a `Quantization` for the very grids that it holds; else samples, on which LiteRT's
            converter finds grids of its own.

    Raises:
        ValueError: if the backend is not TensorFlow, the model has several inputs or outputs or
            open axes, computes in another type than float32, or LiteRT has no kernel in eight bits
            for a part of it.
    """
    check(model)
    if isinstance(int8, Quantization):
        with int8.running(model, _constant(int8, model), converters):
            return _convert(model, _traced(model))
    return _convert(model, _traced(model), int8)


def _constant(quantization: Quantization, model: Any) -> Callable[[Any, Any], Any]:
    """Return what gives a layer's kernel as it lies on its grid, as numbers that can be folded."""
    held: dict[int, np.ndarray] = {}

    def keep(layer: Any, kernel: Any) -> Any:
        value = on_grid(layer, kernel)
        held[id(layer)] = ops.convert_to_numpy(value)
        return value

    with quantization.running(model, keep):
        model(_zeros(model), training=False)
    return lambda layer, kernel: ops.convert_to_tensor(held[id(layer)])


def check_model(model: Any) -> None:
    """Raise a ValueError unless a model can be trained for eight bits, and be written in them.

    Args:
        model: a built model. Nothing is run, so that this can come before any training.

    Raises:
        ValueError: if the backend is not TensorFlow, the model has several inputs or outputs or
            open axes, is given whole numbers, computes in another type than float32, or has a
            layer of which it is not known what LiteRT makes.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, "gelu", name="a")])
    >>> try:
    ...     check_model(model)
    ... except ValueError as error:
    ...     print(str(error).split("Received: ")[1].split(".")[0])
    'a' of type Dense with activation=gelu
    """
    check(model)
    points(model)


def check(model: Any) -> None:
    """Raise a ValueError unless LiteRT's converter takes a model of this kind."""
    _keras.check_model(model)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "LiteRT files must be written with TensorFlow, whose converter does it. Received: "
            f"backend {keras.backend.backend()!r}. Write a .keras file, and convert that with "
            "KERAS_BACKEND=tensorflow."
        )
    if _keras.graph_of(model) is None:
        trace(model)  # which looks into a `call` of its own
    graph = _keras.graph_of(model)
    shapes = [tuple(tensor.shape[1:]) for tensor in graph.inputs]
    if len(shapes) != 1 or len(graph.outputs) != 1 or None in shapes[0]:
        raise ValueError(
            "A LiteRT file must be of a model with one input of a known shape and one output. "
            f"Received: {model.name!r} with inputs of shapes {shapes} and {len(graph.outputs)} "
            "outputs. Build it anew with keras.Input(shape) of whole numbers."
        )
    check_floats(model)


def _zeros(model: Any) -> Any:
    tensor = _keras.graph_of(model).inputs[0]
    return ops.zeros((1, *tensor.shape[1:]), tensor.dtype)


def _traced(model: Any) -> Any:
    """Return a function of TensorFlow of one sample, with variables as constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    zeros = _zeros(model)
    structure = _keras.input_structure(model)

    def serve(x: Any) -> Any:
        given = tree.pack_sequence_as(structure, [x])
        return tree.flatten(model(given, training=False))[0]

    spec = tf.TensorSpec(zeros.shape, zeros.dtype)
    traced = tf.function(serve, autograph=False, input_signature=[spec])
    return convert_variables_to_constants_v2(traced.get_concrete_function())


def _convert(model: Any, traced: Any, samples: Any = None) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    refused: list[ValueError] = []
    if samples is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _one_by_one(model, samples, refused)
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:  # of several kinds, from the converter's own passes
        if refused:
            raise refused[0] from None
        raise ValueError(
            f"LiteRT must have kernels for all of a model. Received: {model.name!r}, which its "
            f"converter refuses: {_first_line(error)}. Export to .keras."
        ) from error


def _one_by_one(model: Any, samples: Any, refused: list[ValueError]) -> Iterator[list[np.ndarray]]:
    """Yield samples as LiteRT is to be given them; it dies of those of another shape.

    Args:
        refused: gets the error of a batch that is none of the model's, or not finite.
    """
    try:
        for inputs, _, _ in batches(Samples.of(samples)):
            (x,) = flat_inputs(_keras.graph_of(model).inputs, inputs)
            for sample in ops.convert_to_numpy(x):
                yield [sample[None]]
    except ValueError as error:
        refused.append(error)
        raise


class Interpreted:
    """What a LiteRT file computes, in numbers before and after its grids.

    Args:
        content: the file.
        threads: how many of the interpreter's threads. Defaults to 1.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        with _quiet():
            self._run = interpreted(content, threads)
        self._run.allocate_tensors()
        self._given = self._run.get_input_details()[0]
        self._gives = self._run.get_output_details()[0]

    @property
    def output_step(self) -> float:
        """How far neighbours on the grid of outputs are apart; 0 in floating point."""
        return float(self._gives["quantization"][0])

    @property
    def kinds(self) -> set[str]:
        """The types of all tensors in the file."""
        return {np.dtype(each["dtype"]).name for each in self._run.get_tensor_details()}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return outputs `(samples, ...)` of inputs `(samples, ...)`."""
        return np.concatenate([self._one(sample[None]) for sample in np.asarray(x)])

    def _one(self, x: np.ndarray) -> np.ndarray:
        step, zero = self._given["quantization"]
        if step:
            limits = np.iinfo(self._given["dtype"])
            x = np.clip(np.round(x / np.float32(step)) + zero, limits.min, limits.max)
        self._run.set_tensor(self._given["index"], x.astype(self._given["dtype"]))
        self._run.invoke()
        found = self._run.get_tensor(self._gives["index"])
        step, zero = self._gives["quantization"]
        return (found.astype("float32") - zero) * np.float32(step) if step else found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what TensorFlow warns of itself: moved modules, and grids without statistics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""Quantization: the grids on which eight bits hold a model's activations, and a model on them."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from prune_keras import _keras, atomic
from prune_keras.quantizing.grids import Range, activations, range_of, weights
from prune_keras.quantizing.points import FIXED, INPUT, LINEAR, NORMALIZING, Point, points
from prune_keras.samples.batches import Samples
from prune_keras.samples.inputs import batches_for

Seen = Callable[[str, Any], Any]
"""From the key of a range and a tensor to what goes on in its place."""

BEYOND = 4  # widths of a range, by which training on its grid may well move what it clips


@dataclass(frozen=True)
class Quantization:
    """Between which values a model's activations lie, as eight bits are to hold them.

    Args:
        ranges: path of a call -> (lowest, highest) value; `""` is the model's input.
    """

    ranges: Mapping[str, Range]

    @contextlib.contextmanager
    def running(
        self,
        model: Any,
        shown: Callable[[Any, Any], Any] | None = None,
        rounded: Callable[[Any, Range], Any] = activations,
    ) -> Iterator[None]:
        """Let calls of a model within compute as its eight bits do, in floating point.

        Kernels lie on a grid of each output channel, activations on that of each tensor; gradients
        are those of what was not rounded.

        Args:
            model: the model.
            shown: from a layer and its kernel to what takes that place. Defaults to None: the
                kernel on its grid.
            rounded: from a tensor and a range to the tensor on that grid.

        Raises:
            ValueError: if the ranges are those of another model.
        """
        check_ranges(model, self)
        with _seeing(model, lambda key, x: rounded(x, self.ranges[key]), shown or on_grid, rounded):
            yield

    def save(self, file: str | Path) -> None:
        """Write the ranges as JSON."""
        atomic.write_json(file, {key: list(within) for key, within in self.ranges.items()})

    @classmethod
    def load(cls, file: str | Path) -> Quantization:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file holds something else.
        """
        try:
            stored = atomic.read_json(file)
            return cls({key: (float(low), float(high)) for key, (low, high) in stored.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                "A file of ranges must hold JSON with two numbers for each. Received: "
                f"{file} ({error}). Write one with quantization.save(file)."
            ) from error


def calibrate(model: Any, data: Any, batch_size: int | None = None) -> Quantization:
    """Return between which values the activations of a model lie, with its kernels in eight bits.

    Args:
        model: a built model of layers of which it is known what LiteRT makes of them; it is not
            changed.
        data: inputs, `(inputs, targets)` or a dataset of batches. Of arrays, 4,096 samples are
            looked at.
        batch_size: samples a batch, for arrays. Defaults to None: 32.

    Raises:
        ValueError: if the model has other layers, is given whole numbers, or computes in another
            type than float32; or data are of another shape than its input, or not finite.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(name="a")])
    >>> prune_keras.calibrate(model, np.array([[-1.0, 0.5], [2.0, 0.0]])).ranges
    {'': (-1.0, 2.0), 'a': (0.0, 2.0)}
    """
    found: dict[str, list[float]] = {}

    def see(key: str, x: Any) -> Any:
        low, high = (float(ops.convert_to_numpy(f(x))) for f in (ops.min, ops.max))
        before = found.setdefault(key, [low, high])
        found[key] = [min(before[0], low), max(before[1], high)]
        return x

    _keras.check_model(model)
    with _keras.undisturbed(model), _seeing(model, see, on_grid):
        tensors = _keras.graph_of(model).inputs
        for inputs, _, _ in batches_for(tensors, Samples.of(data, batch_size)):
            model(inputs, training=False)
    ranges = {key: range_of(*ends) for key, ends in found.items()}
    fixed = {point.key: FIXED[point.fixed] for point in points(model) if point.fixed}
    return Quantization(ranges | fixed)


def check_ranges(model: Any, quantization: Quantization) -> None:
    """Raise a ValueError unless there is a range for each tensor of a model that is rounded."""
    needed = {INPUT}.union(*map(_keys, points(model)))
    missing = sorted(needed - {*quantization.ranges})
    if missing:
        raise ValueError(
            "A Quantization must be of the model that it is used for. Received: ranges of "
            f"{[*quantization.ranges]}, while {model.name!r} needs {missing}, too. Take "
            "prune_keras.calibrate(model, data)."
        )


def check_covers(model: Any, quantization: Quantization, x: Any) -> None:
    """Raise a ValueError if a model's activations for samples lie far outside of their ranges."""
    for key, (low, high) in calibrate(model, x).ranges.items():
        lowest, highest = quantization.ranges[key]
        if max(lowest - low, high - highest) > BEYOND * (highest - lowest):
            what = f"the output of {key!r}" if key else "the input"
            raise ValueError(
                "A Quantization must hold what samples make of a model. Received: values of "
                f"{low:.3g} to {high:.3g} for {what} of {model.name!r}, with a range of "
                f"{lowest:.3g} to {highest:.3g}. Take prune_keras.calibrate(model, data) of the "
                "model as it is now, with data scaled as those that it was trained on."
            )


def _keys(point: Point) -> set[str]:
    """Return the keys of the ranges that a call needs and no call before it."""
    layer = point.operation
    if not point.rounds or point.reads is not None:
        return set()
    is_fixed = type(layer) in LINEAR and point.fixed is not None
    response = {f"{point.key}:response"} if is_fixed else set()
    is_two = type(layer) in _IN_TWO and _shifts(layer)
    return {point.key} | response | ({f"{point.key}:between"} if is_two else set())


@contextlib.contextmanager
def _seeing(
    model: Any,
    see: Seen,
    shown: Callable[[Any, Any], Any],
    rounded: Callable[[Any, Range], Any] = activations,
) -> Iterator[None]:
    """Let calls of a model within go on with what `see` makes of each rounded tensor."""
    made: dict[int, list[Point]] = {}
    for point in points(model):
        made.setdefault(id(point.operation), []).append(point)
    called: Counter = Counter()

    def answer(operation: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        point = made[id(operation)][called[id(operation)]]
        called[id(operation)] += 1
        with _kernel_shown(operation, shown):
            return _run(point, call, args, kwargs, see, rounded)

    def whole(_: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        called.clear()
        return call(_given(model, args[0], see), *args[1:], **kwargs)

    operations = {id(place.operation): place.operation for place in _keras.places(model)}
    with _keras.answering([*operations.values()], answer), _keras.answering([model], whole):
        yield


def _run(
    point: Point, call: Callable, args: tuple, kwargs: dict, see: Seen, rounded: Callable
) -> Any:
    layer = point.operation
    in_two = _IN_TWO.get(type(layer))
    if in_two is not None:
        between = functools.partial(see, f"{point.key}:between")
        constant = functools.partial(_constant, rounded)
        return see(point.key, in_two(layer, args[0], between, constant))
    if type(layer) in LINEAR and point.fixed:
        with _keras.replaced(layer, "activation", keras.activations.linear):
            response = call(*args, **kwargs)
        return see(point.key, point.fixed(see(f"{point.key}:response", response)))
    with _axis_shown(layer, args):
        value = call(*args, **kwargs)
    if not point.rounds:
        return value
    return see(point.key if point.reads is None else point.reads, value)


def _axis_shown(layer: Any, args: tuple) -> contextlib.AbstractContextManager:
    """Let normalization tell its last axis as -1: of another number, LiteRT may fold nothing."""
    if type(layer) not in NORMALIZING or layer.axis != len(args[0].shape) - 1:
        return contextlib.nullcontext()
    return _keras.replaced(layer, "axis", -1)


def _rescaled(layer: Any, x: Any, see: Callable[[Any], Any], constant: Callable) -> Any:
    """Scale and shift as two kernels do, each of which rounds."""
    x = ops.cast(x, layer.compute_dtype)
    x = x * constant(layer.scale, x)
    return see(x) + constant(layer.offset, x) if _shifts(layer) else x


def _shifts(layer: Any) -> bool:
    return bool(np.any(ops.convert_to_numpy(getattr(layer, "offset", True))))


def _normalized(layer: Any, x: Any, see: Callable[[Any], Any], constant: Callable) -> Any:
    """Normalize by two kernels: LiteRT has none that divides in eight bits."""
    spread = np.maximum(np.sqrt(ops.convert_to_numpy(layer.variance)), keras.config.epsilon())
    x = ops.cast(x, layer.compute_dtype)
    x = see(x - constant(ops.convert_to_numpy(layer.mean), x))
    return x * constant(1 / spread, x)


_IN_TWO = {layers.Rescaling: _rescaled, layers.Normalization: _normalized}
"""Layers that are two kernels, of constants that are rounded themselves."""


def _constant(rounded: Callable[[Any, Range], Any], values: Any, x: Any) -> Any:
    values = ops.convert_to_numpy(values).astype("float32")
    within = range_of(values.min(), values.max())
    return ops.cast(rounded(ops.convert_to_tensor(values), within), x.dtype)


@contextlib.contextmanager
def _kernel_shown(layer: Any, shown: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Let a layer read something else where it holds its kernel."""
    if type(layer) not in LINEAR:
        yield
        return
    kernel = layer.kernel
    names = [name for name, value in vars(layer).items() if value is kernel]
    value = shown(layer, ops.convert_to_tensor(kernel))
    with contextlib.ExitStack() as held:
        for name in names:
            held.enter_context(_keras.replaced(layer, name, value))
        yield


def on_grid(layer: Any, kernel: Any) -> Any:
    """Return a layer's kernel as eight bits hold it."""
    return weights(kernel, LINEAR[type(layer)])


def _given(model: Any, inputs: Any, see: Seen) -> Any:
    """Return what a model is given, of the types that it takes, as its first kernels read it."""
    tensors = _keras.graph_of(model).inputs
    pairs = zip(tree.flatten(inputs), tensors, strict=True)
    flat = [see(INPUT, ops.cast(x, tensor.dtype)) for x, tensor in pairs]
    return tree.pack_sequence_as(inputs, flat)

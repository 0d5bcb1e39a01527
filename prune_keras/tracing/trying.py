"""Trials: whether code that is not known treats each channel alone, found out on numbers.

A channel is alone if the same channel of what comes out is equal to the last bit whatever the
others hold, zeros and large numbers too, and the same without the others: at several sizes of
numbers, and for what remains of one channel, of half of them, and of all but one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, Place, varying_axes, vector
from prune_keras.tracing.reaching import reached_from

SCALES = (0.1, 1.0, 30.0)
NEW_SCALES = (0.0, 100.0)
BATCH, UNKNOWN, LARGEST, SHORTENED = 2, 8, 2**17, 12
TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2, "float64": 1e-12}

Run = Callable[[list[np.ndarray]], np.ndarray]

_BY_CHANCE = "draws random numbers"


def function_mixes(function: Callable, place: Place) -> str | None:
    """Return how a function of one tensor mixes channels, None if it does not."""
    sizes = [place.size if axis == place.axis else 2 for axis in range(place.rank)]

    def run(given: list[np.ndarray]) -> np.ndarray:
        with keras.StatelessScope(collect_losses=True):
            return _numbers(function(ops.convert_to_tensor(given[0], dtype=place.dtype)))

    tolerance = TOLERANCES.get(place.dtype, 1e-5)
    with _as_before():
        return _why_not(run, run, [(BATCH, *sizes)], place.axis + 1, tolerance)


def pass_alone(visit: Any, trace: Any) -> np.ndarray | None:
    """Return the ids of the output of an operation without a rule that treats channels alone.

    Args:
        visit: the call.
        trace: the `Tracer`.

    Returns:
        None where that is not so, or cannot be found out without guessing.
    """
    given = list(visit.args[0]) if visit.args and _is_list(visit.args[0]) else list(visit.args[:1])
    axis = _axis_of_channels(visit, given)
    if axis is None or _makes_masks(visit.operation) or _is_stateful(visit.operation):
        return None
    if _layer_mixes(visit, given, axis) is not None:
        return None
    size = visit.shape[axis]
    whole = [trace.along(g, axis, visit.path) for g in given if g.shape[axis] == size]
    for other in whole[1:]:
        trace.unite(whole[0], other)
    kind = type(visit.operation).__name__
    text = f"{visit.path} ({kind}) has no rule; tried on numbers, it treats each channel alone"
    trace.note(whole[0], text)
    return vector(whole[0], axis, len(visit.shape))


def _axis_of_channels(visit: Any, given: Sequence[Labels]) -> int | None:
    """Return the only axis along which channels go in, if as many lie along it in what comes out.

    Other tensors that go in are of the same rank, and as long along it or of one channel.
    """
    axes = {axis for labels in visit.inputs for axis in varying_axes(labels.ids)}
    if len(axes) != 1 or len(visit.args) != 1 or len(visit.inputs) != len(given):
        return None
    (axis,) = axes
    rank = len(visit.shape)
    if len(visit.shapes) > 1 or any(labels.rank != rank for labels in given):
        return None
    sizes = {labels.shape[axis] for labels in given} - {1}
    return axis if sizes == {visit.shape[axis]} - {None} else None


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _makes_masks(operation: Any) -> bool:
    """Tell whether an operation has a way of its own to make masks, which no trial shows."""
    method = getattr(operation, "compute_mask", None)
    return method is not None and not _keras.module_of(method).startswith("keras.src.")


def _is_stateful(operation: Any) -> bool:
    """Tell whether an operation may use variables, seeds of random numbers apart."""
    reached = reached_from(operation).values()
    seeds = [each.state for each in reached if isinstance(each, keras.random.SeedGenerator)]
    variables = (each for each in reached if isinstance(each, keras.Variable))
    return any(all(each is not seed for seed in seeds) for each in variables)


def _layer_mixes(visit: Any, given: Sequence[Labels], axis: int) -> str | None:
    """Return how an operation mixes channels: as it is, built anew for fewer, or in training."""
    operation, several = visit.operation, _is_list(visit.args[0])
    shapes = [_tried_shape(labels.shape, axis) for labels in given]
    dtype = getattr(operation, "compute_dtype", None) or keras.config.floatx()
    arguments = {name: value for name, value in visit.kwargs.items() if name != "training"}
    trained = getattr(operation, "_call_has_training_arg", False)
    as_called = {"training": visit.kwargs.get("training") or False} if trained else {}

    def running(call: Callable, mode: dict[str, bool] = as_called) -> Run:
        def run(arrays: list[np.ndarray]) -> np.ndarray:
            tensors = [ops.convert_to_tensor(each, dtype=dtype) for each in arrays]
            with keras.StatelessScope(collect_losses=True):
                return _numbers(call(tensors if several else tensors[0], **arguments, **mode))

        return run

    def anew(tensors: Any, **others: Any) -> Any:
        return type(operation).from_config(operation.get_config())(tensors, **others)

    with _as_before():
        why = _why_not(
            running(operation.call),
            running(anew),
            shapes,
            axis + 1,
            TOLERANCES.get(dtype, 1e-5),
        )
        if why is not None or not trained:
            return why
        in_training = running(operation.call, {"training": True})
        return _training_fails(operation, shapes, axis + 1, several) or _mixes_in_training(
            in_training, shapes, axis + 1
        )


def _tried_shape(shape: tuple, axis: int) -> tuple:
    """Return a shape to try: shorter along axes without channels where the known one is large."""
    sizes = [UNKNOWN if size is None else size for size in shape]
    if math.prod(sizes) > LARGEST:
        sizes = [s if i == axis else min(s, SHORTENED) for i, s in enumerate(sizes)]
    return (BATCH, *sizes)


def _training_fails(operation: Any, shapes: list, axis: int, several: bool) -> str | None:
    """Return why an operation cannot be trained on one channel, None if it can."""
    thin = [(None, *(1 if i == axis else s for i, s in enumerate(sh) if i)) for sh in shapes]
    specs = [keras.KerasTensor(shape) for shape in thin]

    def call(tensors: Any) -> Any:
        return operation.call(tensors, training=True)

    try:
        made = _keras.shapes_made(call, specs if several else specs[0])
    except Exception as error:
        return f"cannot be trained on fewer ({type(error).__name__})"
    return None if made.shape[axis] == 1 else "counts them in training"


def _mixes_in_training(run: Run, shapes: list[tuple], axis: int) -> str | None:
    """Return how channels are mixed in training, None if each is alone, or chance is at work."""
    rng, size = np.random.default_rng(0), max(shape[axis] for shape in shapes)
    try:
        why = _mixes(run, rng, [rng.normal(size=shape) for shape in shapes], size, axis)
    except Exception as error:
        return f"fails on numbers in training ({type(error).__name__})"
    return None if why in (None, _BY_CHANCE) else f"{why} in training"


def _why_not(run: Run, anew: Run, shapes: list[tuple], axis: int, tolerance: float) -> str | None:
    """Return how channels along an axis are mixed, None if each is alone; 1 wide is no channel."""
    size = max(shape[axis] for shape in shapes)
    try:
        for seed, scale in enumerate(SCALES):
            rng = np.random.default_rng(seed)
            given = [rng.normal(scale=scale, size=shape) for shape in shapes]
            why = _mixes(run, rng, given, size, axis) or _counts(
                (run, anew), given, size, axis, tolerance
            )
            if why is not None:
                return why
    except Exception as error:
        return f"fails on numbers, or on fewer of them ({type(error).__name__})"
    return None


def _mixes(run: Run, rng: Any, given: list[np.ndarray], size: int, axis: int) -> str | None:
    """Return whether a change of some channels shows in others, or chance in any."""
    made = run(given)
    if made.ndim <= axis or made.shape[axis] != size:
        return "changes their number"
    if not np.array_equal(run(given), made, equal_nan=True):
        return _BY_CHANCE
    for count, scale in itertools.product((1, size // 2), NEW_SCALES):
        changed = rng.permutation(size)[:count]
        others = np.delete(np.arange(size), changed)
        new = scale * rng.normal(size=size)
        found = run([_with_new(each, changed, new, axis) for each in given])
        same = np.array_equal(found.take(others, axis), made.take(others, axis), equal_nan=True)
        if not same:
            return "lets one change others"
    return None


def _with_new(value: np.ndarray, places: np.ndarray, new: np.ndarray, axis: int) -> np.ndarray:
    """Return a tensor with another number in the channels at some places."""
    if value.shape[axis] != len(new):
        return value
    value = np.moveaxis(value.copy(), axis, -1)
    value[..., places] = new[places]
    return np.moveaxis(value, -1, axis)


def _counts(
    runs: Sequence[Run], given: list[np.ndarray], size: int, axis: int, tolerance: float
) -> str | None:
    """Return whether what is left of some channels is other than it was among all of them."""
    made = runs[0](given)
    halves = np.arange(1, size, 2)
    for left in ([size - 1], halves, np.delete(np.arange(size), size // 2)):
        if not len(left):
            continue
        thin = [each.take(left, axis) if each.shape[axis] == size else each for each in given]
        wanted = made.take(left, axis)
        for found in (run(thin) for run in runs):
            if found.shape != wanted.shape or not np.allclose(
                found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                return "depends on how many there are, or on their places"
    return None


def _numbers(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor)).astype(np.float64)


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Leave the states of random numbers as they were, and hush warnings of odd numbers."""
    states = random.getstate(), np.random.get_state()
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])

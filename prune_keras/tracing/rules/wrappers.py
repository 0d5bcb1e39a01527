"""Rules of layers around another one, whose own rule runs inside of theirs."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers

from prune_keras.tracing.labels import Labels, compress, kept_sizes, product, varies
from prune_keras.tracing.rule import Axes, Found, Scale, Trace
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


def inside(visit: Visit, layer: Any, shapes: list[tuple], given: Labels, **arguments: Any) -> Visit:
    """Return the visit of a layer that another one calls.

    Args:
        visit: the call of the outer layer.
        layer: the inner layer.
        shapes: shapes of what the inner layer returns, without the batch.
        given: what it is called on.
        **arguments: the call's other arguments.
    """
    return dataclasses.replace(
        visit,
        path=f"{visit.path}/{layer.name}",
        operation=layer,
        args=(given,),
        kwargs=arguments,
        shape=shapes[0],
        shapes=shapes,
    )


def remember(trace: Trace, layer: Any, labels: Labels) -> None:
    """Record what a layer that stands in no graph keeps of the shape it was built for."""
    built, spec = layer._build_shapes_dict, layer.input_spec
    if built is not None and len(built) == 1:
        ((name, shape),) = built.items()
        trace.setting(
            layer, "_build_shapes_dict", labels.ids, lambda kept: {name: _thinner(kept, shape)}
        )
    if isinstance(spec, keras.layers.InputSpec) and (spec.axes or spec.shape):
        trace.setting(layer, "input_spec", labels.ids, lambda kept: _thinner_spec(kept, spec))


def _thinner_spec(kept: np.ndarray, spec: Any) -> Any:
    changed = copy.copy(spec)
    if spec.shape:
        changed.shape = _thinner(kept, spec.shape)
    sizes = (None, *kept_sizes(kept, (None,) * kept.ndim))
    changed.axes = {axis: sizes[axis] or size for axis, size in spec.axes.items()}
    return changed


def _thinner(kept: np.ndarray, shape: tuple) -> tuple:
    return (shape[0], *kept_sizes(kept, shape[1:]))


class Repeated:
    """A `Tracer` for a layer that is called several times for one sample."""

    def __init__(self, trace: Any, count: int | None):
        self._trace, self._count = trace, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trace, name)

    def apply(self, visit: Visit, tracer: Any = None) -> Any:
        return self._trace.apply(visit, tracer or self)

    def weight(
        self,
        visit: Visit,
        variable: Any,
        axes: Axes,
        reads: tuple[int, ...] = (),
        times: int | None = 0,
        scale: Scale | None = None,
    ) -> None:
        if times is not None:
            times = 0 if times == 0 else product((times, self._count))
        self._trace.weight(visit, variable, axes, reads, times, scale)

    def multiplied(self, axes: list[np.ndarray], times: int | None) -> None:
        self._trace.multiplied(axes, product((times, self._count)))


class Uncounted(Repeated):
    """A `Tracer` for a call in training only, which costs nothing, and where nothing is scored."""

    def __init__(self, trace: Any):
        super().__init__(trace, 0)

    def weight(
        self,
        visit: Visit,
        variable: Any,
        axes: Axes,
        reads: tuple[int, ...] = (),
        times: int | None = 0,
        scale: Scale | None = None,
    ) -> None:
        self._trace.weight(visit, variable, axes, reads, 0, scale)

    def multiplied(self, axes: list[np.ndarray], times: int | None) -> None:
        pass

    def pointwise(self, visit: Visit) -> np.ndarray:
        return visit.input.ids

    def units(
        self,
        visit: Visit,
        kernel: Any,
        axis: int,
        tap_axis: int | None = -1,
        *others: Any,
        **arguments: Any,
    ) -> np.ndarray:
        return self._trace.units(visit, kernel, axis, None, *others, **arguments)


class _Slices(Repeated):
    """A `Tracer` for a layer that is called on each slice along the first axis."""

    def units(
        self,
        visit: Visit,
        kernel: Any,
        axis: int,
        tap_axis: int | None = -1,
        *others: Any,
        **arguments: Any,
    ) -> np.ndarray:
        tap_axis = tap_axis if tap_axis is None or tap_axis < 0 else tap_axis + 1
        return self._trace.units(visit, kernel, axis, tap_axis, *others, **arguments)


@register_rule(layers.TimeDistributed)
def time_distributed(visit: Visit, trace: Trace) -> Found:
    x, layer = visit.input, visit.operation.layer
    if visit.argument(0, "inputs") is not x or varies(x.ids, 0):
        return trace.refuse(visit, f"{visit.path} takes slices along them")
    for mask in visit.inputs[1:]:
        trace.fix(mask.ids, f"{visit.path} takes them as a mask")
    each = Labels(compress(x.ids[0]), x.shape[1:])
    remember(trace, layer, each)
    found = _Slices(trace, x.shape[0]).apply(inside(visit, layer, [visit.shape[1:]], each))
    return found[0][None] if isinstance(found, list) else found[None]


@register_rule(layers.SpectralNormalization)
def spectral_normalization(visit: Visit, trace: Trace) -> Found:
    """The layer inside, and a vector along the last axis of its kernel."""
    wrapper, x = visit.operation, visit.input
    remember(trace, wrapper.layer, x)
    found = trace.apply(inside(visit, wrapper.layer, visit.shapes, x))
    axes = trace.axes_of(wrapper.kernel)
    if axes is None:
        return trace.refuse(visit, f"{visit.path} normalizes a kernel without a rule")
    last = len(wrapper.kernel_shape) - 1
    trace.weight(visit, wrapper.vector_u, {1: axes[last]} if last in axes else {})
    _set_kernel_shape(trace, wrapper, axes)
    note = f"{visit.path} divides, in training, by a norm of the kernel that is left"
    trace.note(np.concatenate([*axes.values()]), note)
    return found


def _set_kernel_shape(trace: Trace, wrapper: Any, axes: Axes) -> None:
    shape, ends = wrapper.kernel_shape, np.cumsum([len(ids) for ids in axes.values()])

    def new_shape(kept: np.ndarray) -> tuple:
        parts = np.split(kept, ends[:-1])
        sizes = {axis: int(part.sum()) for axis, part in zip(axes, parts, strict=True)}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))

    trace.setting(wrapper, "kernel_shape", np.concatenate([*axes.values()]), new_shape)


@register_rule(*named(layers, "Pipeline"))
def pipeline(visit: Visit, trace: Trace) -> Found:
    """One layer after another, as long as none of them has weights: nothing shows their units."""
    if visit.operation.weights:
        return trace.refuse(visit, f"{visit.path} holds layers with weights")
    labels = visit.input
    for layer in visit.operation.layers:
        shape = tuple(layer.compute_output_shape((None, *labels.shape))[1:])
        found = trace.apply(inside(visit, layer, [shape], labels))
        ids = found[0] if isinstance(found, list) else found
        labels = Labels(compress(ids), shape)
    return labels.ids

"""Rules of attention: whole heads, the width of values, and what projections read and make.

A head has a slice of every projection; heads and the width of values are scored by the kernel that
makes values, the width of keys by the one that makes keys. Scores are divided by the root of that
width: as it shrinks, queries are made smaller by as much, so that the others' products stay.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, count, product, vector
from prune_keras.tracing.rule import Axes, Found, Scale, Trace
from prune_keras.tracing.rules.constants import Constant, labelled
from prune_keras.tracing.rules.overriding import is_plain
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.rules.wrappers import inside, remember
from prune_keras.tracing.visit import Visit


@register_rule(layers.MultiHeadAttention)
def multi_head_attention(visit: Visit, trace: Trace) -> Found:
    layer = visit.operation
    if _strange(visit, trace):
        return trace.refuse(visit, f"{visit.path} computes or returns scores in a way of its own")
    query, value, key = _tensors(visit, trace)
    kernel = _keras.kernel_of(layer._value_dense)
    heads = trace.units(visit, kernel, axis=1, tap_axis=None, name="heads")
    _keep_masked_heads(visit, trace, query, heads)
    values = trace.units(visit, kernel, axis=2, tap_axis=None, name="value")
    keys = trace.units(visit, _keras.kernel_of(layer._key_dense), axis=2, tap_axis=None, name="key")
    _project(visit, trace, layer._query_dense, query, heads, keys, scale=(keys, _lost_scale))
    _project(visit, trace, layer._key_dense, key, heads, keys)
    _project(visit, trace, layer._value_dense, value, heads, values)
    if getattr(layer, "_use_gate", False):
        _project(visit, trace, layer._gate_dense, query, heads, values)
    attended = (key.shape[axis % (key.rank + 1) - 1] for axis in layer._attention_axes)
    pairs = product([*query.shape[:-1], *attended])
    trace.multiplied([heads, keys], pairs)
    trace.multiplied([heads, values], pairs)
    trace.setting(layer, "_num_heads", heads, count)
    trace.setting(layer, "_key_dim", keys, count)
    trace.setting(layer, "_inverse_sqrt_key_dim", keys, lambda kept: _inverse_root(count(kept)))
    trace.setting(layer, "_value_dim", values, count)
    units = _output(visit, trace, query, heads, values)
    _set_output_shape(trace, layer, units, trace.along(query, -1, visit.path))
    return _outputs(visit, units, heads)


if hasattr(layers, "GroupQueryAttention"):

    @register_rule(layers.GroupQueryAttention)
    def group_query_attention(visit: Visit, trace: Trace) -> Found:
        """Heads of queries go with the head of keys and values that they share."""
        layer = visit.operation
        if _strange(visit, trace):
            reason = f"{visit.path} computes or returns scores in a way of its own"
            return trace.refuse(visit, reason)
        query, value, key = _tensors(visit, trace)
        kernel = _keras.kernel_of(layer._value_dense)
        shared = trace.units(visit, kernel, axis=1, tap_axis=None, name="heads")
        _keep_masked_heads(visit, trace, query, shared)
        heads = np.repeat(shared, layer.num_repeats)
        _project(visit, trace, layer._query_dense, query, heads)
        _project(visit, trace, layer._key_dense, key, shared)
        _project(visit, trace, layer._value_dense, value, shared)
        if getattr(layer, "use_gate", False):
            _project(visit, trace, layer._gate_dense, query, heads)
        pairs = product([*query.shape[:-1], key.shape[-2], 2 * layer.head_dim])
        trace.multiplied([heads], pairs)
        trace.setting(layer, "num_query_heads", heads, count)
        trace.setting(layer, "num_key_value_heads", shared, count)
        units = _output(visit, trace, query, heads)
        for labels in (query, value):  # Keras takes all three to be equally wide
            trace.unite(units, trace.along(labels, -1, visit.path))
        trace.setting(layer, "feature_dim", units, count)
        return _outputs(visit, units, heads)


def _inverse_root(width: int) -> float:
    return 1 / math.sqrt(width)


def _lost_scale(kept: np.ndarray) -> float:
    """Return by what scores would grow; TensorFlow casts Keras' scale by way of float32."""
    old, new = (np.float32(_inverse_root(width)) for width in (kept.size, count(kept)))
    return float(old) / float(new)


def _given(visit: Visit) -> list:
    """Return queries, values, and keys, which are values where there are none."""
    query, value = visit.argument(0, "query"), visit.argument(1, "value")
    key = visit.argument(2, "key")
    return [query, value, value if key is None else key]


def _tensors(visit: Visit, trace: Trace) -> list[Labels]:
    return [labelled(visit, trace, each) for each in _given(visit)]


def _strange(visit: Visit, trace: Trace) -> bool:
    """Fix masks that are passed in; tell whether scores are other than the rules take them."""
    known = [id(each) for each in _given(visit)]
    for labels in visit.inputs:
        if id(labels) not in known:
            trace.fix(labels.ids, f"{visit.path} takes them as a mask")
    inner = _keras.all_layers(visit.operation)[1:]
    return not all(map(is_plain, inner)) or any(len(s) != 3 for s in visit.shapes[1:])


def _keep_masked_heads(visit: Visit, trace: Trace, query: Labels, heads: np.ndarray) -> None:
    """Keep heads that a mask tells apart, which has as many axes as the scores then."""
    mask = visit.argument(6, "attention_mask")
    if mask is None:
        return
    shape = (None, *mask.shape) if isinstance(mask, Labels) else Constant((), mask).shape
    attended = len(getattr(visit.operation, "_attention_axes", "t"))
    if len(shape) > query.rank + attended and shape[-1 - 2 * attended] != 1:
        trace.fix(heads, f"{visit.path} has a mask for each of them")


def _project(
    visit: Visit,
    trace: Trace,
    dense: Any,
    x: Labels,
    heads: np.ndarray,
    width: np.ndarray | None = None,
    scale: Scale | None = None,
) -> None:
    """Record a projection of the channels of a tensor to heads, and what the layer remembers."""
    features = trace.along(x, -1, visit.path)
    made = {1: heads} if width is None else {1: heads, 2: width}
    call = inside(visit, dense, visit.shapes, x)
    axes = {0: features, **made}
    times = x.positions(-1)
    # What is zero in a query takes no part in its products with keys.
    keys = () if scale is None else (2,)
    trace.weight(call, _keras.kernel_of(dense), axes, reads=(0, *keys), times=times, scale=scale)
    axes, reads = {axis - 1: ids for axis, ids in made.items()}, tuple(a - 1 for a in keys)
    trace.weight(call, dense.bias, axes, reads=reads, scale=scale)
    remember(trace, dense, Labels(vector(features, -1, x.rank), x.shape))
    _set_sizes(trace, dense, "partial_output_shape", made, dense.partial_output_shape)
    _keep_from_mistakes(trace, dense, x.shape[0], heads, width)


def _keep_from_mistakes(
    trace: Trace, dense: Any, length: int | None, heads: np.ndarray, width: np.ndarray | None
) -> None:
    """Keep Keras, on TensorFlow, from adding a bias of `(heads, 1)` along a sequence as long."""
    wide = _keras.kernel_of(dense).shape[-1]
    if keras.backend.backend() != "tensorflow" or dense.bias is None:
        return
    if wide > 1 and width is not None:
        trace.at_least(width, 2)
    if wide == 1 and 1 < (length or 2) <= len(heads):
        trace.fix(heads, "Keras takes the bias of heads of width 1 for one along the sequence")


def _output(
    visit: Visit, trace: Trace, query: Labels, heads: np.ndarray, width: np.ndarray | None = None
) -> np.ndarray:
    """Record the projection from heads to the layer's units."""
    dense = visit.operation._output_dense
    units = trace.units(visit, _keras.kernel_of(dense), axis=-1, tap_axis=-1)
    read = {0: heads} if width is None else {0: heads, 1: width}
    call, times = inside(visit, dense, visit.shapes, query), query.positions(-1)
    trace.weight(call, _keras.kernel_of(dense), {**read, -1: units}, reads=tuple(read), times=times)
    trace.weight(call, dense.bias, {-1: units})
    last = {2: units}
    _set_sizes(trace, dense, "partial_output_shape", last, dense.partial_output_shape)
    if dense._build_shapes_dict is not None:
        shape = dense._build_shapes_dict["input_shape"]
        moved = {axis + 1: ids for axis, ids in read.items()}
        _set_sizes(trace, dense, "_build_shapes_dict", moved, shape, "input_shape")
    return units


def _set_sizes(
    trace: Trace, owner: Any, name: str, along: Axes, shape: tuple, key: str = ""
) -> None:
    """Record an attribute that is a shape of which the last axes, numbered 1 and 2, hold ids."""
    ends = np.cumsum([len(ids) for ids in along.values()])[:-1]

    def new_shape(kept: np.ndarray) -> Any:
        sizes = list(shape)
        for axis, part in zip(along, np.split(kept, ends), strict=True):
            sizes[axis - 3] = count(part)
        return {key: tuple(sizes)} if key else tuple(sizes)

    trace.setting(owner, name, np.concatenate([*along.values()]), new_shape)


def _set_output_shape(trace: Trace, layer: Any, units: np.ndarray, features: np.ndarray) -> None:
    """Say how wide the output is once it may differ from the queries, which is Keras' default."""
    given, made = layer._output_shape, layer._output_dense.partial_output_shape

    def new_shape(kept: np.ndarray) -> Any:
        if given is None and kept.all():
            return None
        return (*(given or made[-1:])[:-1], count(kept[: len(units)]))

    trace.setting(layer, "_output_shape", np.concatenate([units, features]), new_shape)


def _outputs(visit: Visit, units: np.ndarray, heads: np.ndarray) -> list[np.ndarray]:
    found = [vector(units, -1, len(visit.shape))]
    return found + [vector(heads, 0, len(shape)) for shape in visit.shapes[1:]]


@register_rule(layers.Attention, layers.AdditiveAttention)
def attention(visit: Visit, trace: Trace) -> Found:
    """Queries meet keys channel by channel; the channels of values are passed on."""
    layer, given = visit.operation, visit.argument(0, "inputs")
    query, value, key = (labelled(visit, trace, each) for each in (*given, given[1])[:3])
    for mask in visit.inputs:
        if not any(mask is each for each in given):
            trace.fix(mask.ids, f"{visit.path} takes them as a mask")
    channels, values = (trace.along(labels, -1, visit.path) for labels in (query, value))
    trace.unite(channels, trace.along(key, -1, visit.path))
    scaled = isinstance(layer, layers.AdditiveAttention) and layer.scale is not None
    for variable in layer.weights:
        trace.weight(visit, variable, {0: channels} if scaled else {}, reads=(0,) if scaled else ())
    if not scaled:
        trace.note(channels, f"{visit.path} compares along the channels that are left")
    pairs = product([*query.shape[:-1], key.shape[-2]])
    trace.multiplied([channels], pairs)
    trace.multiplied([values], pairs)
    scores = [trace.nothing(len(s), f"{visit.path} returns its scores") for s in visit.shapes[1:]]
    return [vector(values, -1, len(visit.shape)), *scores]

"""Masks of layers with several weights, for the reference in `silenced`.

Each function takes the reference, the layer's path, the layer, the masks that come in and the
shapes of what goes out; it says along which axes of which weights masks lie and which of them are
zeroed where they read, and returns the masks of what goes out.
"""

import inspect

import keras
import numpy as np
from keras import layers


def given_in_order(silenced, call) -> list:
    """Return the masks of what a layer is called on; all of what it takes for a mask is kept.

    Constants are kept, too, but for states, which go with the units that start from them.
    """
    found = []
    for name, value, stands_for in _arguments(call):
        constant = value is stands_for
        if name.endswith("mask"):
            if not constant:
                silenced.keep(value)
        elif not constant:
            found.append(value)
        else:
            shape = (1, *value.shape[1:])
            found.append(silenced.open(shape) if name == "initial_state" else np.ones(shape))
    return found


def _arguments(call):
    """Yield the name of an argument, an array in it, and what of the graph that stands for."""
    signature, given = inspect.signature(call.operation.call), call.node.arguments
    bound = signature.bind(*call.args, **call.kwargs).arguments
    graph = signature.bind(*given.args, **given.kwargs).arguments
    for name, value in bound.items():
        pairs = zip(keras.tree.flatten(value), keras.tree.flatten(graph[name]), strict=True)
        yield from ((name, new, old) for new, old in pairs if isinstance(new, np.ndarray))


def einsum_dense(silenced, path, layer, masks, shapes):
    (mask,) = masks
    read, kernel, made = _signs(layer.equation, mask.ndim)
    out = np.ones(shapes[0])
    reading = [axis for axis in range(1, mask.ndim) if not silenced.is_even(mask, axis)]
    for axis in reading:
        sign, along = read[axis], silenced.vector(mask, axis)
        carried = sign in made
        weighted = sign in kernel
        if not (carried or weighted):
            silenced.keep(along)
            continue
        if weighted:
            silenced.weight(layer, layer._kernel, kernel.index(sign), along, reads=not carried)
        if carried:
            out = out * _laid(along, made.index(sign), len(shapes[0]))
            _bias(silenced, layer, made, sign, along)
    units = [sign for sign in kernel if sign not in read]
    if units:
        sign, place = units[-1], made.index(units[-1])
        along = silenced.planned(path, shapes[0][place])
        silenced.weight(layer, layer._kernel, kernel.index(sign), along)
        _bias(silenced, layer, made, sign, along)
        out = out * _laid(along, place, len(shapes[0]))
    return [out]


def _bias(silenced, layer, made, sign, along):
    """A bias is aligned with the last axes of the output."""
    if layer.bias is not None and sign in layer.bias_axes:
        silenced.weight(layer, layer.bias, made.index(sign) - len(made) + layer.bias.ndim, along)


def _signs(equation, rank):
    """Return the letters of input, kernel and output, those behind dots as capitals."""
    terms, made = equation.split("->")
    read, kernel = terms.split(",")
    dots = "ABCDEFGH"[: rank - len(read.replace("...", ""))]
    return read.replace("...", dots), kernel, made.replace("...", dots)


def reversible_embedding(silenced, path, layer, masks, shapes):
    (mask,), reverse = masks, len(shapes[0]) == masks[0].ndim
    units = silenced.planned(path, layer.output_dim)
    if reverse:
        silenced.unite(silenced.vector(mask, mask.ndim - 1), units)
    silenced.weight(layer, layer._embeddings, 1, units, reads=layer.tie_weights)
    if not layer.tie_weights:
        silenced.weight(layer, layer.reverse_embeddings, 0, units, reads=True)
    return [np.ones(shapes[0]) if reverse else np.broadcast_to(units, shapes[0])]


def recurrent(silenced, path, layer, masks, shapes):
    stacked = isinstance(layer.cell, layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    first = getattr(cells[0], "data_format", None) == "channels_first"
    axis = -1 - cells[0].rank if first else -1
    along, states = silenced.vector(masks[0], masks[0].ndim + axis), []
    for cell in cells:
        along = _cell(silenced, f"{path}/{cell.name}" if stacked else path, layer, cell, along)
        long = isinstance(cell, layers.LSTMCell) or hasattr(cell, "rank")
        states += [along, along] if long else [along]
    for mask, expected in zip(masks[1:], states, strict=False):
        silenced.unite(silenced.vector(mask, mask.ndim + axis), expected)
    found = [along, *states][: len(shapes)]
    return [
        np.broadcast_to(_laid(each, len(shape) + axis, len(shape)), shape)
        for each, shape in zip(found, shapes, strict=True)
    ]


def _cell(silenced, path, layer, cell, given):
    last = len(cell.kernel.shape) - 1
    width = cell.recurrent_kernel.shape[-2]
    units = silenced.planned(path, width)
    gates = np.concatenate([units] * (cell.kernel.shape[-1] // width))
    silenced.weight(layer, cell.kernel, last - 1, given, reads=True)
    silenced.weight(layer, cell.kernel, last, gates)
    silenced.weight(layer, cell.recurrent_kernel, last - 1, units, reads=True)
    silenced.weight(layer, cell.recurrent_kernel, last, gates)
    if cell.use_bias:
        silenced.weight(layer, cell.bias, len(cell.bias.shape) - 1, gates)
    return units


def bidirectional(silenced, path, layer, masks, shapes):
    half = (len(masks) - 1) // 2
    several = 2 if layer.merge_mode is None else 1
    joined = 2 if layer.merge_mode == "concat" else 1
    one = (*shapes[0][:-1], shapes[0][-1] // joined)
    states = shapes[several : several + (len(shapes) - several) // 2]
    found = []
    for number, each in enumerate((layer.forward_layer, layer.backward_layer)):
        given = [masks[0], *masks[1 + number * half :][:half]]
        inner = f"{path}/{each.name}"
        found.append(recurrent(silenced, inner, each, given, [one, *states]))
        silenced.moves(each, layer)
    for forward, backward in zip(*found, strict=True):
        silenced.unite(forward, backward)
    outputs = [found[0][0], found[1][0]][:several]
    if joined == 2:
        outputs = [np.concatenate([found[0][0], found[1][0]], axis=-1)]
    return [*outputs, *found[0][1:], *found[1][1:]]


def multi_head_attention(silenced, path, layer, masks, shapes):
    query, value, key = (*masks, masks[1])[:3]
    grouped = isinstance(layer, layers.GroupQueryAttention)
    made = layer._value_dense.kernel.shape
    shared = silenced.planned(f"{path}:heads", made[1])
    heads = np.repeat(shared, layer.num_repeats) if grouped else shared
    width = silenced.planned(f"{path}:value", made[2])
    keys = np.ones(layer._key_dense.kernel.shape[2])
    if not grouped:
        keys = silenced.planned(f"{path}:key", len(keys))
        _read_keys(silenced, layer, keys)
    read = {"_query_dense": (query, heads), "_key_dense": (key, shared)}
    read |= {"_value_dense": (value, shared), "_gate_dense": (query, heads)}
    for name, (mask, along) in read.items():
        if hasattr(layer, name):
            dense = getattr(layer, name)
            features = silenced.vector(mask, mask.ndim - 1)
            silenced.weight(layer, dense.kernel, 0, features, reads=True)
            axes = {1: along, 2: width if name in ("_value_dense", "_gate_dense") else keys}
            for axis, each in axes.items():
                silenced.weight(layer, dense.kernel, axis, each)
                if dense.bias is not None:
                    silenced.weight(layer, dense.bias, axis - 1, each)
    dense = layer._output_dense
    units = silenced.planned(path, dense.kernel.shape[-1])
    silenced.weight(layer, dense.kernel, 0, heads, reads=True)
    silenced.weight(layer, dense.kernel, 1, width, reads=True)
    silenced.weight(layer, dense.kernel, len(dense.kernel.shape) - 1, units)
    if dense.bias is not None:
        silenced.weight(layer, dense.bias, len(dense.bias.shape) - 1, units)
    found = [_laid(units, len(shapes[0]) - 1, len(shapes[0]))]
    found += [_laid(heads, 1, 4) for _ in shapes[1:]]
    return [np.broadcast_to(f, shape) for f, shape in zip(found, shapes, strict=True)]


def _read_keys(silenced, layer, keys):
    """Silence the width of keys in what queries read, by which the thin queries are larger."""
    dense = layer._query_dense
    silenced.weight(layer, dense.kernel, 2, keys, reads=True)
    if dense.bias is not None:
        silenced.weight(layer, dense.bias, 1, keys, reads=True)
    old, new = (np.float32(1 / np.sqrt(width)) for width in (len(keys), keys.sum()))
    for variable in (dense.kernel, dense.bias):
        silenced.factors[id(variable)] = np.float64(old) / np.float64(new)


def is_unscaled(layer):
    """Tell whether attention compares channels without a weight for each."""
    additive = isinstance(layer, layers.AdditiveAttention)
    return isinstance(layer, layers.Attention) and not (additive and layer.use_scale)


def attention(silenced, path, layer, masks, shapes):
    query, value, key = (silenced.vector(m, m.ndim - 1) for m in (*masks, masks[1])[:3])
    silenced.unite(query, key)
    if is_unscaled(layer):
        silenced.takes(masks)
    else:
        silenced.weight(layer, layer.scale, 0, query, reads=True)
    return [np.broadcast_to(_laid(value, len(shapes[0]) - 1, len(shapes[0])), shapes[0])]


def _laid(along, axis, rank):
    shape = [1] * rank
    shape[axis] = -1
    return along.reshape(shape)


RECURRENT = (layers.RNN, layers.SimpleRNN, layers.GRU, layers.LSTM)
CONVOLUTIONAL = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)

SEVERAL_WEIGHTS = {
    layers.EinsumDense: einsum_dense,
    layers.ReversibleEmbedding: reversible_embedding,
    **dict.fromkeys((*RECURRENT, *CONVOLUTIONAL), recurrent),
    layers.Bidirectional: bidirectional,
    layers.MultiHeadAttention: multi_head_attention,
    layers.GroupQueryAttention: multi_head_attention,
    **dict.fromkeys((layers.Attention, layers.AdditiveAttention), attention),
}

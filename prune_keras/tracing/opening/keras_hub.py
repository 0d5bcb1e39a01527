"""KerasHub: what stands in for methods that need the length of a sequence as a number, or a cache.

A recorded call does not know a length that is left open; here, positions are counted from a tensor.
Numbers that a method reads of its layer are read here, too, so that a cut that it would not follow
is found. KerasHub is not imported: classes are looked up in modules that were.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from keras import layers, ops

_HUB = "keras_hub.src"
_MASKS = f"{_HUB}.layers.modeling.transformer_layer_utils"


@contextlib.contextmanager
def recordable() -> Iterator[None]:
    """Let layers of KerasHub run on symbolic tensors of open lengths within."""
    held = []
    try:
        for (module, kind, name), method in _INSTEAD.items():
            if f"{_HUB}.{module}" in sys.modules:
                owner = getattr(sys.modules[f"{_HUB}.{module}"], kind)
                held.append((owner, name, vars(owner).get(name)))
                setattr(owner, name, method)
        yield
    finally:
        for owner, name, method in held:
            if method is None:
                delattr(owner, name)
            else:
                setattr(owner, name, method)


def _counted(x: Any, start: Any = 0) -> Any:
    """Return the number of each position along axis 1, `(batch, length)` integers."""
    zeros = ops.zeros_like(x)
    if len(x.shape) > 2:
        zeros = ops.sum(zeros, axis=tuple(range(2, len(x.shape))))
    return ops.cumsum(ops.cast(zeros, "int32") + 1, axis=1) + (start - 1)


def _apart(x: Any) -> Any:
    """Return by how much each position is behind each other one, `(batch, length, length)`."""
    places = _counted(x)
    return ops.expand_dims(places, 2) - ops.expand_dims(places, 1)


def _causal(x: Any, padding_mask: Any, attention_mask: Any = None) -> Any:
    """Return which positions each one attends to, `(batch, length, length)`."""
    merge = sys.modules[_MASKS].merge_padding_and_attention_mask
    mask, behind = merge(x, padding_mask, attention_mask), ops.cast(_apart(x) >= 0, "int32")
    return behind if mask is None else ops.minimum(mask, behind)


# Methods of layers, with the names of their arguments there.


def _embed_positions(self: Any, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
    positions = _counted(inputs, start_index) if positions is None else positions
    # One for each entry of the inputs, as wide as they are.
    return ops.take(self.position_embeddings, positions, axis=0) + ops.zeros_like(inputs)


def _rotate(self: Any, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
    sequence, feature = (a % len(inputs.shape) for a in (self.sequence_axis, self.feature_axis))
    x = ops.moveaxis(inputs, (feature, sequence), (-1, 1))
    positions = _counted(x, start_index) if positions is None else positions
    frequencies = self._get_inverse_freq(x.shape[-1])
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies
    angles = ops.concatenate([angles, angles], axis=-1)
    for axis in range(2, len(x.shape) - 1):
        angles = ops.expand_dims(angles, axis)
    factor = 0.1 * math.log(self.scaling_factor) + 1 if self.rope_type == "yarn" else 1.0
    cos, sin = (ops.cast(each(angles), self.compute_dtype) * factor for each in (ops.cos, ops.sin))
    first, second = ops.split(x, 2, axis=-1)
    turned = ops.concatenate([-second, first], axis=-1)
    return ops.moveaxis(x * cos + turned * sin, (-1, 1), (feature, sequence))


def _decoder_mask(
    self: Any,
    decoder_sequence: Any,
    decoder_padding_mask: Any,
    decoder_attention_mask: Any,
    use_causal_mask: bool,
    self_attention_cache: Any,
    self_attention_cache_update_index: Any,
) -> Any:
    given = decoder_sequence, decoder_padding_mask, decoder_attention_mask
    if use_causal_mask:
        return _causal(*given)
    return sys.modules[_MASKS].merge_padding_and_attention_mask(*given)


def _llama_mask(
    self: Any,
    decoder_sequence: Any,
    decoder_padding_mask: Any,
    decoder_attention_mask: Any,
    self_attention_cache: Any,
    self_attention_cache_update_index: Any,
) -> Any:
    return _causal(decoder_sequence, decoder_padding_mask, decoder_attention_mask)


def _gemma_mask(self: Any, x: Any, padding_mask: Any, cache: Any, cache_update_index: Any) -> Any:
    return _causal(x, padding_mask)


def _gemma_rotate(self: Any, x: Any, start_index: Any, positions: Any = None) -> Any:
    x = self.rope_layer(x, start_index=start_index)
    halves = np.arange(x.shape[-1]).reshape(2, -1)
    return ops.take(x, halves.T.reshape(-1), axis=-1)


def _gemma_attend(
    self: Any,
    q: Any,
    k: Any,
    v: Any,
    attention_mask: Any,
    training: bool | None = False,
    cache_update_index: Any = 0,
) -> Any:
    made, counted = (q.shape[2], k.shape[2]), (self.num_query_heads, self.num_key_value_heads)
    if made != counted or v.shape[3] != q.shape[3]:
        raise ValueError(f"it reshapes {counted} heads of queries and of keys, all equally wide")
    if self.use_sliding_window_attention:
        near = ops.abs(_apart(attention_mask)) < self.sliding_window_size
        attention_mask = ops.logical_and(attention_mask, near)
    by_head = self.query_head_dim_normalize
    width = self.head_dim if by_head else self.hidden_dim // self.num_query_heads
    k, v = (ops.repeat(each, counted[0] // counted[1], axis=2) for each in (k, v))
    scores = ops.einsum("btnh,bsnh->bnts", q * float(1 / np.sqrt(width)), k)
    if self.logit_soft_cap is not None:
        scores = ops.tanh(scores / self.logit_soft_cap) * self.logit_soft_cap
    weights = self.softmax(scores, mask=ops.expand_dims(attention_mask, 1))
    weights = ops.cast(weights, scores.dtype)
    if self.dropout:
        weights = self.dropout_layer(weights, training=training)
    return ops.einsum("bnts,bsnh->btnh", weights, v)


_plain: WeakKeyDictionary = WeakKeyDictionary()


def _attend_without_cache(
    self: Any,
    query: Any,
    value: Any,
    key: Any = None,
    attention_mask: Any = None,
    training: bool | None = None,
    **cached: Any,
) -> Any:
    if any(given not in (None, False) for given in cached.values()):
        raise ValueError("it is given a cache, or asked for scores")
    given = {"attention_mask": attention_mask, "training": training}
    return _without_cache(self, len(query.shape))(query, value, key=key, **given)


def _without_cache(layer: Any, rank: int) -> Any:
    """Return Keras' own attention, of the same projections."""
    plain, config = _plain.get(layer), layer.get_config()
    if plain is None or plain.get_config() != config:
        plain = _plain[layer] = layers.MultiHeadAttention.from_config(config)
        # In the order in which Keras makes them, which is that of the variables.
        for name in ("_query_dense", "_key_dense", "_value_dense"):
            setattr(plain, name, getattr(layer, name))
        plain._build_attention(rank + 1)
        plain._output_dense = layer._output_dense
        plain.built, plain._build_shapes_dict = True, layer._build_shapes_dict
    return plain


def _shape_without_cache(self: Any, query: Any, value: Any, key: Any = None, **others: Any) -> Any:
    known = {name: others[name] for name in ("attention_mask", "training") if name in others}
    return layers.MultiHeadAttention.compute_output_spec(self, query, value, key, **known)


def _image_block(
    self: Any, hidden_states: Any, attention_mask: Any = None, return_attention_scores: bool = False
) -> tuple[Any, Any]:
    if return_attention_scores:
        raise ValueError("it is asked for scores")
    normed = self.layer_norm_1(hidden_states)
    x = self.mha(normed, normed, attention_mask=attention_mask) + hidden_states
    y = self.output_layer(self.mlp(self.layer_norm_2(x)), x)
    return y, y[:, :0]  # of no entries, where KerasHub has None, which no call can return


def _encode_images(
    self: Any,
    hidden_states: Any,
    attention_masks: Any = None,
    output_hidden_states: bool = False,
    return_attention_scores: bool = False,
) -> tuple[Any, Any, Any]:
    if attention_masks is not None or output_hidden_states or return_attention_scores:
        raise ValueError("it is given masks, or asked for more than its last states")
    for layer in self.encoder_layers:
        hidden_states, _ = layer(hidden_states, attention_mask=None, return_attention_scores=False)
    states = self.layer_norm(hidden_states)
    return states, states[:, :0], states[:, :0]  # of no entries, as the other two are there


def _drop_samples(self: Any, x: Any, training: bool | None = None) -> Any:
    """Call Keras' own dropout, of whole samples."""
    if self.rate == 0:
        return x
    plain = _plain.get(self)
    if plain is None:
        shape = (None, *(1,) * (len(x.shape) - 1))
        plain = _plain[self] = layers.Dropout(self.rate, shape, self._seed_val, name=self.name)
    return plain(x, training=training)


_INSTEAD: dict[tuple[str, str, str], Callable] = {
    ("layers.modeling.position_embedding", "PositionEmbedding", "call"): _embed_positions,
    ("layers.modeling.rotary_embedding", "RotaryEmbedding", "call"): _rotate,
    (
        "layers.modeling.transformer_decoder",
        "TransformerDecoder",
        "_compute_self_attention_mask",
    ): _decoder_mask,
    (
        "layers.modeling.cached_multi_head_attention",
        "CachedMultiHeadAttention",
        "call",
    ): _attend_without_cache,
    (
        "layers.modeling.cached_multi_head_attention",
        "CachedMultiHeadAttention",
        "compute_output_spec",
    ): _shape_without_cache,
    (
        "models.llama.llama_decoder",
        "LlamaTransformerDecoder",
        "_compute_self_attention_mask",
    ): _llama_mask,
    (
        "models.gemma.gemma_decoder_block",
        "GemmaDecoderBlock",
        "_compute_attention_mask",
    ): _gemma_mask,
    ("models.gemma.gemma_attention", "CachedGemmaAttention", "_apply_rope"): _gemma_rotate,
    ("models.gemma.gemma_attention", "CachedGemmaAttention", "_compute_attention"): _gemma_attend,
    ("models.mit.mit_layers", "DropPath", "call"): _drop_samples,
    ("models.deit.deit_layers", "DeiTEncoderBlock", "call"): _image_block,
    ("models.deit.deit_layers", "DeiTEncoder", "call"): _encode_images,
}

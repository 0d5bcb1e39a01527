"""Rules for layers of KerasHub, registered by importing this module; see docs/custom-layers.md.

Encoders of transformers lose neurons of their feed-forward parts. They take the width of heads from
that of their input when they are read back, so heads and the stream of embeddings stay as they are.
"""

import keras_hub
from keras_hub.src.models.vit.vit_layers import ViTEncoder

import prune_keras
from prune_keras.tracing import Labels, inside, remember


@prune_keras.register_rule(keras_hub.layers.PositionEmbedding)
def position_embedding(visit, trace):
    channels = trace.along(visit.input, -1, visit.path)
    trace.weight(visit, visit.operation.position_embeddings, {1: channels})
    return visit.output(channels)


@prune_keras.register_rule(keras_hub.layers.TokenAndPositionEmbedding)
def token_and_position_embedding(visit, trace):
    layer, shapes = visit.operation, visit.shapes
    tokens = trace.apply(inside(visit, layer.token_embedding, shapes, visit.input))
    embedded = Labels(tokens, visit.shape)
    found = trace.apply(inside(visit, layer.position_embedding, shapes, embedded))
    trace.setting(layer, "embedding_dim", trace.along(embedded, -1, visit.path))
    return found


@prune_keras.register_rule(keras_hub.layers.TransformerEncoder)
def transformer_encoder(visit, trace):
    layer = visit.operation
    for mask in visit.inputs[1:]:
        trace.fix(mask.ids, f"{visit.path} takes them as a mask")
    channels = _attention(visit, trace, layer._self_attention_layer)
    _normalize(visit, trace, layer._self_attention_layer_norm, layer._feedforward_layer_norm)
    first, second = layer._feedforward_intermediate_dense, layer._feedforward_output_dense
    units = _feed_forward(visit, trace, first, second)
    trace.setting(layer, "intermediate_dim", units)
    return visit.output(channels)


@prune_keras.register_rule(ViTEncoder)
def vit_encoder(visit, trace):
    """All blocks have equally many neurons in their feed-forward part: `j` of all blocks is one."""
    layer, made = visit.operation, []
    for block in layer.encoder_layers:
        call = inside(visit, block, visit.shapes, visit.input)
        channels = _attention(call, trace, block.mha)
        _normalize(call, trace, block.layer_norm_1, block.layer_norm_2)
        made.append(_feed_forward(call, trace, block.mlp.dense_1, block.mlp.dense_2))
        trace.unite(made[0], made[-1])
        for owner in (layer, block, block.mlp):
            trace.setting(owner, "mlp_dim", made[-1])
    _normalize(visit, trace, layer.layer_norm)
    return visit.output(channels)


def reader_of(layer):
    """Return the kernel that reads the neurons which the rules above call `intermediate`."""
    if isinstance(layer, keras_hub.layers.TransformerEncoder):
        return layer._feedforward_output_dense.kernel
    return layer.mlp.dense_2.kernel


def _attention(visit, trace, attention):
    """Keep heads and channels, and return the latter."""
    reason = f"{visit.path} takes the width of its heads from that of its input"
    channels = trace.fix(trace.along(visit.input, -1, visit.path), reason)
    trace.apply(inside(visit, attention, [visit.shape], visit.input, value=visit.input))
    for axis, name in ((1, "heads"), (2, "value")):
        made = trace.units(visit, attention._value_dense._kernel, axis, None, name)
        trace.fix(made, reason)
    trace.unite(trace.units(visit, attention._output_dense._kernel, -1), channels)
    return channels


def _normalize(visit, trace, *norms):
    for norm in norms:
        trace.apply(inside(visit, norm, [visit.shape], visit.input))


def _feed_forward(visit, trace, first, second):
    """Record two dense layers, and return the units of the first one."""
    x = visit.input
    channels = trace.along(x, -1, visit.path)
    units = trace.units(visit, first._kernel, axis=1, tap_axis=None, name="intermediate")
    axes = ({0: channels, 1: units}, {0: units, 1: channels})
    for dense, along in zip((first, second), axes, strict=True):
        call = inside(visit, dense, visit.shapes, x)
        trace.weight(call, dense._kernel, along, reads=(0,), times=x.positions(-1))
        trace.weight(call, dense.bias, {0: along[1]})
        trace.setting(dense, "units", along[1])
    remember(trace, second, Labels(visit.output(units), (*x.shape[:-1], len(units))))
    return units

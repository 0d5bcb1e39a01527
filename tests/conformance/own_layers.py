"""Small layers of a user's own, each with its rule and the reference's account of it."""

import keras
import numpy as np
from keras import layers, ops
from silenced_sequences import SEVERAL_WEIGHTS

import prune_keras

registered = keras.saving.register_keras_serializable("zoo")


@registered
class ClassToken(layers.Layer):
    """Put a trained vector in front of a sequence."""

    def build(self, shape):
        self.vector = self.add_weight(shape=(1, 1, shape[-1]), name="vector")

    def call(self, x):
        token = ops.broadcast_to(self.vector, (ops.shape(x)[0], 1, ops.shape(x)[-1]))
        return ops.concatenate([token, x], axis=1)


@registered
class Positions(layers.Layer):
    """Add a trained vector at each position of a sequence."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=shape[1:], name="vectors")

    def call(self, x):
        return x + self.vectors


@registered
class Bias(layers.Layer):
    """Add a trained number to each channel."""

    def build(self, shape):
        self.bias = self.add_weight(shape=shape[-1:], name="bias")

    def call(self, x):
        return x + self.bias


@prune_keras.register_rule(ClassToken, Positions, Bias)
def of_vectors(visit, trace):
    """The last axis of the only weight holds the channels, which are passed on."""
    channels = trace.along(visit.input, -1, visit.path)
    (variable,) = visit.operation.weights
    trace.weight(visit, variable, {-1: channels})
    return channels.reshape((1,) * (visit.input.rank - 1) + (-1,))


def silenced_vectors(silenced, path, layer, masks, shapes):
    channels = silenced.vector(masks[0], masks[0].ndim - 1)
    (variable,) = layer.weights
    silenced.weight(layer, variable, len(variable.shape) - 1, channels)
    return [np.broadcast_to(channels, shapes[0])]


SEVERAL_WEIGHTS.update(dict.fromkeys((ClassToken, Positions, Bias), silenced_vectors))

"""How each layer of Keras is made and called, for the table of what pruning does with it.

Every public subclass of `keras.layers.Layer` has an entry. A layer is called on channels that
another one makes, so that a trace of the model tells what becomes of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

VECTOR, STEPS, IMAGE, VOLUME = (3,), (6, 3), (6, 6, 3), (6, 6, 6, 3)
SPATIAL = {1: STEPS, 2: IMAGE, 3: VOLUME}
WIDTH = 8
TEACH = "what its `call` does: see [your own layers](custom-layers.md)"


@dataclass(frozen=True)
class Case:
    """One layer in a small model.

    Args:
        make: function of the class that returns the layer.
        shape: shape of the model's input, without the batch; its last axis is made `WIDTH` wide.
        call: function of the layer and the channels, which returns a tensor.
        says: what else there is to say about it; why it keeps channels, where `make` is None, since
        it cannot stand in a model on every backend.
    """

    make: Callable | None
    shape: tuple[int, ...] = VECTOR
    call: Callable = operator.call
    says: str = ""

    def model(self, kind: type) -> keras.Model:
        """Return a model of a layer that makes channels, the one in question, and one that reads.

        They are called `before`, `layer` and `read`.
        """
        inputs = keras.Input(self.shape)
        x = layers.Dense(WIDTH, name="before")(inputs)
        layer = self.make(kind)
        layer.name = "layer"
        x = ops.cast(self.call(layer, x), "float32")
        return keras.Model(inputs, layers.Dense(2, name="read")(x) if len(x.shape) > 1 else x)


CASES: dict[str, Case] = {}


def of(names: str, shape=VECTOR, call=operator.call, says="", **arguments: Any) -> None:
    """Give all layers of these names, separated by spaces, a case."""
    case = Case(lambda kind: kind(**arguments), shape, call, says)
    CASES.update(dict.fromkeys(names.split(), case))


def around(name: str, make: Callable, shape=STEPS, says="") -> None:
    """Give a layer a case of which `make`, a function of its class, returns the layer."""
    CASES[name] = Case(make, shape, says=says)


def unseen(names: str, says: str) -> None:
    """Give layers that keep channels a case without a model."""
    CASES.update(dict.fromkeys(names.split(), Case(None, says=says)))


def own(kind: type) -> layers.Layer:
    """Return a layer of one's own class."""

    class YourLayer(kind):
        def call(self, x):
            return self.layer(x) if kind is layers.Wrapper else keras.ops.flip(x, -1)

    return YourLayer(layers.Dense(2)) if kind is layers.Wrapper else YourLayer()


def two(layer, x):
    """Call on two tensors of different channels."""
    return layer([x, layers.Dense(WIDTH, name="other")(x)])


def with_itself(layer, x):
    return layer(x, x)


def whole(layer, x):
    return layer(ops.cast(ops.abs(x), "int32"))


def by_rank(names: str, ranks=(1, 2, 3), **arguments: Any) -> None:
    """Give layers whose names end in 1D, 2D and 3D a case each."""
    for name in names.split():
        for rank in ranks:
            of(f"{name}{rank}D", SPATIAL[rank], **arguments)


# Layers with weights.
of("Dense", units=4)
of("EinsumDense", STEPS, equation="abc,cd->abd", output_shape=(None, 4))
of("Embedding ReversibleEmbedding", call=whole, input_dim=9, output_dim=4)
by_rank("Conv Convolution", filters=4, kernel_size=1)
by_rank("SeparableConv SeparableConvolution", (1, 2), filters=4, kernel_size=1)
by_rank("DepthwiseConv", (1, 2), kernel_size=1)
for _rank, _shape in SPATIAL.items():
    transposed = f"Conv{_rank}DTranspose Convolution{_rank}DTranspose"
    of(transposed, _shape, filters=4, kernel_size=1)
    of(f"ConvLSTM{_rank}D", (2, *_shape), filters=4, kernel_size=1)
of("GRU LSTM SimpleRNN", STEPS, units=4)
of("MultiHeadAttention", STEPS, with_itself, num_heads=2, key_dim=3)
of(
    "GroupQueryAttention",
    STEPS,
    with_itself,
    head_dim=3,
    num_query_heads=4,
    num_key_value_heads=2,
)
of("Attention AdditiveAttention", STEPS, two)
of("BatchNormalization LayerNormalization RMSNormalization UnitNormalization", IMAGE)
of("GroupNormalization", IMAGE, groups=2)
of("PReLU", IMAGE, shared_axes=(1, 2))

# Layers around others.
around("RNN", lambda kind: kind(layers.LSTMCell(4)))
around(
    "StackedRNNCells",
    lambda kind: layers.RNN(kind([layers.GRUCell(4), layers.LSTMCell(3)])),
    says="inside RNN",
)
for _name in ("GRUCell", "LSTMCell", "SimpleRNNCell"):
    around(_name, lambda kind: layers.RNN(kind(4)), says="inside RNN")
around(
    "Bidirectional",
    lambda kind: kind(layers.LSTM(4)),
    says="both directions stay equally wide",
)
around("TimeDistributed", lambda kind: kind(layers.Dense(4)))
around("SpectralNormalization", lambda kind: kind(layers.Dense(4)))
around("Pipeline", lambda kind: kind([layers.RandomFlip(), layers.RandomZoom(0.1)]), IMAGE)
around("Layer", own, says=TEACH)
around("Wrapper", own, says=TEACH)

# Layers without weights.
of("ActivityRegularization ELU Identity LeakyReLU ReLU", IMAGE)
of("Softmax", IMAGE, says="along positions they pass")
of("Activation", activation="relu")
of("AlphaDropout Dropout GaussianDropout", rate=0.5)
of("GaussianNoise", stddev=0.5)
by_rank("SpatialDropout", rate=0.5)
by_rank("AveragePooling AvgPool MaxPooling MaxPool", pool_size=2)
by_rank("AdaptiveAveragePooling AdaptiveMaxPooling", output_size=2)
by_rank("GlobalAveragePooling GlobalAvgPool GlobalMaxPooling GlobalMaxPool")
by_rank("Cropping UpSampling ZeroPadding")
of("Flatten", IMAGE)
of("Reshape", IMAGE, target_shape=(36, WIDTH))
of("Permute", IMAGE, dims=(2, 1, 3))
of("RepeatVector", n=3)
of("Add Average Concatenate Maximum Minimum Multiply Subtract", IMAGE, two)
of("Dot", STEPS, two, axes=-1)
of("Masking", STEPS)
of("Lambda", function=ops.square, output_shape=(WIDTH,))

# Preprocessing.
of("Rescaling", scale=2.0)
of(
    "Normalization",
    mean=0.0,
    variance=1.0,
    axis=None,
    says="with `axis=None`; else it holds a mean for each of them, and they stay",
)
of("CenterCrop RandomCrop Resizing", IMAGE, height=3, width=3)
of("AutoContrast RandomFlip RandomPerspective RandomShear Solarization", IMAGE)
of("CutMix MixUp AugMix RandAugment RandomElasticTransform RandomGaussianBlur", IMAGE)
of("ContrastLimitedAdaptiveHistogramEqualization RandomErasing RandomInvert", IMAGE)
of("RandomGrayscale RandomColorJitter", IMAGE)
of("RandomBrightness RandomContrast RandomHue RandomSaturation RandomRotation", IMAGE, factor=0.1)
of("RandomPosterization RandomSharpness", IMAGE, factor=1)
of("RandomTranslation", IMAGE, height_factor=0.1, width_factor=0.1)
of("RandomZoom", IMAGE, height_factor=0.1)
of("CategoryEncoding", call=whole, num_tokens=5)
of("Hashing", call=whole, num_bins=5)
of("IntegerLookup", call=whole, vocabulary=[1, 2])
of("Discretization", bin_boundaries=[0.0])
of("MaxNumBoundingBoxes", IMAGE, max_number=3)
unseen("HashedCrossing StringLookup TextVectorization", "turns them into categories")
unseen("Equalization RandomColorDegeneration", "takes them for colours")
unseen("MelSpectrogram STFTSpectrogram", "takes them for sound")
unseen(
    "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
    "calls a function that cannot be looked into",
)
unseen("InputLayer", "makes the model's inputs, which stay")

"""Models in models, layers and models called again, tensors that go several ways."""

import keras
from keras import layers, ops
from zoo import network


def block(shape, *filters, name):
    """Return convolutions and a pooling, as a Sequential model."""
    made = [
        layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{number}")
        for number, width in enumerate(filters)
    ]
    return keras.Sequential([keras.Input(shape), *made, layers.MaxPooling2D(2)], name=name)


def vgg(shape=(8, 8, 3), name="vgg"):
    """Return a trunk that is Functional and holds Sequential blocks."""
    images = keras.Input(shape)
    x = block(shape, 4, 5, name="block1")(images)
    x = block(x.shape[1:], 6, 6, name="block2")(x)
    return keras.Model(images, x, name=name)


@network("scores", noise=True)
def transfer():
    """Simonyan and Zisserman, Very deep convolutional networks, 2015: a trunk with a new head."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            vgg(),
            layers.Flatten(name="flat"),
            layers.Dense(10, activation="relu", name="hidden"),
            layers.Dropout(0.5, seed=0, name="drop"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


@network("scores")
def three_depths():
    """A model in a model in a model, each of the other kind, with layers between them."""
    inner = keras.Sequential(
        [keras.Input((7,)), layers.Dense(6, activation="relu", name="c")], name="inner"
    )
    x = given = keras.Input((5,))
    x = layers.Dense(7, activation="relu", name="b1")(x)
    x = layers.Dense(6, name="b2")(inner(x))
    middle = keras.Model(given, x, name="middle")
    outer = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="relu", name="a"), middle], name="outer"
    )
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="scores")(outer(x)))


# A bias of all three vectors is gone in their differences.
@network("distances", still=("vector/bias",))
def triplets():
    """Schroff et al., FaceNet, 2015: one model called on three inputs."""
    images = [keras.Input((8, 8, 3), name=name) for name in ("anchor", "positive", "negative")]
    trunk = vgg()
    embed = keras.Sequential(
        [trunk, layers.GlobalAveragePooling2D(), layers.Dense(6, name="vector")], name="embed"
    )
    anchor, positive, negative = (embed(x) for x in images)
    near, far = ops.square(anchor - positive), ops.square(anchor - negative)
    x = layers.Concatenate(name="both")([near, far])
    return keras.Model(images, layers.Dense(2, name="distances")(x))


@network("scores")
def one_layer_several_times():
    """A layer that reads what it has made: its units are what it reads (Universal Transformer)."""
    inputs = keras.Input((5, 3))
    x = layers.Dense(8, name="first")(inputs)
    again = layers.Dense(8, activation="tanh", name="again")
    norm = layers.BatchNormalization(name="norm")
    for number in range(3):
        x = layers.Add(name=f"sum{number}")([x, again(norm(x))])
    return keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x)))


@network("colour", "kind")
def dictionaries():
    """Several inputs and outputs, each by its name."""
    image = keras.Input((6, 6, 3), name="image")
    text = keras.Input((5,), dtype="int32", name="text")
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    y = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(5, 6, name="words")(text))
    both = layers.Dense(8, activation="relu", name="both")(ops.concatenate([x, y], axis=-1))
    outputs = {
        "colour": layers.Dense(2, name="colour")(both),
        "kind": layers.Dense(3, activation="softmax", name="kind")(y),
    }
    return keras.Model({"image": image, "text": text}, outputs)


# What is an output beside being read stays, and with it all that is added to it.
@network("code", "stem", "scores")
def a_tensor_that_is_an_output_too():
    """An autoencoder's code and a skipped stem, both shown beside the scores."""
    inputs = keras.Input((6, 6, 3))
    stem = layers.Conv2D(5, 3, padding="same", name="stem")(inputs)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="code")(stem)
    x = layers.Add(name="skip")([stem, x])
    y = layers.Conv2D(6, 3, activation="relu", name="free")(x)
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    return keras.Model(inputs, [layers.Dense(3, name="scores")(y), x])


@network("scores")
def one_tensor_in_two_concatenations():
    """Ronneberger et al., U-Net, 2015, where one skip is joined twice."""
    inputs = keras.Input((8, 8, 3))
    high = layers.Conv2D(5, 3, padding="same", activation="relu", name="high")(inputs)
    low = layers.MaxPooling2D(2, name="pool")(high)
    low = layers.Conv2D(6, 3, padding="same", activation="relu", name="low")(low)
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(low)
    first = layers.Concatenate(name="first")([up, high])
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="joined")(first)
    second = layers.Concatenate(name="second")([high, x])
    return keras.Model(inputs, layers.Conv2D(2, 1, name="scores")(second))


@network("scores")
def one_tensor_twice_in_a_concatenation():
    """Shang et al., Concatenated ReLUs, 2016: a tensor beside its negative, and beside itself."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.Concatenate(name="signs")([x, -x]))
    x = layers.Concatenate(name="twice")([x, x])
    x = layers.Conv2D(5, 3, activation="relu", name="next")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x)))


@network("scores")
def concatenation_of_positions():
    """Pyramids of positions: maps of several sizes, joined along rows, columns and one axis."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="fine")(inputs)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="wide")(inputs)
    rows = layers.Concatenate(axis=1, name="rows")([x, y])
    y = layers.Conv2D(6, 3, strides=2, activation="relu", name="coarse")(rows)
    parts = [layers.Reshape((-1, 6), name=f"line{n}")(z) for n, z in enumerate((x, y))]
    x = layers.Concatenate(axis=1, name="lines")(parts)
    x = layers.Conv1D(5, 3, strides=3, activation="relu", name="over")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x)))


HEADS = {"scores": 3, "boxes": 4}


@network("boxes", "scores")
def pyramid():
    """Lin et al., Feature pyramid networks, 2017: a trunk of several outputs, heads on each."""
    images = keras.Input((8, 8, 3))
    c1 = layers.Conv2D(5, 3, padding="same", activation="relu", name="c1")(images)
    c2 = layers.Conv2D(6, 3, 2, padding="same", activation="relu", name="c2")(c1)
    c3 = layers.Conv2D(7, 3, 2, padding="same", activation="relu", name="c3")(c2)
    trunk = keras.Model(images, {"c1": c1, "c2": c2, "c3": c3}, name="trunk")
    inputs = keras.Input((8, 8, 3))
    maps = trunk(inputs)
    merged, found = None, []
    scores, boxes = (layers.Conv2D(n, 3, padding="same", name=k) for k, n in HEADS.items())
    for name in ("c3", "c2", "c1"):
        x = layers.Conv2D(6, 1, name=f"{name}_lateral")(maps[name])
        if merged is not None:
            x = layers.Add(name=f"{name}_sum")([x, layers.UpSampling2D(2)(merged)])
        merged = x
        x = layers.Conv2D(5, 3, padding="same", activation="relu", name=f"{name}_smooth")(x)
        found.append([layers.Reshape((-1, n))(f(x)) for f, n in ((scores, 3), (boxes, 4))])
    outputs = [layers.Concatenate(axis=1)(list(each)) for each in zip(*found, strict=True)]
    return keras.Model(inputs, outputs)


@network("scores")
def a_layer_of_a_nested_model_outside_of_it():
    """A layer that a nested model and the graph around it share."""
    shared = layers.Dense(6, activation="relu", name="shared")
    given = keras.Input((5,))
    x = layers.Dense(7, activation="relu", name="inside")(shared(given))
    nested = keras.Model(given, x, name="nested")
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="relu", name="first")(inputs)
    y = layers.Concatenate(name="both")([nested(x), shared(x)])
    return keras.Model(inputs, layers.Dense(3, name="scores")(y))


@network("scores", channels_first=True)
def channels_first():
    """He et al., Deep residual learning, 2016, with channels in front of space."""
    options = {"padding": "same", "use_bias": False, "data_format": "channels_first"}
    images = keras.Input((3, 8, 8))

    def conv(x, name, filters=6, kernel=3, strides=1):
        x = layers.Conv2D(filters, kernel, strides, **options, name=name)(x)
        return layers.BatchNormalization(axis=1, name=f"{name}_norm")(x)

    x = layers.ReLU(name="relu")(conv(images, "stem", 5))
    y = conv(layers.ReLU(name="relu1")(conv(x, "first", strides=2)), "second")
    x = layers.Add(name="sum")([conv(x, "shortcut", kernel=1, strides=2), y])
    x = layers.GlobalAveragePooling2D("channels_first", name="pool")(x)
    return keras.Model(images, layers.Dense(3, name="scores")(x))


@network("scores", channels_first=True)
def channels_first_and_flat():
    """What reads space by its place, behind channels in front of it.

    Rows stay longer than there are channels: Keras on TensorFlow adds a bias along a row that is as
    long as the bias.
    """
    options = {"padding": "same", "activation": "relu", "data_format": "channels_first"}
    images = keras.Input((3, 8, 12))
    x = layers.Conv2D(6, 3, **options, name="conv1")(images)
    x = layers.MaxPooling2D((2, 1), data_format="channels_first", name="pool")(x)
    x = layers.Concatenate(axis=1, name="both")(
        [x, layers.Conv2D(4, 3, **options, name="conv2")(x)]
    )
    x = layers.DepthwiseConv2D(3, **options, name="depthwise")(x)
    x = layers.Flatten("channels_first", name="flat")(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(images, layers.Dense(3, name="scores")(x))

"""Every network of keras.applications, with random weights that keep activations in bounds."""

import inspect

import keras
import numpy as np
from keras import layers, ops
from networks import randomize

from prune_keras import _keras

NAMES = (
    *(f"ConvNeXt{size}" for size in ("Base", "Large", "Small", "Tiny", "XLarge")),
    *(f"DenseNet{depth}" for depth in (121, 169, 201)),
    *(f"EfficientNetB{number}" for number in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile"),
    *(f"ResNet{depth}{version}" for depth in (50, 101, 152) for version in ("", "V2")),
    *("VGG16", "VGG19", "Xception"),
)
PIXELS = dict.fromkeys(NAMES, 32) | {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
SAMPLES = 4
WEIGHTED = (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


def constructors() -> set[str]:
    """Return the names of all functions in keras.applications that build a network."""
    return {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}


def build(name: str):
    """Return a network without its classifier's softmax, as Keras initializes it."""
    keras.utils.clear_session()
    constructor = getattr(keras.applications, name)
    shape = (PIXELS[name], PIXELS[name], 3)
    return constructor(weights=None, classifier_activation=None, input_shape=shape)


def images(model, count: int, seed: int) -> np.ndarray:
    """Return a batch of noise in the range of pixels; a larger one begins with the smaller one."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, *model.input_shape[1:])).astype(model.inputs[0].dtype)


def settle(model, seed: int = 3) -> None:
    """Give every weight a random value, such that no depth lets activations vanish or explode.

    Units of a layer differ in norm, as trained ones do. Each kernel is scaled to outputs of a
    deviation of one, and batch normalization gets the statistics of a batch, with noise.
    """
    randomize(model)
    rng = np.random.default_rng(seed)
    for layer in filter(_is_weighted, _keras.all_layers(model)):
        kernel = layer.weights[-1 - layer.use_bias]
        kernel.assign(kernel * rng.uniform(0.4, 1.6, kernel.shape[-1]))
    finalize(model)
    adjust(model, rng, kernels=True)


def finalize(model) -> None:
    """Let layers make anew the constants that they hold beside the weights these come from."""
    for layer in _keras.all_layers(model):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def adjust(model, rng, kernels: bool) -> None:
    """Fit statistics, and kernels if asked for, to a batch that begins with the compared one."""

    def call(visited):
        layer = visited.operation
        if isinstance(layer, layers.BatchNormalization):
            _assign_statistics(layer, visited.args[0], rng)
        if kernels and _is_weighted(layer):
            deviation = ops.std(_keras.run(visited))
            for variable in layer.weights[-1 - layer.use_bias :]:
                variable.assign(variable / deviation)
        return _keras.run(visited)

    _keras.walk(model, [ops.convert_to_tensor(images(model, 4 * SAMPLES, seed=1))], call)


def _is_weighted(layer) -> bool:
    return isinstance(layer, WEIGHTED)


def _assign_statistics(layer, x, rng) -> None:
    mean, variance = ops.moments(x, list(range(len(x.shape) - 1)))
    noise = rng.uniform(0.8, 1.25, (2, x.shape[-1]))
    layer.moving_mean.assign(mean * noise[0])
    layer.moving_variance.assign(variance * noise[1] + 0.1 * ops.mean(variance))

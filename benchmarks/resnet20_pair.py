"""A trained Keras ResNet-20 with padded shortcuts, and its equals with 1x1 convolutions for them.

Torch-Pruning cannot cut shortcuts that pad channels with zeros. A strided 1x1 convolution whose
kernel holds ones where a channel is passed on and zeros elsewhere computes the same.
"""

STAGES, BLOCKS = 3, 3
WIDTHS = (16, 32, 64)


def names():
    """Yield the names of the Keras layers with weights."""
    yield from ("conv1", "bn1")
    for stage in range(1, STAGES + 1):
        for block in range(BLOCKS):
            for number in (1, 2):
                yield from (f"stage{stage}_block{block}_{kind}{number}" for kind in ("conv", "bn"))
    yield "logits"


def arrays(model):
    """Return `name/place` -> weight of the Keras model, shortcuts and normalization included."""
    import numpy as np

    found = {
        f"{name}/{place}": weight
        for name in names()
        for place, weight in enumerate(model.get_layer(name).get_weights())
    }
    pixels = model.get_layer("imagenet_normalization")
    found["mean"] = np.ravel(pixels.mean)
    found["std"] = np.sqrt(np.ravel(pixels.variance))
    kernels = zip((2, 3), shortcuts(model), strict=True)
    return found | {f"stage{stage}_shortcut/0": kernel for stage, kernel in kernels}


def shortcuts(model):
    """Yield the kernel of the 1x1 convolution that equals each padded shortcut."""
    import keras
    import numpy as np

    paddings = [each for each in model.layers if isinstance(each, keras.layers.ZeroPadding2D)]
    adds = [each for each in model.layers if isinstance(each, keras.layers.Add)]
    for padding, add in zip(paddings, adds[BLOCKS::BLOCKS], strict=True):
        shortcut = keras.Model(padding.input, add.input[0])
        _, height, width, channels = padding.input.shape
        one_hot = np.eye(channels, dtype="float32")[:, None, None]
        passed = shortcut.predict(np.tile(one_hot, (1, height, width, 1)), verbose=0)
        yield passed[None, None, :, 0, 0]


def keras_projected(held):
    """Return the Keras model with 1x1 convolutions for shortcuts, of the arrays of `arrays`."""
    import keras

    inputs = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Normalization(mean=held["mean"], variance=held["std"] ** 2)(x)
    x = keras.layers.ReLU()(_keras_convolution(x, WIDTHS[0], "conv1", "bn1"))
    for stage, width in enumerate(WIDTHS, start=1):
        for block in range(BLOCKS):
            strides = 2 if stage > 1 and not block else 1
            x = _keras_block(x, width, strides, f"stage{stage}", f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))
    for layer in model.layers:
        weights = [held[key] for key in held if key.startswith(f"{layer.name}/")]
        if weights:
            layer.set_weights(weights)
    return model


def _keras_block(x, width, strides, stage, name):
    import keras

    kept = x
    if strides != 1:
        convolution = keras.layers.Conv2D(
            width, 1, strides, use_bias=False, name=f"{stage}_shortcut"
        )
        kept = convolution(x)
    x = _keras_convolution(x, width, f"{name}_conv1", f"{name}_bn1", strides)
    x = _keras_convolution(keras.layers.ReLU()(x), width, f"{name}_conv2", f"{name}_bn2")
    return keras.layers.ReLU()(keras.layers.Add()([kept, x]))


def _keras_convolution(x, width, name, norm, strides=1):
    """3x3, with a pixel of padding on each side, as PyTorch pads."""
    import keras

    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(width, 3, strides, use_bias=False, name=name)(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)


def torch_projected(held):
    """Return the PyTorch module with 1x1 convolutions for shortcuts, of the same arrays."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, stage, name):
            super().__init__()
            down = held[f"{name}_conv1/0"].shape[2] != held[f"{name}_conv1/0"].shape[3]
            self.conv1 = convolution(f"{name}_conv1", 3, 2 if down else 1)
            self.bn1, self.bn2 = norm(f"{name}_bn1"), norm(f"{name}_bn2")
            self.conv2 = convolution(f"{name}_conv2", 3, 1)
            self.shortcut = convolution(f"{stage}_shortcut", 1, 2) if down else nn.Identity()

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(self.shortcut(x) + y)

    class ResNet20(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("mean", "std"):
                self.register_buffer(name, tensor(held[name]).reshape(1, 3, 1, 1))
            self.conv1, self.bn1 = convolution("conv1", 3, 1), norm("bn1")
            stages = range(1, STAGES + 1)
            pairs = [(f"stage{s}", f"stage{s}_block{b}") for s in stages for b in range(BLOCKS)]
            self.blocks = nn.Sequential(*(Block(*pair) for pair in pairs))
            kernel = tensor(held["logits/0"])
            self.logits = nn.Linear(*kernel.shape)
            fill(self.logits, weight=kernel.T, bias=tensor(held["logits/1"]))

        def forward(self, pixels):
            x = (pixels / 255 - self.mean) / self.std
            x = self.blocks(torch.relu(self.bn1(self.conv1(x))))
            return self.logits(x.mean((2, 3)))

    def tensor(array):
        return torch.from_numpy(array.copy())

    def fill(module, **values):
        for name, value in values.items():
            getattr(module, name).data.copy_(value)
        return module

    def convolution(name, size, strides):
        kernel = tensor(held[f"{name}/0"]).permute(3, 2, 0, 1)
        filters, channels = kernel.shape[:2]
        module = nn.Conv2d(channels, filters, size, strides, size // 2, bias=False)
        return fill(module, weight=kernel)

    def norm(name):
        gamma, beta, mean, variance = (tensor(held[f"{name}/{place}"]) for place in range(4))
        module = nn.BatchNorm2d(len(gamma), eps=1e-5, momentum=0.1)
        return fill(module, weight=gamma, bias=beta, running_mean=mean, running_var=variance)

    return ResNet20()

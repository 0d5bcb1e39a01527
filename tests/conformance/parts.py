"""A part of a network that is generated: tensors to go on from, and options to choose among."""

from keras import layers

SMALL = 5
LARGEST = 160


class Part:
    """A network under construction.

    Args:
        choices: where options come from.
        rank: number of spatial axes that the network starts with.
        data_format: `"channels_last"` or `"channels_first"`.
        noise: whether layers that draw random numbers in training may be used.
    """

    def __init__(self, choices, rank: int, data_format: str, noise: bool):
        self.choices, self.rank, self.noise = choices, rank, noise
        self.data_format = data_format
        self.single = False
        self.pool: list = []

    @property
    def channels_last(self) -> bool:
        return self.data_format == "channels_last"

    def axis(self, x) -> int:
        """Return the channel axis of a tensor, the batch counted."""
        return 1 if self.data_format == "channels_first" and len(x.shape) > 2 else len(x.shape) - 1

    def spatial(self, x) -> list[int]:
        return [axis for axis in range(1, len(x.shape)) if axis != self.axis(x)]

    def layer(self, name: str, x=None, **arguments):
        """Return a layer of as many dimensions as the tensor, e.g. `Conv2D` for `"Conv"`."""
        rank = self.rank if x is None else len(x.shape) - 2
        return getattr(layers, f"{name}{rank}D")(data_format=self.data_format, **arguments)

    def weighted(self, x, channels: int, **arguments):
        """Call a new convolution, or a Dense layer where there is no space."""
        if len(x.shape) == 2:
            arguments = {k: v for k, v in arguments.items() if k in ("activation", "use_bias")}
            return layers.Dense(channels, **arguments)(x)
        arguments = {"kernel_size": 1, "padding": "same", **arguments}
        return self.convolution(x, channels, **arguments)(x)

    def convolution(self, x, channels: int, kind: str = "Conv", **arguments):
        if self.data_format == "channels_first" and x.shape[-1] // 2 <= channels + 2:
            # Keras on TensorFlow adds the bias along the last axis where that is as long.
            arguments["use_bias"] = False
        if kind == "ConvTranspose":
            name = f"Conv{len(x.shape) - 2}DTranspose"
            return getattr(layers, name)(channels, data_format=self.data_format, **arguments)
        if kind != "DepthwiseConv":
            arguments["filters"] = channels
        return self.layer(kind, x, **arguments)

    def like(self, x):
        """Return another tensor of the same shape: one of the pool, or a new layer's."""
        known = [y for y in self.pool if y.shape == x.shape and y is not x]
        if known and self.choices.yes():
            return self.choices.of(known)
        return self.weighted(x, x.shape[self.axis(x)])

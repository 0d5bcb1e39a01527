"""The field's architectures at small widths, each a network that all promises are checked on.

`zoo_*.py` hold the builders; each is registered by `@network`, with what is fixed in it and what is
tied: a test fails where more, or less, of it can be pruned than that, or only with other units.
"""

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from networks import floats, randomize

NETWORKS: dict[str, "Network"] = {}


@dataclass(frozen=True)
class Network:
    """A named network with random weights, equal at each time it is built.

    Args:
        name: name of the architecture.
        make: function without arguments that returns the model.
        fixed: paths of the layers of which all units are fixed, outputs included.
        partly: path -> number of units that are fixed, of layers of which some can be pruned.
        tied: path -> number of neurons, of layers of which several units are one neuron.
        floatx: the float type it is built in, `"float32"` or `"float64"`.
        noise: whether it draws random numbers in training.
        over_channels: whether it reduces over channels, which are those that are left.
        still: ends of the paths of weights that no training step moves, since what reads them
            cancels them.
        channels_first: whether it convolves with channels in front of space.
    """

    name: str
    make: Callable
    fixed: tuple[str, ...]
    partly: tuple[tuple[str, int], ...] = ()
    tied: tuple[tuple[str, int], ...] = ()
    floatx: str = "float32"
    noise: bool = False
    over_channels: bool = False
    still: tuple[str, ...] = ()
    channels_first: bool = False

    def __str__(self):
        return self.name

    @contextlib.contextmanager
    def built(self):
        """Give the model while its float type is the default one."""
        with floats(self.floatx):
            yield self.build()

    def build(self):
        keras.utils.clear_session(free_memory=False)
        model = self.make()
        randomize(model)
        return model


def network(*fixed: str, **arguments):
    """Register a builder; see `Network` for the arguments. Its name is that of the network."""

    def register(make):
        name = make.__name__.replace("_", " ")
        NETWORKS[name] = Network(name, make, fixed, **arguments)
        return make

    return register


def load() -> dict[str, Network]:
    """Return all networks by name."""
    for file in sorted(Path(__file__).parent.glob("zoo_*.py")):
        importlib.import_module(file.stem)
    return NETWORKS

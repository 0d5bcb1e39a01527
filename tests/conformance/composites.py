"""Models of layers made of layers, and models with a `call` of their own, as people write them.

`composites_*.py` hold the classes and a table of `Composite`s each; the checks of one are in
`composites_checks.py`. A class here knows nothing of pruning and is not registered with Keras.
"""

import fnmatch
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from networks import randomize


@dataclass(frozen=True)
class Composite:
    """A named model, equal each time it is built.

    Args:
        name: name of the architecture.
        build: function without arguments that returns a built model with random weights.
        data: function of a number of samples that returns `(x, y)` as `fit` takes it; `y` is None
            where the model's own `train_step` needs none.
        least_share: least share of the parameters, those of `natural` left out, in weights along
            which a prunable neuron lies.
        natural: `(pattern, reason)`: all paths that are fixed, outputs included, and a part of the
            reason that trace must give. Patterns are those of fnmatch.
        counted: the same, of what only a plain functional model lets go, since the class's own code
            reads its width from something else.
        by_train_step: whether the class trains by its own `train_step`.
        fit_data: the same as `data`, where `fit` takes something else than `call` does.
        noise: whether it draws random numbers in training.
    """

    name: str
    build: Callable
    data: Callable
    least_share: float = 0.9
    natural: tuple[tuple[str, str], ...] = ()
    counted: tuple[tuple[str, str], ...] = ()
    by_train_step: bool = False
    fit_data: Callable | None = None
    noise: bool = False

    def __str__(self):
        return self.name

    @property
    def known(self) -> tuple[tuple[str, str], ...]:
        return self.natural + self.counted


def built(make, data) -> Callable:
    """Return a builder of a model of equal names and random weights, built by a call on data."""

    def build():
        keras.utils.clear_session(free_memory=False)
        with warnings.catch_warnings():  # of masks that layers drop, as people's do
            warnings.simplefilter("ignore")
            model = make()
            model(batch(data(2)[0]))
        randomize(model)
        return model

    return build


def batch(x):
    """Return data as tensors, in the structure they come in."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, x)


def images(*shape, classes: int = 3) -> Callable:
    """Return a maker of random images and numbers of classes."""

    def data(count):
        rng = np.random.default_rng(0)
        return rng.normal(size=(count, *shape)).astype("float32"), rng.integers(0, classes, count)

    return data


def is_natural(composite: Composite, path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern, _ in composite.known)

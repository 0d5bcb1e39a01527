"""Networks of the layers that rules exist for, drawn by hypothesis or built anew from a recipe.

A `Recipe` is a list of numbers that choose among options; building it twice gives two models with
equal names and equal weights. A failing example prints its recipe, which can be pasted in a test.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops
from parts import Part
from steps import STEPS
from steps_structural import STRUCTURAL

from prune_keras import _backend, _keras

SPATIAL = {0: (), 1: (6,), 2: (5, 4), 3: (4, 3, 3)}


class Choices:
    """Options taken one after another by a list of numbers; the first option once it has ended."""

    def __init__(self, numbers: Sequence[int]):
        self.numbers = iter(numbers)

    def of(self, options: Iterable):
        options = list(options)
        return options[next(self.numbers, 0) % len(options)]

    def number(self, low: int, high: int) -> int:
        return self.of(range(low, high + 1))

    def yes(self, one_in: int = 2) -> bool:
        return self.of(range(one_in)) == one_in - 1


@contextlib.contextmanager
def floats(floatx: str):
    """Make a float type the default one for a while."""
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


@dataclass(frozen=True)
class Recipe:
    """How to build one network.

    Args:
        numbers: they choose among options, one after another.
        floatx: `"float32"` or `"float64"`.
        noise: whether layers that draw random numbers in training may be there.
    """

    numbers: tuple[int, ...]
    floatx: str = "float32"
    noise: bool = True

    @contextlib.contextmanager
    def built(self):
        """Give the model while its float type is the default one, as its cloning needs."""
        with floats(self.floatx):
            yield self.build()

    def build(self):
        keras.utils.clear_session(free_memory=False)
        choices = Choices(self.numbers)
        model = (sequential if choices.yes(5) else functional)(choices, self.noise)
        randomize(model)
        return model


def runs_channels_first(rank: int, dtype: str | None = None) -> bool:
    """Tell whether this machine convolves with channels in front of space."""
    key = (rank, "channels_first", dtype or keras.config.floatx(), False, False)
    return all(_backend.has_kernel(name, *key) for name in ("conv", "conv_transpose"))


def recipes(floatx=("float32",), noise=True):
    """Return a strategy for recipes."""
    numbers = st.lists(st.integers(0, 2**16), min_size=90, max_size=100).map(tuple)
    return st.builds(Recipe, numbers, st.sampled_from(floatx), st.just(noise))


def functional(choices: Choices, noise: bool):
    """Return a functional model: steps on tensors of a pool, then heads."""
    rank = choices.of((2, 0, 1, 2, 3))
    first = rank > 0 and choices.yes(4) and runs_channels_first(rank)
    part = Part(choices, rank, "channels_first" if first else "channels_last", noise)
    inputs = [keras.Input(_shape(rank, choices.number(1, 3), first))]
    part.pool.append(inputs[0])
    if choices.yes(5):
        inputs.append(keras.Input(inputs[0].shape[1:]))
        part.pool.append(inputs[1])
    for x in inputs:
        part.pool.append(part.weighted(x, choices.number(3, 6)))
    for _ in range(choices.number(3, 8)):
        step(part, known=len(inputs))
    outputs = [head(part, part.pool[-1])]
    if choices.yes(4):
        outputs.append(head(part, choices.of(part.pool)))
    if choices.yes(6):
        outputs.append(choices.of(part.pool[len(inputs) :]))
    inputs = reached(inputs, outputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def reached(inputs: list, outputs: list) -> list:
    """Return the inputs that an output depends on."""
    ids, waiting = set(), [*outputs]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in ids:
            ids.add(id(tensor))
            operation, node, _ = tensor._keras_history
            waiting += operation._inbound_nodes[node].input_tensors
    return [x for x in inputs if id(x) in ids]


def _shape(rank: int, channels: int, first: bool) -> tuple:
    return (channels, *SPATIAL[rank][:-1], 12) if first else (*SPATIAL[rank], channels)


def step(part: Part, known: int) -> None:
    """Add a tensor to the pool by one of the steps, from what lies behind the inputs."""
    choices = part.choices
    x = choices.of(part.pool[known:]) if choices.yes(4) else part.pool[-1]
    for _ in range(3):
        y = choices.of((*STEPS, *STRUCTURAL))(part, x)
        if y is not None and len(y.shape) > 1 and all(size > 0 for size in y.shape[1:]):
            part.pool.append(y)
            return


def head(part: Part, x):
    """Return an output that reads the tensor, or the tensor itself."""
    if part.choices.yes(8):
        return x
    if part.choices.yes():
        x = part.weighted(x, part.choices.number(2, 5), activation="relu")
    if len(x.shape) > 2:
        pooled = part.choices.of(("flatten", "average", "max", None))
        if pooled == "flatten" or (pooled and len(x.shape) != part.rank + 2):
            x = layers.Flatten(data_format=part.data_format)(x)
        elif pooled:
            x = part.layer(f"Global{pooled.title()}Pooling")(x)
    units = part.choices.number(2, 3)
    return layers.Dense(units, activation=part.choices.of((None, "softmax", "sigmoid")))(x)


def sequential(choices: Choices, noise: bool):
    """Return a Sequential model to which layers were added one by one."""
    rank = choices.of((2, 0, 1, 2, 3))
    first = rank > 0 and choices.yes(4) and runs_channels_first(rank)
    part = Part(choices, rank, "channels_first" if first else "channels_last", noise)
    part.single = True
    shape = _shape(rank, choices.number(1, 3), first)
    model = keras.Sequential()
    late = choices.yes(3)
    if not late:
        model.add(keras.Input(shape))
    part.pool.append(keras.Input(shape))
    part.pool.append(part.weighted(part.pool[0], choices.number(3, 6)))
    for _ in range(choices.number(2, 6)):
        step(part, known=1)
    output = head(part, part.pool[-1])
    for layer in _path(output):
        model.add(layer)
        if not late and choices.yes(6):
            model(ops.zeros((1, *shape)))
    if late:
        model.build((None, *shape))
    return model


def _path(output) -> list:
    """Return fresh layers like those that lead from the input to a tensor."""
    found = []
    operation, node, _ = output._keras_history
    while not isinstance(operation, layers.InputLayer):
        found.append(operation.__class__.from_config(operation.get_config()))
        operation, node, _ = operation._inbound_nodes[node].input_tensors[0]._keras_history
    return _renamed(found[::-1])


def _renamed(found: list) -> list:
    names = set()
    for layer in found:
        while layer.name in names:
            layer.name = f"{layer.name}_"
        names.add(layer.name)
    return found


def randomize(model, seed: int = 0) -> None:
    """Give every weight a value that is neither zero nor one by chance.

    Kernels have entries of about one over the root of what they read, so that outputs stay of the
    size of inputs; variances are positive.
    """
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name == "seed_generator_state":  # SimpleRNN does not keep its seed
            variable.assign(np.zeros(variable.shape, variable.dtype))
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.dtype.startswith(("uint", "int")):
            continue
        if variable.name in ("variance", "moving_variance"):
            value = rng.uniform(0.5, 2.0, shape)
        elif variable.name in ("gamma", "mean"):
            value = rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape)
        else:
            fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 4
            value = rng.normal(size=shape) / np.sqrt(max(fan_in, 1))
        variable.assign(value.astype(variable.dtype))


def samples(model, count: int = 2, seed: int = 1) -> list:
    """Return a batch of random inputs, one array an input of the model; integers are 0 to 3."""
    rng = np.random.default_rng(seed)
    return [_sample(rng, x.dtype, (count, *x.shape[1:])) for x in model.inputs]


def _sample(rng, dtype: str, shape: tuple) -> np.ndarray:
    whole = "int" in dtype
    return (rng.integers(0, 4, shape) if whole else rng.normal(size=shape)).astype(dtype)


def packed(model, x: list):
    """Return arrays, one an input, in the structure that the model takes."""
    return keras.tree.pack_sequence_as(_keras.function_of(model)._inputs_struct, x)


def outputs_of(model, x: list) -> list[np.ndarray]:
    """Return the model's outputs for a batch, as float64 arrays."""
    return [
        np.asarray(ops.convert_to_numpy(y), np.float64)
        for y in keras.tree.flatten(model(packed(model, x), training=False))
    ]


def weights_of(model) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(v.value)) for v in model.variables]


def train_step(model, seed: int = 2) -> None:
    """Train on one random batch, in the structures that the model takes."""
    rng = np.random.default_rng(seed)
    x = samples(model, count=3, seed=seed)
    y = [rng.normal(size=(3, *t.shape[1:])).astype(t.dtype) for t in model.outputs]
    y = keras.tree.pack_sequence_as(_keras.output_structure(model), y)
    model.train_on_batch(packed(model, x), y)

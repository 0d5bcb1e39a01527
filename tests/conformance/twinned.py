"""Networks in which one of five units says what others do, so that it can go without a loss."""

import keras
import numpy as np
from keras import layers, ops

import prune_keras
from prune_keras import Plan
from prune_keras.repair import Repair
from prune_keras.surgery import kept_neurons

SAMPLES = 64
TWIN, OF = 4, 1  # of five units, the one that says what another one says


def sequential(*behind, shape=(8, 8, 3), activation="relu", **arguments):
    """Return what builds a model: a layer of five units, and what reads them."""

    def build():
        inputs = keras.Input(shape)
        first = {2: layers.Dense, 3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}
        kind = first[len(inputs.shape)]
        size = () if kind is layers.Dense else (2,)
        x = kind(5, *size, activation=activation, name="a", **arguments)(inputs)
        for make in behind:
            x = make()(x)
        return keras.Model(inputs, x)

    return build


def twins(array, axis):
    """Let an array hold at one place along an axis what it holds at another one."""
    return _told(array, axis, lambda parts: parts[OF])


def combined(array, axis):
    """Let an array hold at one place along an axis a sum of what it holds at the others."""
    return _told(array, axis, lambda parts: 0.7 * parts[0] - 0.6 * parts[1] + 0.5 * parts[2])


def _told(array, axis, tell):
    array = np.moveaxis(array.copy(), axis, 0)
    share = len(array) // 5
    parts = array.reshape(5, share, *array.shape[1:])
    parts[TWIN] = tell(parts)
    return np.moveaxis(parts.reshape(array.shape), 0, axis)


def with_twins(build, dtype="float32", told=twins):
    """Return a model of random weights in which a unit says what others do, and samples."""
    keras.utils.set_random_seed(1)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy(before)
    draw = np.random.default_rng(0)
    for variable in model.variables:
        drawn = draw.normal(size=variable.shape) * 0.5
        drawn = np.abs(drawn) + 0.5 if "variance" in variable.name else drawn
        if variable.dtype.startswith(("float", "bfloat")):
            variable.assign(_with_twins_in(variable, drawn, told))
    return model, drawn_for(model, draw)


def _with_twins_in(variable, drawn, told):
    path, last = variable.path, (variable.shape or (0,))[-1]
    if any(part in path for part in ("a/", "add", "norm", "attention_output")) and last == 5:
        drawn = told(drawn, -1)
    if path.startswith("a/") and last == 10:  # in two groups
        drawn = np.concatenate([told(half, -1) for half in np.split(drawn, 2, axis=-1)], -1)
    if "twins" in path and "pointwise" not in path and variable.name != "bias":
        drawn = told(drawn, -2)
    if "twins" in path and variable.name == "bias" and last == 5:
        drawn = told(drawn, -1)
    return drawn


def drawn_for(model, draw, count=SAMPLES):
    x = [draw.normal(size=(count, *each.shape[1:])) for each in model.inputs]
    return x if len(x) > 1 else x[0]


def without_twin(model):
    """Return the plan that takes the twin away."""
    graph = prune_keras.trace(model)
    (path,) = (path for path in graph.producers if path.split("/")[-1] == "a")
    gone = graph.producers[path].neurons[TWIN]
    kept = {p: np.flatnonzero(graph.producers[p].neurons != gone) for p in graph.widths}
    return graph, Plan({p: indices.tolist() for p, indices in kept.items()}, graph.widths)


def refitted(model, graph, plan, data, fuse="sequential"):
    thin = prune_keras.shrink(model, plan)
    repair = Repair.of(model, graph, kept_neurons(graph, plan), data, fuse)
    repair.apply(thin)
    return thin, repair


def closeness(dtype):
    """Return how close a network can come to another one, relative to its largest output."""
    if dtype == "float32":
        return 1e-4
    third = np.full((1, 1), 1 / 3)
    product = ops.convert_to_numpy(ops.matmul(*[ops.convert_to_tensor(third)] * 2))
    return 1e-9 if product == third @ third else 1e-6  # a Keras that rounds products of float64


def apart(one, other, x):
    """Return how far outputs are apart, relative to the largest."""
    found = (keras.tree.flatten(model(x, training=False)) for model in (one, other))
    pairs = [
        [np.asarray(ops.convert_to_numpy(y), "float64") for y in p]
        for p in zip(*found, strict=True)
    ]
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)

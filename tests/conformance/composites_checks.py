"""What must hold of each `composites.Composite`, and a reference that knows nothing of tracing.

The reference is the original model with zeros in place of every weight that a cut takes away.
Which ones these are is read from an equal model that was cut with the numbers of its weights'
entries for values. What divides by a statistic over channels leaves out those that are zero.
"""

import contextlib
import dataclasses
import fnmatch
import itertools
import json
import zipfile

import keras
import numpy as np
from composites import batch, is_natural
from keras import layers, ops
from promises import random_plan

import prune_keras
from prune_keras.callbacks import ProgressivePruning

TOLERANCE = 1e-4


def outputs_of(model, x) -> list[np.ndarray]:
    """Return the outputs for data, whatever structure they come in."""
    made = keras.tree.flatten(model(batch(x), training=False))
    return [np.asarray(ops.convert_to_numpy(y), np.float64) for y in made]


def assert_close(found, expected):
    """Compare relative to the largest output, which is no zero."""
    assert len(found) == len(expected)
    for new, old in zip(found, expected, strict=True):
        assert new.shape == old.shape and np.abs(old).max() > 0
        assert np.abs(new - old).max() <= TOLERANCE * np.abs(old).max()


# What can be reached.


def unreached(graph, model) -> dict[str, int]:
    """Return path -> parameters of all weights along which no prunable neuron lies."""
    free = np.concatenate([f.neurons for f in graph.families]) if graph.families else np.array([])
    weights = {id(weight.variable): weight for weight in graph.weights}
    found = {}
    for variable in model.weights:
        weight = weights.get(id(variable))
        axes = () if weight is None else weight.axes.values()
        if not any(np.isin(ids, free).any() for ids in axes):
            path = variable.path if weight is None else weight.path
            found[path] = found.get(path, 0) + int(np.prod(variable.shape))
    return found


def share_reached(composite, graph, model) -> float:
    """Return the share of parameters that can be reached, of those that are not fixed by nature."""
    missed = unreached(graph, model)
    natural = sum(n for path, n in missed.items() if is_natural(composite, path))
    return 1 - (sum(missed.values()) - natural) / (model.count_params() - natural)


def in_place(composite):
    return composite, composite.build()


def unfolded(composite):
    """Return the composite as a plain functional model, which no code of its own holds back."""
    return dataclasses.replace(composite, counted=()), prune_keras.unfold(composite.build())


WAYS = {"in place": in_place, "unfolded": unfolded}


def check_what_can_be_reached_is(composite, way="in place"):
    """Little but what is fixed by nature is out of reach, and nothing else is fixed."""
    composite, model = WAYS[way](composite)
    graph = prune_keras.trace(model)
    share = share_reached(composite, graph, model)
    assert composite.counted or share >= composite.least_share, (share, unreached(graph, model))
    _check_reasons(composite, graph)


def check_what_is_fixed_has_a_true_reason(composite, way="in place"):
    """Everything fixed is fixed by nature, and for the reason given; all that is told is true."""
    composite, model = WAYS[way](composite)
    _check_reasons(composite, prune_keras.trace(model))


def _check_reasons(composite, graph):
    told = {fixed.path: fixed.reason for fixed in graph.fixed}
    for path, reason in told.items():
        reasons = [r for pattern, r in composite.known if fnmatch.fnmatchcase(path, pattern)]
        assert any(each in reason for each in reasons), (path, reason)
    for pattern, reason in composite.known:
        paths = [path for path in told if fnmatch.fnmatchcase(path, pattern)]
        said = any(reason in told[path] for path in paths)
        # A plain model has other layers in place of some.
        there = any(fnmatch.fnmatchcase(path, pattern) for path in graph.producers)
        known = said or any(reason in note for note in graph.notes)
        assert known or not there, (pattern, told, graph.notes)


# Removed is silenced.


def check_removed_is_silenced(composite, cut, way="in place"):
    """A thin model gives what the original gives without what went, as its weights were sliced."""
    build = lambda: WAYS[way](composite)[1]  # noqa: E731
    model, thin, x = build(), build(), composite.data(2)[0]
    plan = random_plan(model, cut)
    kept = kept_entries(build(), plan)
    prune_keras.shrink_in_place(thin, plan)
    assert thin.count_params() < model.count_params()
    found = outputs_of(thin, x)
    with silenced(model, kept):
        assert_close(found, outputs_of(model, x))


def kept_entries(model, plan) -> list[np.ndarray]:
    """Return which entries of each weight a plan keeps; the model is of no use after it."""
    shapes = [tuple(variable.shape) for variable in model.weights]
    for variable in model.weights:
        numbers = _first(variable.shape) + np.arange(np.prod(variable.shape))
        variable.assign(numbers.reshape(variable.shape).astype(variable.dtype))
    prune_keras.shrink_in_place(model, plan)
    values = [np.asarray(ops.convert_to_numpy(v.value), np.float64) for v in model.weights]
    return [_mask(value, shape) for value, shape in zip(values, shapes, strict=True)]


def _first(shape: tuple) -> int:
    """Return the number of the first entry: twice the number of one is that of none."""
    return 16 * int(np.prod(shape))


def _mask(numbers: np.ndarray, shape: tuple) -> np.ndarray:
    """Return booleans of a shape from what is left of the numbers of its entries.

    Weights that make up for what an attention divides by are scaled by the root of a fraction.
    """
    mask = np.zeros(int(np.prod(shape)), bool)
    for up, down in itertools.product(range(1, 33), repeat=2):
        entries = numbers * np.sqrt(up / down) - _first(shape)
        places = entries.round().astype(int).reshape(-1)
        if np.allclose(entries.reshape(-1), places, rtol=0, atol=0.05):
            if 0 <= places.min(initial=0) and places.max(initial=0) < len(mask):
                mask[places] = True
                return mask.reshape(shape)
    raise AssertionError(f"what is left of {shape} is no slice")


@contextlib.contextmanager
def silenced(model, kept):
    """Set to zero what is not kept, and let statistics over channels leave it out, for a while."""
    before = [np.array(ops.convert_to_numpy(v.value)) for v in model.weights]
    for variable, value, mask in zip(model.weights, before, kept, strict=True):
        variable.assign(value * mask)
    with over_what_is_left():
        yield
    for variable, value in zip(model.weights, before, strict=True):
        variable.assign(value)


@contextlib.contextmanager
def over_what_is_left():
    """Let what divides by a statistic over the last axis leave out channels that are all zero."""
    numpy = keras.src.backend.numpy  # what operations of graphs call, too
    mean, largest = numpy.mean, numpy.max
    norms = {layers.LayerNormalization: _layer_norm, layers.RMSNormalization: _rms_norm}
    calls = {kind: kind.call for kind in norms}

    def is_last(x, axis):
        axes = [] if axis is None else np.atleast_1d(axis).tolist()
        return axes in ([-1], [len(x.shape) - 1])

    def mean_of(x, axis=None, keepdims=False):
        left = ops.sum(ops.cast(_left(x), x.dtype)) if is_last(x, axis) else x.shape[-1]
        return mean(x, axis, keepdims) * (x.shape[-1] / left)

    def largest_of(x, axis=None, keepdims=False, initial=None):
        return largest(ops.where(_left(x), x, -1e9) if is_last(x, axis) else x, axis, keepdims)

    try:
        numpy.mean, numpy.max = mean_of, largest_of
        for kind, call in norms.items():
            kind.call = call
        yield
    finally:
        numpy.mean, numpy.max = mean, largest
        for kind, call in calls.items():
            kind.call = call


def _left(x):
    return ops.any(x != 0, axis=tuple(range(len(x.shape) - 1)))


def _layer_norm(layer, x):
    left = ops.cast(layer.gamma != 0, x.dtype)
    mean = ops.sum(x * left, -1, keepdims=True) / ops.sum(left)
    rest = (x - mean) * left
    variance = ops.sum(rest**2, -1, keepdims=True) / ops.sum(left)
    return rest * ops.rsqrt(variance + layer.epsilon) * layer.gamma + (
        0 if layer.beta is None else layer.beta
    )


def _rms_norm(layer, x):
    left = ops.cast(layer.scale != 0, x.dtype)
    square = ops.sum(x**2 * left, -1, keepdims=True) / ops.sum(left)
    return x * ops.rsqrt(square + layer.epsilon) * layer.scale


# Cut while it is fitted.


def compiled(composite):
    """Return the model, compiled for its own train_step or for numbers of classes or targets."""
    model, y = composite.build(), composite.data(2)[1]
    loss = "mse"
    if y is not None and isinstance(y, np.ndarray) and "int" in str(y.dtype):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", None if composite.by_train_step else loss)
    return model


def check_a_fit_with_cuts(composite):
    model = compiled(composite)
    before, (x, y) = model.count_params(), (composite.fit_data or composite.data)(4)
    pruning = ProgressivePruning(fraction=0.2, criterion="l2", target={"params": 0.7}, verbose=0)
    model.fit(x, y, epochs=4, batch_size=2, verbose=0, callbacks=[pruning])
    assert model.count_params() < before and pruning.rounds
    assert all(np.isfinite(y).all() for y in outputs_of(model, composite.data(2)[0]))
    assert {tuple(v.shape) for v in model.optimizer.variables} <= {
        tuple(v.shape) for v in (*model.weights, *model.optimizer.variables[:2])
    }


# Files that need none of the classes.


def thin_and_plain(composite):
    """Return a thin model that consists of Keras' layers, as `prune` makes it."""
    thin, _ = prune_keras.prune(composite.build(), fraction=0.4, criterion="l2", scope="uniform")
    assert _is_plain(thin)
    return thin


def _is_plain(model) -> bool:
    every = [model, *model._flatten_layers()]
    return all(type(each).__module__.split(".")[0] == "keras" for each in every)


def foreign_modules(path) -> set[str]:
    """Return the modules beside Keras that a `.keras` file names classes of."""
    with zipfile.ZipFile(path) as file:
        return {
            part["module"]
            for part in _dicts(json.loads(file.read("config.json")))
            if (part.get("module") or "keras").split(".")[0] not in ("keras", "builtins")
            or part.get("registered_name")
            and ">" in str(part["registered_name"])
        }


def _dicts(config):
    parts = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict):
        yield config
    if isinstance(config, dict | list):
        for part in parts:
            yield from _dicts(part)


def saved(composite, folder):
    """Save a thin model with inputs and outputs; return its path."""
    thin, x = thin_and_plain(composite), composite.data(2)[0]
    path = folder / f"{composite.name.replace(' ', '_')}.keras"
    thin.save(path)
    assert foreign_modules(path) == set()
    arrays = keras.tree.flatten(x)
    np.savez(path.with_suffix(".npz"), *arrays, *outputs_of(thin, x))
    return path


def check_reads_back(paths):
    """Read files with nothing but Keras; run in a process of its own by the tests."""
    for path in paths:
        model = keras.models.load_model(path)
        arrays = [*np.load(path.with_suffix(".npz")).values()]
        x = keras.tree.pack_sequence_as(model._inputs_struct, arrays[: len(model.inputs)])
        assert_close(outputs_of(model, x), arrays[len(model.inputs) :])


def _keras_file(model, folder, x):
    model.save(folder / "thin.keras")
    return outputs_of(keras.models.load_model(folder / "thin.keras"), x)


def _saved_model(model, folder, x):
    import tensorflow as tf

    model.export(folder / "thin", verbose=False)
    read = tf.saved_model.load(str(folder / "thin"))  # whose variables live as long as it does
    made = read.serve(x)
    return [np.asarray(y, np.float64) for y in keras.tree.flatten(made)]


def _litert(model, folder, x):
    import tensorflow as tf

    model.export(folder / "thin.tflite", format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(model_path=str(folder / "thin.tflite"))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    places = (each["index"] for each in interpreter.get_output_details())
    return [np.asarray(interpreter.get_tensor(place), np.float64) for place in places]


WAYS_OUT = {"keras": _keras_file, "saved model": _saved_model, "litert": _litert}


def check_a_way_out(composite, way, folder):
    """An unfolded thin model gives the same outputs once it was written and read."""
    thin, x = thin_and_plain(composite), composite.data(2)[0]
    assert_close(WAYS_OUT[way](thin, folder, x), outputs_of(thin, x))

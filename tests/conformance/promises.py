"""The promises that pruning makes, as checks of one network.

A network is whatever has `built()`, a context that gives a model, `build()`, which gives an equal
one, and `floatx`: a `networks.Recipe`, or a `zoo.Network`. A check raises
`NothingToCheck` where a network has nothing to remove, or outputs that are infinite.
"""

import json
from dataclasses import replace

import keras
import numpy as np
from networks import outputs_of, samples, train_step, weights_of
from silenced import Silenced

import prune_keras
from prune_keras import _keras
from prune_keras.surgery import capture, restore

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


class NothingToCheck(Exception):
    """A network on which a promise says nothing."""


def must_hold(condition) -> None:
    if not condition:
        raise NothingToCheck


def random_scores(graph, seed):
    rng = np.random.default_rng(seed)
    return {path: rng.uniform(size=width) for path, width in graph.widths.items()}


def random_plan(model, cut, exclude=()):
    """Return a plan that removes something."""
    seed, fraction = cut
    graph = prune_keras.trace(model)
    must_hold(graph.families)
    try:
        scores = random_scores(graph, seed)
        return prune_keras.select(graph, scores, fraction=fraction, exclude=exclude)
    except ValueError as error:
        raise NothingToCheck("nothing to remove") from error


def is_key(path):
    """Tell whether units are the width of keys: queries that make up for it learn otherwise."""
    return path.endswith(":key")


def assert_close(found, expected, floatx):
    """Compare relative to the largest output."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        bound = TOLERANCE[floatx] * max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() <= bound, np.abs(a - b).max() / np.abs(b).max()


# 1. Removed = silenced.


def check_removed_is_silenced(network, cut):
    with network.built() as model:
        plan = random_plan(model, cut)
        reference = Silenced(model, plan)
        x = samples(model)
        expected = reference.outputs(x)
        must_hold(all(np.isfinite(y).all() for y in expected))
        thin = prune_keras.shrink(model, plan)
        assert_close(outputs_of(thin, x), expected, network.floatx)
        for old, new in zip(model.variables, thin.variables, strict=True):
            np.testing.assert_array_equal(reference.sliced(old), np.asarray(new))


# 2. Neurons of a family are alike, and cutting nothing changes nothing.


def permute(graph, family, order):
    """Let the neurons of a family change places, with all weights and constants of theirs."""
    places = dict(zip(family.neurons.tolist(), family.neurons[order].tolist(), strict=True))

    def moved(neurons):
        index = np.arange(len(neurons))
        for old, new in places.items():
            index[neurons == old] = np.flatnonzero(neurons == new)
        return index

    for weight in graph.weights:
        value = np.array(weight.variable)
        for axis, neurons in weight.axes.items():
            value = value.take(moved(neurons), axis)
        weight.variable.assign(value)
    for setting in graph.settings:
        if setting.name == "arguments" and np.isin(setting.neurons, family.neurons).any():
            move_constants(setting.owner, moved(setting.neurons.ravel()))


def move_constants(node, index):
    """Let the entries of arrays that a call was given, one a channel, change places."""

    def moved(value):
        if isinstance(value, keras.KerasTensor) or not np.ndim(value):
            return value
        return keras.ops.take(value, index, axis=tuple(value.shape).index(len(index)))

    given = node.arguments
    args, kwargs = keras.tree.map_structure(moved, (given.args, given.kwargs))
    node.arguments = type(given)(*args, **kwargs)


def check_neurons_can_change_places(network, seed):
    with network.built() as model:
        graph, rng, x = prune_keras.trace(model), np.random.default_rng(seed), samples(model)
        must_hold(graph.families)
        before = outputs_of(model, x)
        must_hold(all(np.isfinite(y).all() for y in before))
        for family in graph.families:
            permute(graph, family, rng.permutation(family.size))
        assert_close(outputs_of(model, x), before, network.floatx)


def check_cutting_nothing_changes_nothing(network):
    with network.built() as model:
        everything = prune_keras.Plan.everything(prune_keras.trace(model).widths)
        before, x = weights_of(model), samples(model)
        outputs = outputs_of(model, x)
        same = prune_keras.shrink(model, everything)
        prune_keras.shrink_in_place(model, everything)
        for each in (same, model):
            np.testing.assert_equal(weights_of(each), before)
            np.testing.assert_equal(outputs_of(each, x), outputs)


# 3. Nothing but the in-place call changes the input model.


def identity(model):
    """Return what must be as before: objects, structure, values, compile state."""
    layers = _keras.all_layers(model)
    return {
        "objects": [id(each) for each in (*layers, *model.variables)],
        "config": json.dumps(model.get_config(), sort_keys=True, default=str),
        "nodes": [(len(la._inbound_nodes), len(la._outbound_nodes)) for la in layers],
        "shapes": [(la.name, [t.shape for t in _outputs(la)]) for la in layers],
        "weights": weights_of(model),
        "trainable": [la.trainable for la in layers],
        "compiled": (model.compiled, id(model.optimizer)),
        "slots": [np.array(v) for v in getattr(model.optimizer, "variables", ())],
        "random": [keras.backend.floatx(), keras.config.dtype_policy().name],
    }


def _outputs(layer):
    return [tensor for node in layer._inbound_nodes for tensor in node.outputs]


def check_the_model_is_as_it_was(network, cut):
    with network.built() as model:
        model.compile(keras.optimizers.Adam(), loss="mse", run_eagerly=True)
        train_step(model)
        x = samples(model)
        outputs, before = outputs_of(model, x), identity(model)
        must_hold(all(np.isfinite(y).all() for y in outputs))
        plan = random_plan(model, cut)
        prune_keras.cost(model)
        prune_keras.score(model, "l1")
        prune_keras.shrink(model, plan)
        prune_keras.prune(model, fraction=0.5, scope="uniform", criterion="random")
        np.testing.assert_equal(identity(model), before)
        np.testing.assert_equal(outputs_of(model, x), outputs)


def check_a_cut_can_be_taken_back(network, cut):
    with network.built() as model:
        model.compile(keras.optimizers.Adam(), loss="mse", run_eagerly=True)
        train_step(model)
        before, x = identity(model), samples(model)
        outputs = outputs_of(model, x)
        plan = random_plan(model, cut)
        state = capture(model, prune_keras.trace(model))
        prune_keras.shrink_in_place(model, plan)
        restore(model, state)
        np.testing.assert_equal(identity(model), before)
        np.testing.assert_equal(outputs_of(model, x), outputs)


# 6. What a user recognizes a model by survives.


def features(model):
    layers = _keras.all_layers(model)
    return {
        "layers": [(la.name, type(la), la.dtype_policy.name, la.trainable) for la in layers],
        "variables": [(v.name, v.dtype, v.trainable) for v in model.variables],
        "signature": [(t.shape, t.dtype) for t in (*model.inputs, *model.outputs)],
        "loss": model.loss,
        "optimizer": model.optimizer.get_config(),
        "metrics": [m.name for m in model.metrics],
    }


def check_what_a_model_is_known_by_survives(network, cut, seed):
    with network.built() as model:
        rng = np.random.default_rng(seed)
        for layer in _keras.all_layers(model)[1:]:
            layer.trainable = bool(rng.integers(2))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5), loss="mse", metrics=["mae"])
        plan = random_plan(model, cut)
        before = features(model)
        thin = prune_keras.shrink(model, plan)
        assert features(thin) == before and type(thin) is type(model)
        held = [*_keras.all_layers(model), *model.variables, model.optimizer]
        prune_keras.shrink_in_place(model, plan)
        assert features(model) == before
        still = [*_keras.all_layers(model), *model.variables, model.optimizer]
        assert [id(each) for each in still] == [id(each) for each in held]
        again = model.__class__.from_config(model.get_config())
        assert [v.shape for v in again.variables] == [v.shape for v in thin.variables]


# 7. Plans compose.


def assert_same_weights(one, other):
    """Compare up to the rounding of a factor that is multiplied in two steps."""
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def check_plans_compose(network, first, second):
    with network.built() as model:
        one = random_plan(model, first)
        between = prune_keras.shrink(model, one)
        two = random_plan(between, second)
        thin = prune_keras.shrink(between, two)
        once = prune_keras.shrink(model, one.then(two))
        assert_same_weights(once, thin)
        prune_keras.shrink_in_place(model, one)
        prune_keras.shrink_in_place(model, two)
        np.testing.assert_equal(weights_of(model), weights_of(thin))
        configs = [config_of(each) for each in (once, thin, model)]
        assert configs[0] == configs[1] == configs[2].replace(model.name, once.name)


def config_of(model) -> str:
    config = json.loads(json.dumps(model.get_config(), default=str))
    return json.dumps(unordered(config))


def unordered(config):
    """Forget the order of a shared layer's calls: Keras' clones make them in one of their own."""
    if isinstance(config, dict):
        found = {key: unordered(value) for key, value in config.items()}
        if len(found.get("inbound_nodes", ())) > 1:
            found["inbound_nodes"].sort(key=json.dumps)
            found.pop("build_config", None)  # of the first call
        return found
    if not isinstance(config, list):
        return config
    names_a_call = len(config) == 3 and [type(each) for each in config] == [str, int, int]
    return [config[0], config[2]] if names_a_call else [unordered(each) for each in config]


def sizes_after(graph, plan):
    """Return the number of neurons that a plan leaves of each family."""
    gone = [np.delete(graph.producers[p].neurons, kept) for p, kept in plan.kept.items()]
    gone = np.concatenate(gone)
    return np.array([np.sum(~np.isin(family.neurons, gone)) for family in graph.families])


# 4 and 9. Costs are foreseen exactly, and whatever cannot be pruned is named.


def bytes_of(weights):
    return sum(keras.ops.convert_to_numpy(variable.value).nbytes for variable in weights)


def check_costs_are_foreseen(network, cut):
    with network.built() as model:
        graph = prune_keras.trace(model)
        assert graph.cost.params == model.count_params()
        for path, producer in graph.producers.items():
            fixed = [f for f in graph.fixed if f.path == path]
            assert sum(f.units for f in fixed) == np.sum(~producer.prunable)
            assert all(f.reason for f in fixed)
        plan = random_plan(model, cut)
        thin = prune_keras.shrink(model, plan)
        foreseen = graph.costs.at(sizes_after(graph, plan))
        found = prune_keras.cost(thin)
        assert found.params == thin.count_params() == foreseen.params
        # Channels that a thin grouped convolution no longer ties count as neurons of their own.
        assert replace(found, neurons=0) == replace(foreseen, neurons=0)
        assert found.weight_bytes == bytes_of(thin.weights)

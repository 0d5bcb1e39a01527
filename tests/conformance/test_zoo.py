"""The promises that pruning makes, over the architectures of the field.

Each run checks what can be pruned and that removed is silenced, for every one of them; the other
promises, which generated networks hold up each time, are for the thorough run.
"""

import keras
import numpy as np
import promises
import promises_in_training
import pytest
import zoo
from networks import outputs_of, packed, runs_channels_first, samples

import prune_keras
from prune_keras import _keras

UNRUN = pytest.mark.skipif(
    not runs_channels_first(2, "float32"), reason="no kernels with channels in front here"
)
NETWORKS = zoo.load()
each_network = pytest.mark.parametrize(
    "network", [pytest.param(network, id=name) for name, network in NETWORKS.items()]
)
each_that_runs = pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, id=name, marks=UNRUN if network.channels_first else ())
        for name, network in NETWORKS.items()
    ],
)
thorough = pytest.mark.slow


@pytest.mark.repeats(30)
@each_network
def test_all_that_can_be_pruned_is(network):
    with network.built() as model:
        graph = prune_keras.trace(model)
        left = {path: int((~made.prunable).sum()) for path, made in graph.producers.items()}
        whole = {path for path, made in graph.producers.items() if not made.prunable.any()}
        assert whole == set(network.fixed)
        partly = {path: units for path, units in left.items() if units and path not in whole}
        assert partly == dict(network.partly)
        assert {fixed.path for fixed in graph.fixed} == whole | {*partly}


@pytest.mark.repeats(30)
@each_network
def test_units_are_neurons_but_for_those_that_must_go_together(network):
    with network.built() as model:
        producers = prune_keras.trace(model).producers
        units = {path: made.neurons[made.prunable] for path, made in producers.items()}
        neurons = {path: len(np.unique(ids)) for path, ids in units.items()}
        tied = {path: count for path, count in neurons.items() if count < len(units[path])}
        assert tied == dict(network.tied)


@pytest.mark.repeats(30)
@each_that_runs
def test_removed_is_silenced(network):
    promises.check_removed_is_silenced(network, (0, 0.5))


@thorough
@each_that_runs
def test_removed_is_silenced_where_most_goes(network):
    promises.check_removed_is_silenced(network, (1, 0.8))


@thorough
@each_that_runs
def test_a_cut_in_training_keeps_the_optimizers_state(network):
    if network.noise or network.over_channels:
        promises_in_training.check_step_after_cut_is_that_of_a_copy(network, (0, 0.5), "adam")
    else:
        promises_in_training.check_step_after_cut(network, (0, 0.5), "adam")


@thorough
@each_that_runs
def test_neurons_of_a_family_can_change_places(network):
    promises.check_neurons_can_change_places(network, 0)


@thorough
@each_that_runs
def test_cutting_nothing_changes_nothing(network):
    promises.check_cutting_nothing_changes_nothing(network)


@thorough
@each_that_runs
def test_a_cut_can_be_taken_back(network):
    promises.check_a_cut_can_be_taken_back(network, (0, 0.5))


@thorough
@each_that_runs
def test_plans_compose(network):
    promises.check_plans_compose(network, (0, 0.5), (1, 0.5))


@thorough
@each_that_runs
def test_costs_are_foreseen_and_all_units_accounted_for(network):
    promises.check_costs_are_foreseen(network, (0, 0.5))


@thorough
@each_that_runs
def test_a_step_trains_every_weight(network):
    promises_in_training.check_a_step_trains_every_weight(network, (0, 0.5))


@pytest.mark.repeats(4)
@each_that_runs
def test_it_is_cut_by_what_is_chosen_by_itself(network):
    """Scored by obs, with widths by the optimal scope, and all weights fitted anew."""
    with network.built() as model:
        x = samples(model, 256)
        outputs = keras.tree.flatten(model.predict(packed(model, x), verbose=0))
        rng = np.random.default_rng(3)
        y = [rng.normal(size=given.shape).astype(given.dtype) for given in outputs]
        model.compile("sgd", "mse")
        data = packed(model, x), keras.tree.pack_sequence_as(_keras.output_structure(model), y)
        thin, report = prune_keras.prune(model, {"params": 0.8}, data=data, data_batch_size=64)
        assert report.scores == "obs, fused sequential"
        assert report.after.params <= 0.8 * report.before.params
        assert all(np.isfinite(given).all() for given in outputs_of(thin, x))

"""What users import by name stays where it is."""

import importlib

import pytest

import prune_keras

MODULES = (
    "cifar10 comparison devices digits images inversion networks pairing photos precision records "
    "runs settings speed vgg16 vgg16_transfer"
)
NAMES = {
    "prune_keras": (
        "Cost Graph Plan Report Sparsity callbacks cost criteria debias dependence diversify "
        "export fit_affine frontier latency models plots prune register_rule schedules score "
        "select sensitivity shrink shrink_in_place sparsify trace"
    ),
    "prune_keras.callbacks": (
        "GroupPenalty ProgressivePruning Round ScaleSparsity ScoreHistory "
        "SensitivityRegularization TargetedDropout"
    ),
    "prune_keras.criteria": (
        "Activations BatchNormScale Discrimination Gradients Mean Oracle Random Reconstruction "
        "Switch WeightGradients activation_std apoz geometric_median get l1 l2 mean_activation "
        "needs_data sensitivity serialize taylor taylor_weights"
    ),
    "prune_keras.debias": (
        "Affine Curve Saving Sensitivity apply flops get l2 max mean median minmax none params "
        "rank robust serialize sum zscore"
    ),
    "prune_keras.schedules": "Constant Cubic Geometric OneShot Schedule due get",
    "prune_keras.frontier": "Point pick read",
    "prune_keras.plots": "history images picture plot_architecture shares widths",
    "prune_keras.tracing": "Labels Tracer Visit cost inside register_rule remember trace",
    "prune_keras.cli": "app main parse_shape parse_targets",
}


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_where_they_were(module):
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("name", MODULES.split())
def test_runs_and_networks_are_where_they_were(name):
    assert importlib.import_module(f"prune_keras.models.{name}")


def test_everything_that_is_listed_is_there():
    assert {*prune_keras.__all__} >= {*NAMES["prune_keras"].split()}
    for name in prune_keras.__all__:
        assert getattr(prune_keras, name) is not None

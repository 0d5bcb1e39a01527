"""Criteria: how much each unit of a layer matters; higher = keep.

A criterion is a function of a kernel laid out as `(inputs, units)` that returns scores `(units,)`,
or a `Criterion`, a frozen record that measures all layers at once. Those that look at samples
reduce what they see while samples pass, so that no activations are kept. A new one is a file here
and a line in the table of `names.py`.
"""

from prune_keras.criteria.activations import Activations, activation_std, apoz, mean_activation
from prune_keras.criteria.criterion import (
    Criterion,
    at_round,
    loses,
    needs_loss,
    needs_targets,
)
from prune_keras.criteria.criterion import needs_samples as needs_data
from prune_keras.criteria.discrimination import Discrimination
from prune_keras.criteria.gradients import (
    Gradients,
    WeightGradients,
    sensitivity,
    taylor,
    taylor_weights,
)
from prune_keras.criteria.names import CRITERIA, Mean, Switch, get, serialize
from prune_keras.criteria.obs import OptimalBrainSurgeon
from prune_keras.criteria.oracle import Oracle
from prune_keras.criteria.reconstruction import Reconstruction
from prune_keras.criteria.weights import BatchNormScale, Random, geometric_median, l1, l2, measured

__all__ = [
    "CRITERIA",
    "Activations",
    "BatchNormScale",
    "Criterion",
    "Discrimination",
    "Gradients",
    "Mean",
    "OptimalBrainSurgeon",
    "Oracle",
    "Random",
    "Reconstruction",
    "Switch",
    "WeightGradients",
    "activation_std",
    "apoz",
    "at_round",
    "geometric_median",
    "get",
    "l1",
    "l2",
    "loses",
    "mean_activation",
    "measured",
    "needs_data",
    "needs_loss",
    "needs_targets",
    "sensitivity",
    "serialize",
    "taylor",
    "taylor_weights",
]

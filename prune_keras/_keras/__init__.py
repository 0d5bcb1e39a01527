"""Everything that touches private Keras, in one place.

Tried on the versions that `tests/test_keras_internals.py` names. Nothing here knows about
pruning: it walks a functional graph, gives variables new values of another shape, and makes the
objects around them (optimizer, compiled functions, clones) follow.
"""

from prune_keras._keras.clones import (
    clone_structure,
    compile_like,
    quiet,
    uncompiled,
    without_optimizer,
)
from prune_keras._keras.graphs import (
    Call,
    all_layers,
    check_model,
    first_input,
    function_of,
    input_structure,
    is_layer,
    kernel_of,
    mask_of,
    models_in,
    nodes_of,
    operations_in,
    output_structure,
    run,
    tolerance,
    unmoved,
    walk,
)
from prune_keras._keras.kernels import Missing, check_runs, missing_kernel
from prune_keras._keras.optimizers import (
    Slot,
    build_optimizer,
    finalize,
    learning_rates,
    optimizer_slots,
    optimizer_variables,
    plain_optimizers,
    same_keys,
    strategy_scope,
    unknown_slots,
)
from prune_keras._keras.own_state import copy_own_state
from prune_keras._keras.reading import unreadable_layer
from prune_keras._keras.running_fit import Fit, is_fitting, running_fit
from prune_keras._keras.sharing import neighbours_of
from prune_keras._keras.state import (
    set_attribute,
    set_value,
    set_value_on_exit,
    shape_attributes,
    with_argument,
)
from prune_keras._keras.training import direction, metrics_of, refresh, sync

__all__ = [
    "Call",
    "Fit",
    "Missing",
    "Slot",
    "all_layers",
    "build_optimizer",
    "check_model",
    "check_runs",
    "clone_structure",
    "compile_like",
    "copy_own_state",
    "direction",
    "finalize",
    "first_input",
    "function_of",
    "input_structure",
    "is_fitting",
    "is_layer",
    "kernel_of",
    "learning_rates",
    "mask_of",
    "metrics_of",
    "missing_kernel",
    "models_in",
    "neighbours_of",
    "nodes_of",
    "operations_in",
    "optimizer_slots",
    "optimizer_variables",
    "output_structure",
    "plain_optimizers",
    "quiet",
    "refresh",
    "run",
    "running_fit",
    "same_keys",
    "set_attribute",
    "set_value",
    "set_value_on_exit",
    "shape_attributes",
    "strategy_scope",
    "sync",
    "tolerance",
    "uncompiled",
    "unmoved",
    "unreadable_layer",
    "without_optimizer",
    "unknown_slots",
    "walk",
    "with_argument",
]

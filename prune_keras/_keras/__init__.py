"""Everything that touches private Keras, in one place.

Tried on the versions that `tests/test_keras_internals.py` names. Nothing here knows about
pruning: it walks a functional graph, gives variables new values of another shape, and makes the
objects around them (optimizer, compiled functions, clones) follow.
"""

from prune_keras._keras.clones import (
    clone_structure,
    compile_like,
    quiet,
    settle,
    uncompiled,
    without_optimizer,
)
from prune_keras._keras.graphs import (
    Call,
    all_layers,
    check_model,
    first_input,
    function_of,
    is_layer,
    kernel_of,
    mask_of,
    models_in,
    nodes_of,
    operations_in,
    output_structure,
    padded,
    run,
    sample_inputs,
    tolerance,
    walk,
    with_mask_of,
)
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
from prune_keras._keras.undisturbed import give_losses, losses_of, passing, undisturbed

__all__ = [
    "Call",
    "Fit",
    "Slot",
    "all_layers",
    "build_optimizer",
    "check_model",
    "clone_structure",
    "compile_like",
    "direction",
    "finalize",
    "give_losses",
    "first_input",
    "function_of",
    "is_fitting",
    "is_layer",
    "kernel_of",
    "learning_rates",
    "losses_of",
    "mask_of",
    "metrics_of",
    "models_in",
    "neighbours_of",
    "nodes_of",
    "operations_in",
    "optimizer_slots",
    "optimizer_variables",
    "output_structure",
    "padded",
    "passing",
    "plain_optimizers",
    "quiet",
    "refresh",
    "run",
    "running_fit",
    "same_keys",
    "sample_inputs",
    "set_attribute",
    "set_value",
    "set_value_on_exit",
    "settle",
    "shape_attributes",
    "strategy_scope",
    "sync",
    "tolerance",
    "uncompiled",
    "undisturbed",
    "without_optimizer",
    "unknown_slots",
    "walk",
    "with_argument",
    "with_mask_of",
]

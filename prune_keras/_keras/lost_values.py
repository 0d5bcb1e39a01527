"""Values that Keras on JAX takes out of variables while it trains, and loses if a step fails."""

from __future__ import annotations

from typing import Any

import keras

from prune_keras._keras.failing_fit import on_failure
from prune_keras._keras.state import is_lost


def keep_values(model: Any) -> None:
    """Give variables that a failed `fit` left without a value the one that they have now.

    Only a first step can leave them so: what the steps before a later one made, Keras knows. The
    arrays are not copied, and JAX frees them once they were trained from.

    Args:
        model: whose `fit` runs.
    """
    if keras.backend.backend() != "jax":
        return
    trained = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    held = [(variable, variable.value) for variable in trained]

    def put_back() -> None:
        for variable, value in held:
            if is_lost(variable) and not value.is_deleted():
                variable.assign(value)

    on_failure(model, put_back)

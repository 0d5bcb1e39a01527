"""Private Keras, training: compiled functions, and directions of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prune_keras import _backend
from prune_keras._keras.graphs import all_layers, models_in
from prune_keras._keras.sharing import neighbours_of


def refresh(model: Any, views: Sequence[Any] | None = None) -> None:
    """Make compiled functions follow variables that got new values.

    Args:
        model: the model whose variables they are.
        views: living models that show a part of its graph. Defaults to None: looked for.
    """
    if views is None:
        views = neighbours_of(model).views
    for layer in all_layers(model):
        if hasattr(layer, "_torch_params"):
            layer._track_variables()
    trained = getattr(model, "train_function", None) is not None
    for nested in [*models_in(model), *views]:
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(nested, name, None) is not None:
                _backend.dispose(getattr(nested, name))
                setattr(nested, name, None)
    if trained:
        model.make_train_function()


def sync(model: Any) -> None:
    """Bring back into the model what a running JAX `fit` holds outside of it."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
        model._jax_state = None  # else Keras would assign it again, in old shapes, if `fit` fails


def direction(model: Any, monitor: str) -> str:
    """Return `"max"` or `"min"` for a metric of the model, as Keras' own callbacks infer it."""
    name = monitor.removeprefix("val_")
    if name == "loss":
        return "min"
    known = {m.name: getattr(m, "_direction", None) for m in metrics_of(model)}
    found = known.get(name) or ("up" if name.endswith(("acc", "accuracy", "auc")) else None)
    if found is None:
        raise ValueError(
            f"`mode` must be given for this metric. Received: monitor={monitor!r}, mode='auto', "
            f"while the model's metrics are {sorted(known)}. Pass mode='min' or mode='max'."
        )
    return "max" if found == "up" else "min"


def metrics_of(model: Any) -> list:
    """Return the model's metrics, those that `compile` got included."""
    found: list[Any] = []
    for metric in getattr(model, "metrics", ()):
        found += getattr(metric, "metrics", None) or [metric]
    return found

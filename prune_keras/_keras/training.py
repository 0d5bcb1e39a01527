"""Private Keras, training: compiled functions, and what a step logs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from keras.src.trainers.compile_utils import CompileLoss, CompileMetrics

from prune_keras import _backend
from prune_keras._keras.graphs import all_layers, models_in, module_of, output_structure
from prune_keras._keras.sharing import neighbours_of
from prune_keras._keras.state import is_lost
from prune_keras._keras.steps import is_surrounded

# The last one is that of KerasHub's language models, which make it anew as Keras does the others.
_COMPILED = ("train_function", "test_function", "predict_function", "generate_function")


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
        for name in _COMPILED:
            if getattr(nested, name, None) is not None:
                _backend.dispose(getattr(nested, name))
                setattr(nested, name, None)
    # A step that failed may have left nothing to make it of; the next `fit` makes it anew.
    if trained and not any(map(is_lost, model.variables)):
        model.make_train_function()


def sync(model: Any) -> None:
    """Bring back into the model what a running JAX `fit` holds outside of it."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
        model._jax_state = None  # else Keras would assign it again, in old shapes, if `fit` fails


@dataclass(frozen=True)
class Logs:
    """What a step of a model logs.

    Args:
        directions: name -> `"up"` where more is better, `"down"` where less is, None if the metric
            does not tell.
        complete: whether these are all names; what a model computes in ways of its own, or what
            Keras tells with the first batch only, is not known.
    """

    directions: dict[str, str | None]
    complete: bool


def logs_of(model: Any) -> Logs:
    """Return the names that training logs, without `val_`, before Keras has made the metrics."""
    names: dict[str, str | None] = {"loss": "down"}
    complete = not any(_is_own(model, name) for name in _STEPS)
    for held in getattr(model, "metrics", ()):
        if not isinstance(held, CompileMetrics):
            names.setdefault(held.name, getattr(held, "_direction", None))
            complete = complete and _is_scalar(held)
    try:
        names |= dict.fromkeys(_losses(model), "down")
        compiled = _compiled_metrics(model)
    except Exception:  # what Keras cannot make it tells better itself, with the first batch
        return Logs(names, False)
    names |= {name: getattr(metric, "_direction", None) for name, metric in compiled.items()}
    return Logs(names, complete and all(_is_scalar(metric) for metric in compiled.values()))


def loss_weights_of(model: Any) -> Any:
    """Return the weights of losses that a model is compiled with, as they were given; or None."""
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)


_STEPS = (
    "train_step",
    "test_step",
    "compute_metrics",
    "get_metrics_result",
    "make_train_function",
    "make_test_function",
    "evaluate",
    "metrics",
)


def _is_own(model: Any, name: str) -> bool:
    """Tell whether a model does something in another way than Keras."""
    held = vars(model).get(name)
    if is_surrounded(held):
        return not module_of(held).startswith("keras.")  # the module of what it is around
    found = (vars(kind)[name] for kind in type(model).__mro__ if name in vars(kind))
    defined = next(found, None)
    module = module_of(getattr(defined, "fget", defined))
    return name in vars(model) or not module.startswith("keras.")


def _is_scalar(metric: Any) -> bool:
    """Tell whether a metric is sure to log one entry, under its name."""
    if module_of(type(metric)).startswith("keras."):
        return True
    try:
        return not isinstance(metric.result(), dict)
    except Exception:  # some can tell only after a batch
        return False


def _losses(model: Any) -> list[str]:
    """Return the names under which Keras logs several losses; a single one is the loss."""
    made = getattr(model, "_compile_loss", None)
    if made is not None and not made.built:
        outputs = output_structure(model)
        made = CompileLoss(made._user_loss, made._user_loss_weights, output_names=made.output_names)
        made.build(outputs, outputs)
    return [] if made is None else [each.name for each in made.metrics]


def _compiled_metrics(model: Any) -> dict[str, Any]:
    """Return the metrics that `compile` got, by the names under which Keras logs them."""
    made = getattr(model, "_compile_metrics", None)
    if made is None:
        return {}
    if not made.built:
        outputs = output_structure(model)
        made = CompileMetrics(
            made._user_metrics, made._user_weighted_metrics, output_names=made.output_names
        )
        made.build(outputs, outputs)
    found: dict[str, Any] = {}
    for flat, weighted in ((made._flat_metrics, ""), (made._flat_weighted_metrics, "weighted_")):
        for held in filter(None, flat):
            for metric in held.metrics:
                found[_free_name(metric.name, held.output_name, weighted, found)] = metric
    return found


def _free_name(name: str, output: str | None, weighted: str, taken: Collection[str]) -> str:
    """Return the name under which Keras logs a metric beside those that it has named before."""
    of_output = f"{output}_" if output else ""
    full = f"{of_output}{name}"
    if full in taken and weighted:
        full = f"{of_output}{weighted}{name}"
    same = sum(other == full or other.removeprefix(f"{full}_").isdigit() for other in taken)
    return full if full not in taken else f"{full}_{same}"


def direction(model: Any, monitor: str) -> str:
    """Return `"max"` or `"min"` for a metric of the model, as Keras' own callbacks infer it."""
    name, known = monitor.removeprefix("val_"), logs_of(model).directions
    found = known.get(name) or ("up" if name.endswith(("acc", "accuracy", "auc")) else None)
    if found is None:
        raise ValueError(
            f"`mode` must be given for this metric. Received: monitor={monitor!r}, mode='auto', "
            f"while the model's metrics are {sorted(known)}. Pass mode='min' or mode='max'."
        )
    return "max" if found == "up" else "min"

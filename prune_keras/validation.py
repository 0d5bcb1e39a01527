"""Checks of what a user passes in, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from prune_keras import _keras


def named(argument: str, name: Any, known: Mapping[str, Any], instead: str) -> Any:
    """Return what a name stands for.

    Args:
        argument: the argument that it was passed as.
        name: the name.
        known: name -> what it stands for.
        instead: what else the argument may be.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(name, str) and name in known:
        return known[name]
    raise ValueError(
        f"`{argument}` must be one of {sorted(known)} or {instead}. Received: {argument}={name!r}."
    )


def check_model(model: Any) -> None:
    """Raise a ValueError unless the model is a built, floating-point graph of layers."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: model={model!r}. "
            "Load it with keras.models.load_model first."
        )
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"The model must be built. Received: Sequential model {model.name!r} without weights. "
            "Add a keras.Input as its first layer, or call model.build(input_shape)."
        )
    if _keras.function_of(model) is None:
        raise ValueError(
            "The model must be functional or Sequential, since a graph of layers is needed. "
            f"Received: {model.name!r}, an instance of {type(model).__name__} with a `call` of its "
            "own. Rebuild it as keras.Model(inputs, outputs)."
        )
    for layer in _keras.all_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                f"The model must have floating-point weights. Received: layer {layer.name!r} "
                f"quantized to {layer.quantization_mode!r}. Prune first, quantize afterwards."
            )

"""Private Keras, adopting: layers made of variables that exist, attributes changed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv

from prune_keras._keras.graphs import all_layers, function_of, module_of


def adopt(layer: Any, attributes: dict[str, Any], taken: tuple) -> Any:
    """Return a layer that is built with variables that exist already.

    Args:
        layer: a layer that is not built.
        attributes: name -> variable, or None.
        taken: shape of what it is called on.
    """
    for name, value in attributes.items():
        setattr(layer, name, value)
    layer.built = True
    layer._build_shapes_dict = {"input_shape": taken}
    layer._lock_state()
    return layer


def has_foreign_activation(layer: Any) -> bool:
    """Tell whether a layer of Keras calls a function of somebody else's on its units."""
    kinds = (keras.layers.Dense, keras.layers.EinsumDense, BaseConv, BaseDepthwiseConv)
    function = getattr(layer, "activation", None)
    if type(layer).__module__.split(".")[0] != "keras" or not isinstance(layer, kinds):
        return False
    return function is not None and not module_of(function).startswith("keras.")


def without_activation(layer: Any) -> Any:
    """Return a layer of the same variables and name that calls no activation."""
    with changed([(layer, "activation", keras.activations.linear)]):
        linear = type(layer).from_config(layer.get_config())
    held = {n: v for n, v in vars(layer).items() if isinstance(v, keras.Variable)}
    held.setdefault("bias", None)  # behind the kernel, as where a layer is built
    return adopt(linear, held, tuple(layer._build_shapes_dict["input_shape"]))


def as_if_shaped(variable: Any, shape: tuple) -> list[tuple[Any, str, Any]]:
    """Return the attributes by which a variable would look as if it had another shape."""
    return [
        (variable, "_shape", shape),
        (variable, "_value", keras.ops.zeros(shape, dtype=variable.dtype)),
    ]


def checking_inputs(layer: Any) -> list:
    """Return the layers in a layer that check the shapes of what they are called on."""
    return [
        each
        for each in all_layers(layer)
        if function_of(each) is None and getattr(each, "input_spec", None) is not None
    ]


@contextlib.contextmanager
def changed(attributes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Give objects other attributes within.

    Args:
        attributes: (owner, name, value) triples.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in attributes]
    try:
        for owner, name, value in attributes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)

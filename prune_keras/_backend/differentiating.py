"""Backends, differentiating: gradients of inputs and variables, of first and second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


def without_gradients(function: Callable) -> Callable:
    """Keep a backend that records operations as they run from doing so."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()(function)
    return function


def gradients(function: Callable[[Any], Any], arguments: Any) -> Any:
    """Return the gradients of a scalar function of tensors.

    Args:
        function: from a dict of tensors to a scalar tensor.
        arguments: the dict of tensors.

    Returns:
        A dict of tensors of the same shapes.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(arguments)
            value = function(arguments)
        return tape.gradient(value, arguments, unconnected_gradients="zero")
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(arguments)
    import torch

    arguments = {key: value.detach().requires_grad_() for key, value in arguments.items()}
    found = torch.autograd.grad(function(arguments), list(arguments.values()))
    return dict(zip(arguments, found, strict=True))


def variable_gradients(
    function: Callable[[], Any], variables: Sequence[Any], others: Sequence[Any]
) -> list[Any]:
    """Return the gradients of a scalar function by some variables that it reads.

    Args:
        function: takes nothing and returns a scalar tensor.
        variables: Keras variables.
        others: all Keras variables that the function reads, these among them.

    Returns:
        A tensor of its shape for each of `variables`, zeros where the function does not depend on
        it.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            value = function()
        return tape.gradient(value, values, unconnected_gradients="zero")
    if keras.backend.backend() == "jax":
        import jax

        held = [(v, v.value) for v in others]

        def of_values(values: list) -> Any:
            pairs = [*held, *zip(variables, values, strict=True)]
            with keras.StatelessScope(pairs, collect_losses=True):
                return function()

        return jax.grad(of_values)([v.value for v in variables])
    import torch

    values = [variable.value.requires_grad_(True) for variable in variables]
    found = torch.autograd.grad(function(), values, allow_unused=True)
    frozen = [value for value, v in zip(values, variables, strict=True) if not v.trainable]
    for value in frozen:
        value.requires_grad_(False)
    return [torch.zeros_like(v) if g is None else g for v, g in zip(values, found, strict=True)]


def second_derivatives(function: Callable[[Any], Any], arguments: Any) -> tuple[Any, Any]:
    """Return the gradients of a scalar function of scalars, and the gradients of these.

    Each row of second ones is a product of the function's Hessian with a vector.

    Args:
        function: from a dict of scalar tensors to a scalar tensor.
        arguments: the dict of tensors.

    Returns:
        A dict of scalars, and a dict of dicts of them.
    """
    if keras.backend.backend() == "tensorflow":
        return _second_of_tensorflow(function, arguments)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(arguments), jax.hessian(function)(arguments)
    import torch

    with torch.enable_grad():
        arguments = {key: value.detach().requires_grad_() for key, value in arguments.items()}
        given = list(arguments.values())
        first = torch.autograd.grad(function(arguments), given, create_graph=True)
        rows = [torch.autograd.grad(g, given, retain_graph=True, allow_unused=True) for g in first]
    zero = torch.zeros_like(first[0])
    second = {
        key: dict(zip(arguments, (zero if g is None else g for g in row), strict=True))
        for key, row in zip(arguments, rows, strict=True)
    }
    return {key: g.detach() for key, g in zip(arguments, first, strict=True)}, second


def _second_of_tensorflow(function: Callable[[Any], Any], arguments: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        outer.watch(arguments)
        first = gradients(function, arguments)
    zero: Any = "zero"
    rows = {k: outer.gradient(g, arguments, unconnected_gradients=zero) for k, g in first.items()}
    return first, rows


def absolute_gradients(function: Callable[[Any], Any], arguments: Any) -> Any:
    """Return the absolute gradients of all entries of a vector, summed over the entries.

    Args:
        function: from a dict of tensors to a tensor `(entries,)`.
        arguments: the dict of tensors.

    Returns:
        A dict of tensors of the same shapes; it takes one backward pass an entry.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(arguments)
            values = tf.unstack(function(arguments))
        zero: Any = "zero"
        found = [tape.gradient(v, arguments, unconnected_gradients=zero) for v in values]
        # What is looked up in a table has a gradient of some of its rows.
        rows = [{key: tf.convert_to_tensor(g) for key, g in each.items()} for each in found]
    elif keras.backend.backend() == "jax":
        import jax

        values, pull = jax.vjp(function, arguments)
        rows = [pull(row)[0] for row in jax.numpy.eye(len(values), dtype=values.dtype)]
    else:
        rows = _rows_of_torch(function, arguments)
    return {key: sum(ops.abs(row[key]) for row in rows) for key in arguments}


def _rows_of_torch(function: Callable[[Any], Any], arguments: Any) -> list[Any]:
    import torch

    with torch.enable_grad():
        given = {key: value.detach().requires_grad_() for key, value in arguments.items()}
        held = list(given.values())
        rows = [
            torch.autograd.grad(value, held, retain_graph=True, allow_unused=True)
            for value in function(given)
        ]
    zeros = [torch.zeros_like(value) for value in held]
    found = [[z if g is None else g for g, z in zip(row, zeros, strict=True)] for row in rows]
    return [dict(zip(given, row, strict=True)) for row in found]

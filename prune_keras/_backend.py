"""What differs between Keras' backends: compiling a step, and gradients of activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras


def compiled(function: Callable, model: Any) -> Callable:
    """Compile a function of arrays that reads the model's variables.

    Args:
        function: takes and returns structures of tensors. Updates of variables are lost on JAX.
        model: the model whose variables the function reads.

    Returns:
        A function of the same arguments.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True, autograph=False)
    if keras.backend.backend() == "jax":
        return _jitted(function, model.variables)
    return function


def _jitted(function: Callable, variables: Sequence[Any]) -> Callable:
    import jax

    @jax.jit
    def stateless(values: list, *arguments: Any) -> Any:
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(*arguments)

    return lambda *arguments: stateless([v.value for v in variables], *arguments)


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


def eagerly() -> contextlib.AbstractContextManager:
    """Return a context in which operations run at once, even where a function is being traced."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()
    if keras.backend.backend() == "jax":
        import jax

        return jax.ensure_compile_time_eval()
    return contextlib.nullcontext()

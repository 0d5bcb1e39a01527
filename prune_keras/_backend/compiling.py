"""Backends, compiling: functions and steps, compiled, run eagerly, and freed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from prune_keras._backend.parallel import mesh_of


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

        traced = tf.function(function, reduce_retracing=True, autograph=False)
        # TensorFlow would warn: the same code is compiled anew for every thinner model.
        traced._omit_frequent_tracing_warning = True
        return traced
    if keras.backend.backend() == "jax":
        return _jitted(function, model.variables)
    return function


def _jitted(function: Callable, variables: Sequence[Any]) -> Callable:
    import jax

    mesh = mesh_of(variables)
    # Else the compiler may leave what is given in parts, which other processes hold.
    whole = None if mesh is None else jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    @functools.partial(jax.jit, out_shardings=whole)
    def stateless(values: list, *arguments: Any) -> Any:
        with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True):
            return function(*arguments)

    return lambda *arguments: stateless([v.value for v in variables], *arguments)


FEW = 4


def is_worth_compiling(calls: float | None) -> bool:
    """Tell whether a function without gradients is compiled for so many calls; None is unknown.

    On TensorFlow, making a graph takes as long as some ten calls of the operations one by one lose
    to it. On JAX, operations that run one by one are compiled too, each for itself. PyTorch
    compiles nothing.
    """
    return keras.backend.backend() != "tensorflow" or calls is None or calls > FEW


def eagerly() -> contextlib.AbstractContextManager:
    """Return a context in which operations run at once, even where a function is being traced."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()
    if keras.backend.backend() == "jax":
        import jax

        return jax.ensure_compile_time_eval()
    return contextlib.nullcontext()


def dispose(function: Any) -> None:
    """Free what a compiled function of Keras holds; it must not be called any more.

    TensorFlow's graphs are reference cycles that Python cannot collect. It takes them apart itself
    where a function is not called inside of another one; Keras' training step is. It also keeps
    custom gradients, and through them their graph, under a name forever.
    """
    if keras.backend.backend() != "tensorflow":
        return
    from tensorflow.python.framework import func_graph, ops

    for traced in _traced_functions(function):
        for graph in [concrete.graph for concrete in traced._list_all_concrete_functions()]:
            for name in _custom_gradients(graph):
                ops.gradient_registry._registry.pop(name, None)
            func_graph.dismantle_func_graph(graph)


def _custom_gradients(graph: Any) -> list[str]:
    """Return the names of gradients that operations of a graph registered for themselves."""
    definitions = [operation.node_def.attr for operation in graph.get_operations()]
    names = [d["_gradient_op_type"].s.decode() for d in definitions if "_gradient_op_type" in d]
    return [name for name in names if name.startswith("CustomGradient-")]


def _traced_functions(function: Any) -> list[Any]:
    """Return the `tf.function`s that Keras, or this package, made a function of."""
    if hasattr(function, "_list_all_concrete_functions"):
        inner = _traced_functions(function.python_function)
        return [function, *inner] if _is_ours(function.python_function) else []
    cells = getattr(function, "__closure__", None) or () if _is_ours(function) else ()
    return [traced for cell in cells for traced in _traced_functions(cell.cell_contents)]


def _is_ours(function: Any) -> bool:
    module = getattr(function, "__module__", None) or ""
    return module.startswith(("keras.", "prune_keras."))

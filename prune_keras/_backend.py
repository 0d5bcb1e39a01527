"""What differs between Keras' backends: compiling and freeing steps, gradients, slices, kernels."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


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


def take(value: Any, indices: Any, axis: int) -> Any:
    """Return the entries of a tensor at indices of 0 and more along an axis.

    On TensorFlow `keras.ops.take` looks for negative indices, which takes longer than the slice.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(value, indices, axis=axis)
    return keras.ops.take(value, indices, axis=axis)


def renewed(held: Any, value: Any) -> Any:
    """Return what a Keras variable is to hold in place of what it holds, for a value of any shape.

    TensorFlow makes an operation for each new pair of name and shape, which takes longer than the
    cut of most weights. So all plain variables are made under one name, and get theirs afterwards.
    """
    if keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf
    from tensorflow.python.ops.resource_variable_ops import ResourceVariable

    if type(held) is not ResourceVariable:
        return value
    made = tf.Variable(
        value,
        trainable=held.trainable,
        name="renewed",
        aggregation=held.aggregation,
        synchronization=held.synchronization,
    )
    if type(made) is ResourceVariable:
        made._handle_name = held._handle_name
    return made


def own_array(value: Any) -> np.ndarray:
    """Return what a variable holds as an array of its own memory, without a second copy meanwhile.

    Some backends hand out their memory, which the next training step writes to. Keras copies what
    TensorFlow has copied already.
    """
    is_copied = keras.backend.backend() == "tensorflow"
    held = np.asarray(value) if is_copied else ops.convert_to_numpy(value)
    return held if held.flags.owndata else np.array(held)


def retire(held: Any) -> None:
    """Let functions fail that were compiled with what a Keras variable held, and hold it still.

    TensorFlow's functions keep the variables that they were traced with. A user's own one would go
    on reading, and training, values that the model has left; without any it is an error.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    for each in getattr(held, "values", (held,)):
        if hasattr(each, "handle"):
            tf.raw_ops.AssignVariableOp(resource=each.handle, value=_nothing(each.dtype))


@functools.cache
def _nothing(dtype: Any) -> Any:
    """Return a tensor of TensorFlow without entries, which takes longer to make than to assign."""
    import tensorflow as tf

    return tf.zeros((0,), dtype)


def eagerly() -> contextlib.AbstractContextManager:
    """Return a context in which operations run at once, even where a function is being traced."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()
    if keras.backend.backend() == "jax":
        import jax

        return jax.ensure_compile_time_eval()
    return contextlib.nullcontext()


def optimizer_types() -> tuple[type, ...]:
    """Return the types of optimizers that have state of their own for variables."""
    if keras.backend.backend() == "torch":
        import torch

        return keras.optimizers.Optimizer, torch.optim.Optimizer
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return keras.optimizers.Optimizer, tf.compat.v1.train.Optimizer
    return (keras.optimizers.Optimizer,)


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


@functools.cache
def has_kernel(
    operation: str, rank: int, data_format: str, dtype: str, dilated: bool, grouped: bool
) -> bool:
    """Tell whether this machine computes an operation; it is tried once, and the answer kept.

    TensorFlow has no kernels for channels in front on processors where it runs without oneDNN,
    and none for some types. Other backends compile what they are asked for.

    Args:
        operation: name of the operation in `keras.ops`.
        rank: number of spatial axes.
        data_format: `"channels_last"` or `"channels_first"`.
        dtype: type it is computed in.
        dilated: whether the kernel is spread.
        grouped: whether channels are convolved in groups.
    """
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    channels, spatial = 2, [4] * rank
    first = data_format == "channels_first"
    with eagerly():
        x = ops.ones((1, channels, *spatial) if first else (1, *spatial, channels), dtype)
        try:
            _tried(operation, x, [2] * rank, data_format, 2 if dilated else 1, grouped)
        except (tf.errors.OpError, NotImplementedError):
            return False
    return True


def _tried(
    operation: str, x: Any, size: list[int], data_format: str, dilation: int, grouped: bool
) -> None:
    kernel = ops.ones((*size, 1 if grouped else 2, 2), x.dtype)
    options = {"data_format": data_format}
    if operation.endswith("pool"):
        getattr(ops, operation)(x, tuple(size), **options)
    elif operation == "separable_conv":
        pointwise = ops.ones((*[1] * len(size), 4, 2), x.dtype)
        ops.separable_conv(x, kernel, pointwise, dilation_rate=dilation, **options)
    else:
        getattr(ops, operation)(x, kernel, dilation_rate=dilation, **options)


def mean_over_positions(values: Any) -> Any:
    """Average `(batch, positions, units)` over positions, to `(batch, units)` in float32.

    A product by ones: on a CPU, TensorFlow takes several times longer to sum over a middle axis. On
    a GPU it may round each value to eleven bits, so it is not for differences of averages.
    """
    values = ops.cast(values, "float32")
    count = ops.shape(values)[1]
    return ops.matmul(ops.ones((1, count)), values)[:, 0] / ops.cast(count, "float32")


TOGETHER, UNITS = 1024, 16


def sum_of_rows(rows: Any) -> Any:
    """Add up `(rows, units)`, to `(units,)`.

    On a CPU, TensorFlow takes twice as long to sum many units over the first axis as for products
    of some rows by ones, and rounds one row after another. A GPU may round what it multiplies to
    eleven bits.
    """
    count, units = ops.shape(rows)[0], rows.shape[1] or 0
    if (isinstance(count, int) and count < TOGETHER) or units < UNITS or not _sums_by_products():
        return ops.sum(rows, axis=0)
    whole = count // TOGETHER * TOGETHER
    parts = ops.reshape(rows[:whole], (-1, TOGETHER, units))
    sums = ops.matmul(ops.ones((1, TOGETHER), dtype=rows.dtype), parts)
    return ops.sum(sums, axis=(0, 1)) + ops.sum(rows[whole:], axis=0)


@functools.cache
def _sums_by_products() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return {device.device_type for device in tf.config.list_physical_devices()} == {"CPU"}


def random_state() -> Any:
    """Return the state of the backend's own random numbers as lists; None where it has none."""
    if keras.backend.backend() == "tensorflow":
        drawn = _seeds_of_operations()
        return None if drawn is None else [*drawn.getstate()]
    if keras.backend.backend() == "torch":
        import torch

        return torch.get_rng_state().tolist()
    return None


def set_random_state(state: Any) -> None:
    """Bring back what `random_state` returned."""
    if keras.backend.backend() == "tensorflow":
        drawn = _seeds_of_operations()
        if drawn is not None and state is not None:
            version, numbers, gauss = state
            drawn.setstate((version, tuple(numbers), gauss))
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))


def _seeds_of_operations() -> Any:
    """Return what TensorFlow draws the seeds of operations from, once a seed was set."""
    from tensorflow.python.eager import context

    return getattr(context.context(), "_rng", None)


def several_workers(model: Any) -> str | None:
    """Return by what a model is trained in several processes that would cut it by themselves.

    None is returned for one process, and for those of JAX that hold one model whole, together.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        strategy = getattr(model, "distribute_strategy", None)
        names = ("MultiWorkerMirroredStrategy", "ParameterServerStrategy")
        for name in names:  # by which TensorFlow knows them; the classes have others
            older = getattr(tf.distribute.experimental, name)
            if isinstance(strategy, (getattr(tf.distribute, name), older)):
                return name
        return None
    if keras.backend.backend() == "jax":
        import jax

        count = jax.process_count()
        held = [variable.value for variable in model.variables] if count > 1 else []
        is_one = all(v.is_fully_replicated and not v.is_fully_addressable for v in held)
        return None if is_one else f"{count} processes of JAX"
    import torch.distributed as torch_distributed

    is_one = not (torch_distributed.is_available() and torch_distributed.is_initialized())
    count = 1 if is_one else torch_distributed.get_world_size()
    return f"{count} processes of torch.distributed" if count > 1 else None


def processes() -> tuple[int, int]:
    """Return how many processes share the work on what Keras makes now, and this one's place.

    A process of JAX whose models lie on devices of its own is one by itself.
    """
    distribution = keras.backend.backend() == "jax" and keras.distribution.distribution()
    if not distribution:
        return 1, 0
    import jax

    held = {device.process_index for device in distribution.device_mesh.backend_mesh.devices.flat}
    return (jax.process_count(), jax.process_index()) if len(held) > 1 else (1, 0)


def own_part(data: Any) -> Any:
    """Return what of a dataset a process reads: of one of tf.data that Keras shares out, a part."""
    shares = processes()[0] > 1 and hasattr(data, "cardinality")
    distribution = keras.distribution.distribution() if shares else None
    return data if distribution is None else distribution.distribute_dataset(data)


def gathered(values: np.ndarray) -> np.ndarray:
    """Return `(processes, values)`: small whole numbers of all processes, which all call this.

    Raises:
        ValueError: if processors may compute ahead, and then exchange in another order than others.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.default_backend() == "cpu" and jax.config.read("jax_cpu_enable_async_dispatch"):
        raise ValueError(
            "Processes on CPUs must compute one step after another to exchange what they found. "
            "Received: jax_cpu_enable_async_dispatch=True. Begin the program with "
            'jax.config.update("jax_cpu_enable_async_dispatch", False).'
        )
    return np.asarray(multihost_utils.process_allgather(values))


def mesh_of(variables: Sequence[Any]) -> Any:
    """Return the mesh of devices of JAX on which variables lie; None if they lie on one device."""
    import jax

    layouts = [getattr(variable.value, "sharding", None) for variable in variables]
    named = [each for each in layouts if isinstance(each, jax.sharding.NamedSharding)]
    return named[0].mesh if named else None


def shared_out(batch: Any, model: Any) -> Any:
    """Lay a batch out over the devices that share the work of a model, if they divide it.

    Those are devices of one process. Several processes, which must do all that they exchange in one
    order, each look at the whole batch.

    Args:
        batch: a structure of tensors `(samples, ...)`, or of None.
        model: the model that is to look at it.
    """
    distribution = keras.backend.backend() == "jax" and keras.distribution.distribution()
    is_shared = distribution and processes()[0] == 1
    if not is_shared or mesh_of(model.variables) != distribution.device_mesh.backend_mesh:
        return batch
    parts = distribution.num_model_replicas

    def laid_out(tensor: Any) -> Any:
        if tensor is None or tensor.shape[0] % parts:
            return tensor
        return keras.distribution.distribute_tensor(
            tensor, distribution.get_data_layout(tensor.shape)
        )

    return keras.tree.map_structure(laid_out, batch)


def devices() -> list[str]:
    """Return the names of the devices that the backend computes on."""
    if keras.backend.backend() == "torch":  # for which Keras lists none
        import torch

        count = torch.cuda.device_count()
        return [f"cuda:{number}" for number in range(count)] or ["cpu"]
    return [str(device) for device in keras.distribution.list_devices()]

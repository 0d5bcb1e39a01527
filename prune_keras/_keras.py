"""Everything that touches private Keras, in one place.

Tried on the versions that `tests/test_keras_internals.py` names. Nothing here knows about
pruning: it walks a functional graph, gives variables new values of another shape, and makes the
objects around them (optimizer, compiled functions, clones) follow.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.saving.serialization_lib import SerializableDict


@dataclass(frozen=True)
class Call:
    """One call of one operation in a model: where it stands and what it was given."""

    path: str
    node: Any
    args: tuple
    kwargs: dict

    @property
    def operation(self) -> Any:
        return self.node.operation


def function_of(operation: Any) -> Any:
    """Return the graph behind a functional or Sequential model, or None where `call` hides it."""
    if isinstance(operation, keras.Sequential):
        return operation._functional if type(operation).call is keras.Sequential.call else None
    if isinstance(operation, Functional):
        return operation if type(operation).call is Functional.call else None
    return None


def nodes_of(function: Functional) -> list:
    """Return the graph's calls, inputs first."""
    by_depth = function._nodes_by_depth
    ordered = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in ordered if node.operation and not node.is_input]


def walk(
    model: Any,
    inputs: list,
    call: Callable[[Call], Any],
    see: Callable[[Any, Any], None] = lambda tensor, value: None,
    prefix: str = "",
) -> list:
    """Run `call` over the graph in place of its operations, nested models included.

    Args:
        model: functional or built Sequential model.
        inputs: flat list of what stands for each input tensor.
        call: receives a `Call`; returns what stands for the operation's outputs.
        see: receives every symbolic tensor and what stands for it.
        prefix: path of the model inside the outermost one.

    Returns:
        Flat list of what stands for each output tensor.
    """
    function = function_of(model)
    values: dict[int, Any] = {}

    def put(tensors: list, given: list) -> None:
        for tensor, value in zip(tensors, given, strict=True):
            values[id(tensor)] = value
            see(tensor, value)

    put(function.inputs, inputs)
    for node in nodes_of(function):
        args, kwargs = node.arguments.fill_in(values)
        path = f"{prefix}{node.operation.name}"
        if function_of(node.operation) is not None:
            given = walk(node.operation, tree.flatten(args[0]), call, see, f"{path}/")
        else:
            given = tree.flatten(call(Call(path, node, args, kwargs)))
        put(node.outputs, given)
    return [values[id(tensor)] for tensor in function.outputs]


def operations_in(model: Any) -> list:
    """Return all operations of the graph, nested ones included."""
    functions = [nested for nested in models_in(model) if isinstance(nested, Functional)]
    return [op for function in functions for op in function.operations]


def is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def sample_inputs(model: Any) -> Any:
    """Return one random sample, in the structure that the model takes; open sizes become 32."""
    rng = np.random.default_rng(0)

    def sample(tensor: Any) -> Any:
        shape = (1, *(32 if size is None else size for size in tensor.shape[1:]))
        drawn = rng.uniform(size=shape) if "float" in tensor.dtype else np.zeros(shape)
        return keras.ops.convert_to_tensor(drawn, dtype=tensor.dtype)

    return tree.map_structure(sample, function_of(model)._inputs_struct)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back Keras' advice against .h5, which is what the user asked for."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def output_structure(model: Any) -> Any:
    return function_of(model)._outputs_struct


def models_in(model: Any) -> list:
    """Return the model and every model nested in it, the Sequential and its graph both."""
    found: dict[int, Any] = {}
    queue = [model]
    while queue:
        current = queue.pop()
        if id(current) in found:
            continue
        found[id(current)] = current
        function = function_of(current)
        if function is not None:
            queue += [function, *(op for op in function.operations if function_of(op) is not None)]
    return list(found.values())


def run(call: Call, training: bool = False) -> Any:
    """Run the operation of a call on real tensors."""
    if "training" in getattr(call.operation, "call_signature_parameters", ()):
        return call.operation(*call.args, **{**call.kwargs, "training": training})
    return call.operation(*call.args, **call.kwargs)


def set_value(variable: keras.Variable, value: Any) -> None:
    """Give the variable a value of any shape; the object, its name and its flags stay."""
    if tuple(variable.shape) == tuple(value.shape):
        variable.assign(value)
        return
    variable._initialize(value)
    variable._shape = variable._validate_shape(tuple(value.shape))


def set_value_on_exit(variable: keras.Variable, value: Any) -> None:
    """Let a variable made in a `keras.StatelessScope` start from `value` when the scope ends."""
    variable._shape = variable._validate_shape(tuple(value.shape))
    variable._initializer = lambda shape, dtype: keras.ops.cast(value, dtype)


def set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute, and the same constructor argument where Keras stored it for saving."""
    setattr(owner, name, value)
    stored = getattr(owner, "_auto_config", None)
    if stored is not None and name in stored.config:
        owner._auto_config = SerializableDict(**{**stored.config, name: value})


def with_argument(node: Any, position: int, name: str, value: Any) -> SymbolicArguments:
    """Return the node's arguments with one of them replaced, however it was passed."""
    args, kwargs = list(node.arguments.args), dict(node.arguments.kwargs)
    if position < len(args):
        args[position] = value
    else:
        kwargs[name] = value
    return SymbolicArguments(*args, **kwargs)


def shape_attributes(model: Any, shapes: dict[int, tuple]) -> list[tuple[Any, str, Any]]:
    """Return every attribute by which the graph and its layers remember shapes of tensors.

    Args:
        model: functional or Sequential model.
        shapes: new shape of symbolic tensors, by their id.

    Returns:
        (owner, name, value) triples.
    """
    attributes = []
    for function in (nested for nested in models_in(model) if isinstance(nested, Functional)):
        for operation in function.operations:
            attributes += _operation_shapes(operation, shapes)
    return attributes


def _operation_shapes(operation: Any, shapes: dict[int, tuple]) -> list[tuple[Any, str, Any]]:
    live = [node for node in operation._inbound_nodes if id(node.outputs[0]) in shapes]
    if not live:
        return []
    found = [(t, "_shape", shapes[id(t)]) for node in live for t in node.outputs]
    # A Sequential model calls its layers anew whenever one is added; old calls linger.
    for stale in (node for node in operation._inbound_nodes if node not in live):
        for old, now in zip(stale.outputs, live[0].outputs, strict=True):
            if old.shape == now.shape:
                found.append((old, "_shape", shapes[id(now)]))
    if isinstance(operation, keras.layers.InputLayer):
        return [*found, (operation, "_batch_shape", shapes[id(live[0].outputs[0])])]
    if isinstance(operation, keras.layers.Layer):
        found += _input_shapes(operation, live[0].arguments.args, shapes)
    return found


def _input_shapes(layer: Any, args: tuple, shapes: dict[int, tuple]) -> list[tuple[Any, str, Any]]:
    """Return what a layer remembers of its inputs' shapes: where it was built, what it takes."""
    found = []
    taken = tree.map_structure(lambda tensor: shapes.get(id(tensor), tensor.shape), args[0])
    built = layer._build_shapes_dict
    if built is not None and len(built) == 1:
        found.append((layer, "_build_shapes_dict", {next(iter(built)): taken}))
    spec = layer.input_spec if function_of(layer) is None else None
    if isinstance(spec, keras.layers.InputSpec) and spec.axes:
        changed = copy.copy(spec)
        changed.axes = {axis: taken[axis] for axis in spec.axes}
        found.append((layer, "input_spec", changed))
    return found


def all_layers(model: Any) -> list:
    return list(model._flatten_layers(include_self=True, recursive=True))


def plain_optimizers(optimizer: Any) -> list:
    """Return the optimizer and the one it wraps, outermost first."""
    if optimizer is None:
        return []
    return [optimizer, *plain_optimizers(getattr(optimizer, "inner_optimizer", None))]


def optimizer_slots(model: Any) -> dict[int, list[tuple[str, keras.Variable]]]:
    """Return the optimizer's variables that belong to each model variable, by the latter's id."""
    slots: dict[int, list] = {}
    for optimizer in plain_optimizers(getattr(model, "optimizer", None)):
        known = list(getattr(optimizer, "_trainable_variables", []))
        for name, held in vars(optimizer).items():
            aligned = isinstance(held, list) and name != "_trainable_variables"
            if not known or not aligned or len(held) != len(known):
                continue
            for variable, slot in zip(known, held, strict=True):
                if isinstance(slot, keras.Variable) and slot is not variable:
                    slots.setdefault(id(variable), []).append((f"{optimizer.name}.{name}", slot))
    return slots


def refresh(model: Any) -> None:
    """Make optimizer and compiled functions follow variables that got new values."""
    for optimizer in plain_optimizers(getattr(model, "optimizer", None)):
        known = getattr(optimizer, "_trainable_variables", None)
        if known:
            optimizer._trainable_variables_indices = {
                optimizer._var_key(variable): i for i, variable in enumerate(known)
            }
    for layer in all_layers(model):
        if hasattr(layer, "_torch_params"):
            layer._track_variables()
    trained = getattr(model, "train_function", None) is not None
    for nested in models_in(model):
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(nested, name, None) is not None:
                setattr(nested, name, None)
    if trained:
        model.make_train_function()


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


def sync(model: Any) -> None:
    """Bring back into the model what a running JAX `fit` holds outside of it."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


@contextlib.contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Hide that the models were compiled, so that cloning makes no optimizer."""
    compiled = [nested for nested in models_in(model) if getattr(nested, "compiled", False)]
    try:
        for nested in compiled:
            nested.compiled = False
        yield
    finally:
        for nested in compiled:
            nested.compiled = True


def clone_structure(model: Any) -> Any:
    """Clone the model's layers and graph; call in a `keras.StatelessScope` to make no weights."""
    with uncompiled(model):
        twin = keras.models.clone_model(model, clone_function=_clone_operation, recursive=True)
    for old, new in zip(all_layers(model), all_layers(twin), strict=True):
        new._trainable = old._trainable
    return twin


def _clone_operation(operation: Any) -> Any:
    return operation.__class__.from_config(operation.get_config())


def compile_like(twin: Any, model: Any) -> None:
    """Compile `twin` as `model` was, with an optimizer and metrics of its own."""
    if getattr(model, "compiled", False):
        arguments = dict(model._compile_config.config)
        arguments["optimizer"] = _clone_operation(model.optimizer)
        twin.compile(**tree.map_structure(_own_metric, arguments))


def _own_metric(value: Any) -> Any:
    return _clone_operation(value) if isinstance(value, keras.metrics.Metric) else value


def outside_users(model: Any) -> dict[str, str]:
    """Return layers of the model that a living model outside of it calls as well.

    Returns:
        Name of the layer -> name of the other model.
    """
    inside = {id(op) for nested in models_in(model) for op in function_of(nested).operations}
    inside |= {id(nested) for nested in models_in(model)}
    suspects = _foreign_nodes(model, inside)
    if not suspects:
        return {}
    users: dict[str, str] = {}
    for other in [x for x in gc.get_objects() if issubclass(type(x), Functional)]:
        for node in getattr(other, "_nodes", ()) if id(other) not in inside else ():
            if id(node) in suspects:
                users[suspects[id(node)]] = other.name
    return users


def _foreign_nodes(model: Any, inside: set[int]) -> dict[int, str]:
    """Return calls, by id, that join an operation of the model with one outside of it."""
    found: dict[int, str] = {}
    for nested in models_in(model):
        for op in function_of(nested).operations:
            for node in op._outbound_nodes:
                if id(node.operation) not in inside:
                    found[id(node)] = op.name
            for node in op._inbound_nodes:
                sources = [tensor._keras_history.operation for tensor in node.input_tensors]
                if any(source is not None and id(source) not in inside for source in sources):
                    found[id(node)] = op.name
    return found

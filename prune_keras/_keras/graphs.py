"""Private Keras, graphs: the calls of a functional model, one after another."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import keras
from keras import tree
from keras.src import backend
from keras.src.models.functional import Functional
from keras.src.ops.core import Cast
from keras.src.ops.nn import OneHot, Relu, Relu6
from keras.src.ops.node import Node
from keras.src.ops.numpy import Add, Equal, NotEqual

from prune_keras._keras.attributes import keeping_attributes
from prune_keras._keras.name_scopes import same_name_scope


def function_of(operation: Any) -> Any:
    """Return the graph behind a functional or Sequential model, or None where `call` hides it."""
    if isinstance(operation, keras.Sequential):
        return operation._functional if type(operation).call is keras.Sequential.call else None
    if isinstance(operation, Functional):
        return operation if type(operation).call is Functional.call else None
    return None


# What calls of layers without a graph of their own are made of, and models with a `call` of their
# own; a call or model that is gone takes its entry along.
_opened: WeakKeyDictionary = WeakKeyDictionary()


def graph_of(model: Any) -> Any:
    """Return the graph of a model: its own, or what was recorded of its `call`; or None."""
    return function_of(model) or _opened.get(model)


def graph_at(node: Any) -> Any:
    """Return the graph of what a call runs: that of a model, or what was recorded; or None."""
    return function_of(node.operation) or _opened.get(node)


def remember_graph(of: Any, function: Functional) -> None:
    """Let a call of a layer, or a model with a `call` of its own, have a graph from now on."""
    _opened[of] = function


def recorded_graphs() -> list:
    """Return all graphs that were recorded, of whatever model."""
    return [way for graph in _opened.values() for way in ways_of(graph)]


def ways_of(graph: Any) -> list:
    """Return a graph, and what it does in training if that is something else."""
    in_training = vars(graph).get("in_training")
    return [graph] if in_training is None else [graph, in_training]


def forget_graph(of: Any) -> None:
    _opened.pop(of, None)


def graphs_in(model: Any, in_training: bool = False) -> list:
    """Return the model's graph and those of all that it calls, recorded ones included.

    Args:
        in_training: whether to add those of calls that do something else in training.
    """
    found: dict[int, Any] = {}
    queue = [graph_of(model)]
    while queue:
        current = queue.pop()
        if current is not None and id(current) not in found:
            found[id(current)] = current
            queue += [graph_at(node) for node in nodes_of(current)]
            queue += ways_of(current)[1:] if in_training else []
    return list(found.values())


def nodes_of(function: Functional) -> list:
    """Return the graph's calls, inputs first."""
    by_depth = function._nodes_by_depth
    ordered = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in ordered if node.operation and not node.is_input]


@contextlib.contextmanager
def without_new_calls(model: Any) -> Iterator[None]:
    """Let layers and raw operations forget the symbolic calls that are made of them within."""
    held = [
        (calls, len(calls))
        for operation in _called_in(model)
        for calls in (operation._inbound_nodes, operation._outbound_nodes)
    ]
    try:
        yield
    finally:
        for calls, before in held:
            del calls[before:]


def _called_in(model: Any) -> list:
    """Return all layers, and the raw operations of their graphs."""
    layers = all_layers(model)
    graphs = [graph for layer in layers for graph in graphs_in(layer, in_training=True)]
    operations = [op for graph in graphs for op in graph.operations]
    return list({id(each): each for each in (*layers, *operations)}.values())


def call_arguments(layer: Any) -> set[str]:
    """Return the names of what a layer's `call` takes."""
    return {*inspect.signature(layer.call).parameters}


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


def operations_in(model: Any) -> list:
    """Return all operations of the graph, those of nested models included."""
    functions = [nested for nested in models_in(model) if isinstance(nested, Functional)]
    return [op for function in functions for op in function.operations]


def operations_seen_in(model: Any) -> list:
    """Return all operations of the graph, those in layers that were looked into included."""
    return [op for function in graphs_in(model) for op in function.operations]


def is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def is_node(thing: Any) -> bool:
    """Tell whether something is a call in a graph, which leads on to all others."""
    return isinstance(thing, Node)


def all_layers(model: Any) -> list:
    return list(model._flatten_layers(include_self=True, recursive=True))


def kernel_of(layer: Any) -> Any:
    """Return the variable that holds a layer's kernel; `layer.kernel` is more with LoRA."""
    return layer._kernel


def lora_of(layer: Any, variable: Any) -> tuple[Any, Any] | None:
    """Return the matrices `a` and `b` if a layer adds `a @ b` to a variable, or None."""
    if not getattr(layer, "lora_enabled", False):
        return None
    if variable is getattr(layer, "_kernel", None):
        return layer.lora_kernel_a, layer.lora_kernel_b
    if variable is getattr(layer, "_embeddings", None):
        return layer.lora_embeddings_a, layer.lora_embeddings_b
    return None


def has_lora(model: Any) -> bool:
    return any(getattr(layer, "lora_enabled", False) for layer in all_layers(model))


def shapes_made(function: Callable, specs: Any) -> Any:
    """Return symbolic tensors like what a function of tensors makes of symbolic ones, unrun."""
    return backend.compute_output_spec(function, specs)


def padded(convolution: Any, x: Any) -> tuple[Any, str]:
    """Return what a convolution pads itself, and the padding that is left to `keras.ops`."""
    if convolution.padding != "causal":
        return x, convolution.padding
    before = [[0, 0]] * 3
    place = 2 if convolution.data_format == "channels_first" else 1
    before[place] = [convolution.dilation_rate[0] * (convolution.kernel_size[0] - 1), 0]
    return keras.ops.pad(x, before), "valid"


def module_of(thing: Any) -> str:
    """Return the name of the module that a class or function is of; executed text has none."""
    return getattr(thing, "__module__", None) or ""


def output_structure(model: Any) -> Any:
    return graph_of(model)._outputs_struct


def input_structure(model: Any) -> Any:
    return graph_of(model)._inputs_struct


@contextlib.contextmanager
def unmoved(model: Any) -> Iterator[None]:
    """Let the model be run within, from no states on, and give what runs move its value again.

    Of inputs in a dict Keras may warn that they are none, if its own was tracked.
    """
    layers = all_layers(model)
    states = [v for layer in layers for v in tree.flatten(getattr(layer, "states", None) or [])]
    moved = [*states, *(v for layer in layers for v in layer._non_trainable_variables)]
    held = [(variable, keras.ops.copy(variable.value)) for variable in moved]
    try:
        for state in states:
            state.assign(keras.ops.zeros_like(state))
        with warnings.catch_warnings(), same_name_scope(), keeping_attributes(model):
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match")
            yield
    finally:
        for variable, value in held:
            variable.assign(value)


def tolerance(model: Any) -> float:
    """Return how far equal computations may be apart, relative to the largest output."""
    half = {"bfloat16", "float16"} & {layer.compute_dtype for layer in all_layers(model)}
    return 1e-2 if half else 1e-5


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
    for layer in all_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                f"The model must have floating-point weights. Received: layer {layer.name!r} "
                f"quantized to {layer.quantization_mode!r}. Prune first, quantize afterwards."
            )


def readers_of(model: Any) -> dict[int, list]:
    """Return, by id of a symbolic tensor, the calls that read it; None for where it leaves."""
    found: dict[int, list] = {}
    for function in graphs_in(model):
        for node in nodes_of(function):
            for tensor in node.arguments.keras_tensors:
                found.setdefault(id(tensor), []).append(node)
        for tensor in function.outputs:
            found.setdefault(id(tensor), []).append(None)
    return found


def is_sum(operation: Any) -> bool:
    """Tell whether an operation adds tensors, entry by entry."""
    return isinstance(operation, keras.layers.Add | Add)


def looks_up(operation: Any) -> bool:
    """Tell whether an operation takes numbers for places in a table."""
    if isinstance(operation, Cast):
        return "int" in keras.backend.standardize_dtype(operation.dtype)
    return isinstance(operation, keras.layers.Embedding | OneHot)


def compares(operation: Any) -> bool:
    return isinstance(operation, Equal | NotEqual)


def ends_of(operation: Any) -> tuple[float, float] | None:
    """Return between which values an activation changes nothing, if it is flat beyond them."""
    known = {keras.activations.relu: inf, keras.activations.relu6: 6.0}
    if isinstance(operation, keras.layers.ReLU):
        bent = operation.negative_slope == 0 and operation.threshold == 0
        most = inf if operation.max_value is None else float(operation.max_value)
        return (0.0, most) if bent else None
    if isinstance(operation, Relu | Relu6):
        return 0.0, 6.0 if isinstance(operation, Relu6) else inf
    if isinstance(operation, keras.layers.Activation):
        operation = operation.activation
    return (0.0, known[operation]) if callable(operation) and operation in known else None

"""Private Keras, recording: what a layer's `call` does to symbolic tensors, call by call."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import tree
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.models.functional import Functional

from prune_keras._keras.graphs import all_layers, function_of, module_of, nodes_of

# What Keras tracks its own objects in, beside the attributes that code reads.
_BOOKS = frozenset(
    "_trainable_variables _non_trainable_variables _tracker _layers _metrics _losses _loss_ids "
    "_seed_generators _torch_params _inbound_nodes _outbound_nodes optimizer".split()
)


def recorded_calls(outputs: Any, ends: set[int]) -> list:
    """Return the calls that lead from some tensors to others, in an order in which they can run.

    Args:
        outputs: symbolic tensors.
        ends: ids of the tensors where the search ends.
    """
    return _in_order(outputs, lambda tensor: None if id(tensor) in ends else made_by(tensor))


def calls_of(function: Any) -> list:
    """Return the calls of a functional model, from the first output to the last one."""
    makers = {id(tensor): node for node in nodes_of(function) for tensor in node.outputs}
    return _in_order(function.outputs, lambda tensor: makers.get(id(tensor)))


def _in_order(outputs: Any, made_by: Callable[[Any], Any]) -> list:
    order: dict[int, Any] = {}
    waiting = [(made_by(tensor), False) for tensor in tree.flatten(outputs)]
    while waiting:
        node, done = waiting.pop()
        if node is None or id(node) in order:
            continue
        if done:
            order[id(node)] = node
        else:
            waiting.append((node, True))
            waiting += [(made_by(tensor), False) for tensor in reversed(node.input_tensors)]
    return list(order.values())


def made_by(tensor: Any) -> Any:
    """Return the call that a symbolic tensor comes from, or None."""
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


class StandIn(keras.KerasTensor):
    """A symbolic tensor in the place of a variable, which may be told what is written to it."""

    def __init__(self, variable: Any, dtype: str) -> None:
        super().__init__(variable.shape, dtype)
        self.variable, self.written = variable, None

    def assign(self, value: Any) -> Any:
        self.written = value
        return value


@contextlib.contextmanager
def standing_in(
    layer: Any,
    tensors: Mapping[int, Any],
    opens: Callable[[Any], bool],
    instead: Callable[[Any], Any] = lambda inner: inner,
) -> Iterator[Callable[[], bool]]:
    """Let a layer's own code find symbolic tensors where its attributes hold variables.

    While a layer inside of it is called, that one has its variables.

    Args:
        layer: the layer.
        tensors: id of a variable -> the tensor.
        opens: tells whether the code of a layer inside of it counts as its own.
        instead: returns what is called in the place of a layer inside of it.

    Yields:
        A function that tells whether the variables are there at the moment.
    """
    held = [_Held(each, name, value, tensors) for each, name, value in _holding(layer, tensors)]
    shown = [False]

    def show(really: bool) -> bool:
        before, shown[0] = shown[0], really
        for each in held:
            each.show(really)
        return before

    def called(run: Callable, inner: Any, args: tuple, kwargs: dict) -> Any:
        if opens(inner):
            with contextlib.suppress(Exception):  # whatever a call does with such tensors
                return _shapes_made(inner, args, kwargs)
        before = show(True)
        try:
            return run(inner, *args, **kwargs)
        finally:
            show(before)

    def booked(run: Callable, inner: Any) -> None:
        before = show(True)
        try:
            run(inner)
        finally:
            show(before)

    with _with_symbolic_calls(called), _with_books(booked), _calling(instead):
        try:
            show(False)
            yield lambda: shown[0]
        finally:
            show(True)


def _shapes_made(layer: Any, args: tuple, kwargs: dict) -> Any:
    """Return symbolic tensors like those that a layer's `call` makes of others.

    Keras would run the call in a graph of the backend.
    """
    with keras.StatelessScope(collect_losses=True):
        made = layer.call(*cast_for(layer, args), **cast_for(layer, kwargs))
    return tree.map_structure(lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), made)


@contextlib.contextmanager
def _with_symbolic_calls(called: Callable) -> Iterator[None]:
    """Let `called` run layers on symbolic tensors within; it gets Keras' own way to, and a call."""
    run = keras.layers.Layer.symbolic_call

    @functools.wraps(run)
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(run, self, args, kwargs)

    keras.layers.Layer.symbolic_call = symbolic_call
    try:
        yield
    finally:
        keras.layers.Layer.symbolic_call = run


@contextlib.contextmanager
def _calling(instead: Callable[[Any], Any]) -> Iterator[None]:
    """Let others be called in the place of layers within."""
    run = keras.layers.Layer.__call__

    @functools.wraps(run)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run(instead(self), *args, **kwargs)

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = run


@contextlib.contextmanager
def _with_books(booked: Callable) -> Iterator[None]:
    """Let `booked` run what layers do on PyTorch to have their variables in books of a module."""
    kind = next((k for k in keras.layers.Layer.__mro__ if "_track_variables" in vars(k)), None)
    if kind is None:
        yield
        return
    run = vars(kind)["_track_variables"]
    kind._track_variables = lambda layer: booked(run, layer)
    try:
        yield
    finally:
        kind._track_variables = run


def cast_for(layer: Any, given: Any) -> Any:
    """Return tensors in the dtype that Keras hands to a layer's `call`."""

    def cast(value: Any) -> Any:
        symbolic = isinstance(value, keras.KerasTensor)
        if not symbolic or not keras.backend.is_float_dtype(value.dtype):
            return value
        wanted = layer.compute_dtype
        return keras.ops.cast(value, wanted) if layer.autocast and value.dtype != wanted else value

    return tree.map_structure(cast, given)


@contextlib.contextmanager
def all_keys() -> Iterator[None]:
    """Let symbolic tensors take the keys that real ones do, such as `x[None]`, within."""
    original = keras.KerasTensor.__getitem__

    def get_item(self: Any, key: Any) -> Any:
        return original(self, key if isinstance(key, tuple) else (key,))

    keras.KerasTensor.__getitem__ = get_item
    try:
        yield
    finally:
        keras.KerasTensor.__getitem__ = original


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Let what is called within warn of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def noting_losses(own: Callable[[Any], bool]) -> Iterator[list]:
    """Let layers add losses of symbolic tensors within, which are noted only.

    Args:
        own: tells of a layer whether its losses are meant.

    Yields:
        A list that grows with each of them.
    """
    noted: list = []
    run = keras.layers.Layer.add_loss

    @functools.wraps(run)
    def add_loss(self: Any, loss: Any) -> Any:
        symbolic = [x for x in tree.flatten(loss) if isinstance(x, keras.KerasTensor)]
        noted.extend(symbolic if own(self) else [])
        return None if symbolic else run(self, loss)

    keras.layers.Layer.add_loss = add_loss
    try:
        yield noted
    finally:
        keras.layers.Layer.add_loss = run


class ReadBeside(Exception):
    """A weight is read in another way than by the attribute of a layer."""


class _Held:
    """An attribute that holds variables, and what it holds in their place."""

    def __init__(self, owner: Any, name: str, value: Any, tensors: Mapping[int, Any]) -> None:
        self.owner, self.name, self.value = owner, name, value
        self.instead = _replaced(value, tensors)

    def show(self, really: bool) -> None:
        vars(self.owner)[self.name] = self.value if really else self.instead


def _holding(layer: Any, tensors: Mapping[int, Any]) -> list[tuple[Any, str, Any]]:
    return [
        (each, name, value)
        for each in all_layers(layer)
        for name, value in vars(each).items()
        if name not in _BOOKS and _holds_one(value, tensors)
    ]


def _holds_one(value: Any, tensors: Mapping[int, Any]) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_holds_one(part, tensors) for part in value)
    return id(value) in tensors


def _replaced(value: Any, tensors: Mapping[int, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(part, tensors) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_replaced(part, tensors) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return tensors.get(id(value), value)


@contextlib.contextmanager
def refusing_reads(refused: Callable[[], bool]) -> Iterator[None]:
    """Let no number of a floating-point variable be read within, where that is refused.

    Raises:
        ReadBeside: in the code that runs within, where it reads one.
    """
    kind = next(k for k in keras.Variable.__mro__ if "value" in vars(k))
    original = vars(kind)["value"]

    def value(self: Any) -> Any:
        if refused() and keras.backend.is_float_dtype(self.dtype):
            raise ReadBeside(f"{self.path} is read in another way than by an attribute of its own")
        return original.fget(self)

    kind.value = property(value, original.fset)
    try:
        yield
    finally:
        kind.value = original


def settings_of(operation: Any) -> dict[str, Any]:
    """Return what a raw operation was made with, by the names of its constructor's arguments."""
    kind: Any = type(operation)
    names = _constructor_arguments(kind)
    return {name: getattr(operation, name) for name in names if hasattr(operation, name)}


@functools.lru_cache(maxsize=512)
def _constructor_arguments(kind: Any) -> tuple[str, ...]:
    parameters = inspect.signature(kind.__init__).parameters
    return tuple(name for name in parameters if name not in ("self", "name", "args", "kwargs"))


class Recorded(Functional):
    """What a call was seen to do: the graph of no model of a user's.

    Attributes:
        called_on: what a model with a `call` of its own was called on; None for layers.
        in_training: the same for training, if that is something else; None if it is not.
        losses_are_added: whether the code of the call adds losses, which are not in the graph.
    """

    called_on: Any = None
    in_training: Any = None
    losses_are_added = False

    def adds_losses(self) -> None:
        self.__dict__["losses_are_added"] = True

    def differs_in_training(self, other: Any) -> None:
        # Unseen by Keras, which would take it for a part.
        self.__dict__["in_training"] = other


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

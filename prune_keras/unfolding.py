"""Unfolding: a plain functional model in place of layers made of layers, or of a `call` of its own.

A `call` that is made of Keras' layers and `keras.ops` is run on symbolic tensors, which record what
it does; so each layer of layers becomes a nested functional model of the same layers.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras
from prune_keras.proof import case_of
from prune_keras.tracing import rule_for


def unfold(model: Any, inputs: Any = None) -> Any:
    """Return a plain functional copy of a model, in which layers made of layers are nested models.

    What `trace` cannot look into, it can prune through afterwards. The copy saves and loads without
    the classes that it was written with. A layer stays as it is if it has a rule of its own, or
    weights that no layer inside of it holds, if it does something else in training than in
    inference, draws numbers, or works on more than Keras' layers, `keras.ops` and Python.

    Args:
        model: a built model, subclassed ones included; it is not changed.
        inputs: what `call` of a subclassed model takes: a `keras.Input`, or a list or dict of
            them. Defaults to None: those of the functional or Sequential model.

    Returns:
        A functional model that is not compiled, with weights of its own.

    Raises:
        ValueError: if a subclassed model is not built or comes without `inputs`, if its own `call`
            cannot be looked into, or the copy gives other outputs.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> class Small(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
    ...         self.head = keras.layers.Dense(2, name="head")
    ...     def call(self, x):
    ...         return self.head(self.hidden(x))
    >>> model = Small()
    >>> outputs = model(np.ones((1, 4)))
    >>> plain = prune_keras.unfold(model, keras.Input((4,)))
    >>> prune_keras.trace(plain).widths
    {'hidden': 8}
    """
    _check(model, inputs)
    with _keras.without_new_calls(model):
        unfolded = _Unfolding().whole(model, inputs)
        twin = _keras.clone_structure(unfolded)
        _check_shared(unfolded, twin)
        for old, new in zip(unfolded.variables, twin.variables, strict=True):
            new.assign(old)
        _keras.copy_own_state(unfolded, twin)
    _compare(model, twin)
    return twin


def _check(model: Any, inputs: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: model={model!r}.")
    if _keras.function_of(model) is not None:
        if inputs is not None:
            raise ValueError(
                f"`inputs` are for subclassed models. Received: inputs={inputs!r} for "
                f"{model.name!r}, whose graph has its own. Leave them out."
            )
        return
    if not model.built or not model.variables:
        raise ValueError(
            f"The model must be built. Received: {model.name!r} without weights. Call it once."
        )
    given = tree.flatten(inputs)
    if not given or not all(isinstance(each, keras.KerasTensor) for each in given):
        raise ValueError(
            "A model with a `call` of its own must come with its inputs. Received: "
            f"inputs={inputs!r} for {model.name!r}. Pass what `call` takes: "
            "inputs=keras.Input(shape_of_a_sample), or a list or dict of them."
        )


def _check_shared(unfolded: Any, twin: Any) -> None:
    if len(unfolded.variables) != len(twin.variables):
        raise ValueError(
            "A layer must not be shared between different layers of layers to be unfolded. "
            f"Received: {len(unfolded.variables)} variables of {unfolded.name!r}, and "
            f"{len(twin.variables)} in its copy. Call it from one place."
        )


class _Unfolding:
    """Opens layers, each of them once for all of its calls."""

    def __init__(self) -> None:
        self._opened: dict[int, Any] = {}

    def whole(self, model: Any, inputs: Any) -> Any:
        function = _keras.function_of(model)
        if function is not None:
            return self._rebuilt(function)
        try:
            inner = _inside(model, (inputs,), {})
        except _Closed as reason:
            raise ValueError(
                "The `call` of a model must be made of Keras' layers and keras.ops to be looked "
                f"into. Received: {model.name!r} ({type(model).__name__}): {reason}."
            ) from reason.__cause__
        return self._rebuilt(inner)

    def _rebuilt(self, function: Any) -> Any:
        for operation in _called_in_several_ways(function):
            self._opened[id(operation)] = None
        return _keras.rebuilt(function, self.call)

    def call(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        """Call an operation on symbolic tensors, or what it turned out to be made of."""
        if _keras.function_of(operation) is not None:
            return self._nested(operation)(*args, **kwargs)
        inner = self._opened_for(operation, args, kwargs)
        if inner is None:
            return operation(*args, **kwargs)
        given = _tensors(args, kwargs)
        return inner(given[0] if len(given) == 1 else given)

    def _nested(self, model: Any) -> Any:
        if id(model) not in self._opened:
            self._opened[id(model)] = self._rebuilt(_keras.function_of(model))
        return self._opened[id(model)]

    def _opened_for(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        """Return the nested model for a layer, None where it stays as it is."""
        if not _may_be_opened(operation):
            return None
        if id(operation) not in self._opened:
            try:
                inner = self._rebuilt(_inside(operation, args, kwargs))
            except _Closed:
                inner = None
            self._opened[id(operation)] = inner
        return self._opened[id(operation)]


class _Closed(Exception):
    """Says why a layer cannot be looked into."""


def _may_be_opened(operation: Any) -> bool:
    return (
        _keras.is_layer(operation)
        and not isinstance(operation, keras.layers.InputLayer)
        and rule_for(operation) is None
        and not _keras.module_of(type(operation)).startswith("keras.")
    )


def _inside(operation: Any, args: tuple, kwargs: dict) -> Any:
    """Return a functional model of what a layer does when it is called in this way."""
    first, again = (_recorded(operation, args, kwargs) for _ in range(2))
    ways = [first, again]
    if "training" in _keras.call_arguments(operation):
        ways += [_recorded(operation, args, {**kwargs, "training": t}) for t in (True, False)]
    if any(not _same(_steps(first), _steps(other)) for other in ways[1:]):
        raise _Closed("it does something else in training, or each time")
    shown = {id(weight) for weight in first.weights}
    hidden = [weight.path for weight in operation.weights if id(weight) not in shown]
    if hidden:
        raise _Closed(f"its weight {hidden[0]} belongs to no layer that is called on tensors")
    return first


def _recorded(operation: Any, args: tuple, kwargs: dict) -> Any:
    fresh = [keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in _tensors(args, kwargs)]
    rest = iter(fresh)
    args, kwargs = tree.map_structure(
        lambda value: next(rest) if isinstance(value, keras.KerasTensor) else value, (args, kwargs)
    )
    try:
        outputs = operation.call(*args, **kwargs)
        return keras.Model(fresh[0] if len(fresh) == 1 else fresh, outputs, name=operation.name)
    except Exception as error:
        raise _Closed(_line(error)) from error


def _line(error: Exception) -> str:
    """Return where a `call` was stopped, outside of Keras."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/keras/src/" not in f.filename and f.filename != __file__]
    where = f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else "in Keras"
    return f"{where} ({type(error).__name__}: {str(error).strip().splitlines()[0]})"


def _tensors(args: tuple, kwargs: dict) -> list:
    return [t for t in tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]


def _called_in_several_ways(function: Any) -> list:
    """Return layers that no one model can stand for; two copies would not share their layers."""
    ways: dict[int, list] = {}
    for node in _keras.nodes_of(function):
        ways.setdefault(id(node.operation), []).append(node)
    return [
        nodes[0].operation
        for nodes in ways.values()
        if any(_way_of(node) != _way_of(nodes[0]) for node in nodes)
        and _keras.function_of(nodes[0].operation) is None
    ]


def _way_of(node: Any) -> list:
    return _way(node.arguments.args, node.arguments.kwargs)


def _way(args: tuple, kwargs: dict) -> list:
    """Return what tells one way to call a layer from another one."""
    return [
        (tuple(v.shape), v.dtype) if isinstance(v, keras.KerasTensor) else repr(v)
        for v in [*tree.flatten((args, kwargs)), *sorted(kwargs)]
    ]


def _steps(model: Any) -> list:
    """Return the calls of a graph: which operation, and what it is given beside tensors."""
    return [
        (type(node.operation), [v for v in given if not isinstance(v, keras.KerasTensor)])
        for node in _keras.nodes_of(model)
        for given in [tree.flatten((node.arguments.args, node.arguments.kwargs))]
    ]


def _same(first: Sequence, other: Sequence) -> bool:
    return len(first) == len(other) and all(
        a[0] is b[0] and len(a[1]) == len(b[1]) and all(map(_equal, a[1], b[1]))
        for a, b in zip(first, other, strict=True)
    )


def _equal(first: Any, other: Any) -> bool:
    if isinstance(first, bool | None) and isinstance(other, bool | None):
        return True  # a flag such as `training`, which is handed on
    if hasattr(first, "shape") and not isinstance(first, keras.Variable):
        return hasattr(other, "shape") and np.array_equal(_array(first), _array(other))
    return first is other or first == other


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _compare(model: Any, twin: Any) -> None:
    """Raise a ValueError unless both give the same outputs for a random sample."""
    case, close = case_of(twin), _keras.tolerance(twin)
    given = tree.flatten(model(case.inputs, training=False))
    for old, new in zip(given, case.outputs, strict=True):
        old, new = (_array(each).astype(np.float64) for each in (old, new))
        if not np.allclose(old, new, rtol=0, atol=close * np.abs(old).max(), equal_nan=True):
            raise ValueError(
                "An unfolded model must give the outputs of the model. Received: outputs of "
                f"{model.name!r} that differ by {np.abs(old - new).max():.3g}. "
                "Look for masks, or for a `call` that leaves its tensors."
            )

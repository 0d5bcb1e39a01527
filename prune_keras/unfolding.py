"""Unfolding: a plain functional model in place of layers made of layers, or of a `call` of its own.

A `call` that is made of Keras' layers and `keras.ops` is run on symbolic tensors, which record what
it does; so each layer of layers becomes a nested functional model of the same layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras
from prune_keras.flattening import by_keys, copied, flattened, shares_layers
from prune_keras.proof import case_of
from prune_keras.tracing import rule_for
from prune_keras.tracing.opening import own_weights
from prune_keras.tracing.opening.masks import Masks
from prune_keras.tracing.opening.meeting import plainly
from prune_keras.tracing.opening.opened import (
    Closed,
    check_own,
    differs_in_training,
    looked_into,
    may_be_opened,
    open_model,
    unmasked,
)
from prune_keras.tracing.opening.states import for_each_sample
from prune_keras.tracing.opening.windows import rows_since_inputs
from prune_keras.tracing.rules.masked import MASKED
from prune_keras.tracing.rules.registry import ruled_by_name
from prune_keras.tying import can_be_tied, check_tied, tied


def unfold(model: Any, inputs: Any = None, flat: bool = False) -> Any:
    """Return a plain functional copy of a model, in which layers made of layers are nested models.

    The copy saves and loads without the classes that it was written with. Weights that a layer has
    of its own become plain layers that hold them. A layer stays as it is if it has a rule of its
    own, does something else in training than in inference, other than to drop by chance what a
    `Dropout` would, draws numbers in inference, or works on more than Keras' layers, `keras.ops`
    and Python.

    Args:
        model: a built model, subclassed ones included; it is not changed.
        inputs: what `call` of a subclassed model takes: a `keras.Input`, or a list or dict of
            them. Defaults to None: those of the functional or Sequential model, or like those that
            the subclassed model was built on.
        flat: whether nested models become part of the one graph; layers are named after their
            paths then. So they do, too, where nested models would share layers, which no file can
            tell. Defaults to False.

    Returns:
        A functional model that is not compiled, with weights of its own.

    Raises:
        ValueError: if a subclassed model is not built, its own `call` cannot be looked into, or the
            copy gives other outputs.

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
    >>> plain = prune_keras.unfold(model)
    >>> prune_keras.trace(plain).widths
    {'hidden': 8}
    """
    _check(model, inputs)
    return unfolded(model, inputs, flat)


def unfolded(
    model: Any,
    inputs: Any = None,
    flat: bool = False,
    opens: Callable[[Any], bool] = may_be_opened,
    loses: Callable[[Any], bool] = lambda layer: False,
) -> Any:
    """Return what `unfold` does.

    Args:
        model, inputs, flat: as there.
        opens: of a layer; where it is false, the layer stays as it is.
        loses: of a layer, or model, that does something else in training; where it is true, only
            what it does in inference is left of it.
    """
    with (
        _keras.without_new_calls(model),
        _keras.keeping_attributes(model),
        _keras.without_warnings(),  # of masks given by name
    ):
        function = _keras.function_of(model) or _opened_whole(model, inputs, loses)
        masked: dict[int, Any] = {}
        opened = _unfolding(model, function, _Kinds(opens, loses), masked)
        check_tied(opened, model)
        nested = tied(opened)
        shares = shares_layers(nested)
        twin = copied(nested)
        _mask_kernels(nested, twin, masked)
        if flat or shares:
            # Copied once more, since layers keep the calls of the models that they were nested in.
            twin = copied(flattened(twin))
        structure = getattr(function, "called_on", None)
        if isinstance(structure, dict) and not isinstance(_keras.input_structure(twin), dict):
            twin = copied(by_keys(twin, sorted(structure)))
    _compare(model, twin, structure)
    return twin


def _opened_whole(model: Any, inputs: Any, loses: Callable[[Any], bool]) -> Any:
    function = open_model(model, inputs)
    if differs_in_training(function) and not loses(model):
        raise ValueError(
            "A plain model must do in training what the model does. Received: "
            f"{model.name!r} ({type(model).__name__}), whose `call` does something else in "
            "training that is no Dropout. Put that into a layer of its own, or keep the class: "
            "ProgressivePruning, prune_keras.shrink_in_place."
        )
    return function


def _mask_kernels(nested: Any, twin: Any, masked: dict[int, Any]) -> None:
    """Multiply kernels of a copy with the masks that its layers no longer do."""
    for old, new in zip(nested.variables, twin.variables, strict=True):
        if id(old) in masked:
            new.assign(new * ops.cast(masked[id(old)], new.dtype))


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
    if inputs is not None and not all(isinstance(each, keras.KerasTensor) for each in given):
        raise ValueError(
            "A model with a `call` of its own must come with its inputs. Received: "
            f"inputs={inputs!r} for {model.name!r}. Pass what `call` takes: "
            "inputs=keras.Input(shape_of_a_sample), or a list or dict of them."
        )


@dataclass(frozen=True)
class _Kinds:
    """Which layers are opened, and which lose what they do in training only."""

    opens: Callable[[Any], bool]
    loses: Callable[[Any], bool]


def _unfolding(model: Any, function: Any, kinds: _Kinds, masked: dict[int, Any]) -> Any:
    """Return a model in which layers are open, or stay as they are in all of their calls."""
    closed: set[int] = set()
    while True:
        try:
            return _Unfolding(model, kinds, closed, masked).rebuilt(function)
        except _StaysClosed as found:
            closed.add(found.layer)


class _StaysClosed(Exception):
    """A layer was opened in one call, and cannot be in another one."""

    def __init__(self, layer: int) -> None:
        super().__init__(layer)
        self.layer = layer


class _Unfolding:
    """Opens layers; calls in the same way share what a layer became."""

    def __init__(self, model: Any, kinds: _Kinds, closed: set[int], masked: dict[int, Any]) -> None:
        self._model, self._kinds, self._closed = model, kinds, closed
        self._masked = masked  # id of a kernel -> what it is to be multiplied with in the copy
        self._opened: dict[tuple, Any] = {}
        self._scalars: dict[int, Any] = {}
        self._linear: dict[int, Any] = {}
        self._masks = Masks()
        self._rows = 1  # so many entries along the batch of the present graph's inputs are a sample

    def rebuilt(self, function: Any, name: str | None = None) -> Any:
        return _keras.rebuilt(function, self.call, name, self._masks.carry)

    def call(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        """Call an operation on symbolic tensors, or what it turned out to be made of."""
        if _keras.function_of(operation) is not None:
            return self._nested(operation)(*args, **kwargs)
        if isinstance(operation, MASKED):
            self._masked[id(operation.kernel)] = operation.mask
            return plainly(operation, *args)
        masked = self._masks.with_masks(operation, args, kwargs)
        inner = self._opened_for(operation, args, masked)
        if inner is None:
            return self._as_it_is(operation, args, kwargs, masked)
        given = self._masks.given_to(inner, args, masked)
        made = inner(tree.pack_sequence_as(_keras.input_structure(inner), given))
        self._masks.hand(operation, args, masked, tree.flatten(made))
        return made

    def _as_it_is(self, operation: Any, args: tuple, kwargs: dict, masked: dict) -> Any:
        if _is_nothing(operation):
            return _tensors(args, kwargs)[0]
        run = self._with_plain_activation(operation)
        handed = self._masks.are_handed(args, kwargs)
        given, named = for_each_sample(operation, args, masked if handed else kwargs)
        made = run(*self._with_scalars(given), **self._with_scalars(named))
        if handed:
            self._masks.hand(operation, args, masked, tree.flatten(made))
        return made

    def _with_plain_activation(self, operation: Any) -> Callable:
        """Return a call of a layer in which a function of somebody else's is operations of Keras.

        Where it is not made of these, the layer stays as it is.
        """
        if not _keras.has_foreign_activation(operation):
            return operation
        if id(operation) not in self._linear:
            self._linear[id(operation)] = _keras.without_activation(operation)
        linear = self._linear[id(operation)]

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return operation.activation(linear(*args, **kwargs))
            except Exception:  # whatever it does with symbolic tensors
                return operation(*args, **kwargs)

        return run

    def _with_scalars(self, given: Any) -> Any:
        """Return arguments in which plain layers give the weights that are single numbers."""
        tensors = [t for t in tree.flatten(given) if isinstance(t, keras.KerasTensor)]
        if not any(isinstance(each, keras.Variable) for each in tree.flatten(given)):
            return given
        rank = max(len(tensor.shape) for tensor in tensors)

        def plain(value: Any) -> Any:
            if not isinstance(value, keras.Variable):
                return value
            if id(value) not in self._scalars:
                name = f"{value.path.replace('/', '_')}_{len(self._scalars)}"  # a path may be two's
                self._scalars[id(value)] = own_weights.scalar(value, name, tensors[0].dtype)
            each = self._scalars[id(value)](own_weights.ones(tensors[0], tensors[0].dtype))
            return ops.reshape(each, (-1,) + (1,) * (rank - 1))

        return tree.map_structure(plain, given)

    def _nested(self, model: Any) -> Any:
        key = (id(model),)
        if key not in self._opened:
            self._opened[key] = self.rebuilt(_keras.function_of(model), model.name)
        return self._opened[key]

    def _opened_for(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        """Return the nested model for a call of a layer, None where it stays as it is."""
        ruled = rule_for(operation) is not None or not self._kinds.opens(operation)
        if ruled and not ruled_by_name(operation):
            return None
        key = (id(operation), *_way(args, kwargs, self._masks))
        if id(operation) not in self._closed and key not in self._opened:
            others = [inner for known, inner in self._opened.items() if known[0] == key[0]]
            name = f"{operation.name}_{len(others)}" if others else operation.name
            self._opened[key] = self._inside(operation, args, kwargs, name)
            if self._opened[key] is None and others:
                raise _StaysClosed(id(operation))
        return self._opened.get(key)

    def _rebuilt_of(self, operation: Any, args: tuple, kwargs: dict, name: str) -> Any:
        found = looked_into(operation, args, kwargs, self._rows)
        if differs_in_training(found) and not self._kinds.loses(operation):
            raise Closed("it does something else in training")
        return self.rebuilt(found, name)

    def _inside(self, operation: Any, args: tuple, kwargs: dict, name: str) -> Any:
        """Return the nested model for a call of a layer; None where it cannot be looked into."""
        outside, given = self._rows, _tensors(args, kwargs)
        self._rows *= rows_since_inputs(given[0]) if given else 1
        try:
            check_own(operation, self._model)
            args, kwargs = self._masks.carrying((args, kwargs))
            inner = self._rebuilt_of(operation, args, kwargs, name)
            if not _reads(inner, inner.inputs[len(given) :]):
                args, kwargs = unmasked((args, kwargs))
                inner = self._rebuilt_of(operation, args, kwargs, name)
            return inner if can_be_tied(inner) else None
        except Closed:
            return None
        finally:
            self._rows = outside


def _reads(model: Any, tensors: list) -> bool:
    """Tell whether any of some tensors is read in a model; true where there are none."""
    read = {id(each) for node in _keras.nodes_of(model) for each in node.input_tensors}
    return not tensors or any(id(each) in read for each in tensors)


def _tensors(args: tuple, kwargs: dict) -> list:
    return [t for t in tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]


def _is_nothing(operation: Any) -> bool:
    """Tell whether a layer passes on what it gets, and Keras cannot write it.

    It knows no config of an Identity that was given its policy as an object.
    """
    if type(operation) is not keras.layers.Identity:
        return False
    try:
        operation.get_config()
    except NotImplementedError:
        return True
    return False


def _way(args: tuple, kwargs: dict, masks: Masks) -> tuple:
    """Return what tells one way to call a layer from another one."""
    told = [
        (tuple(v.shape), v.dtype, masks.of(v) is None)
        if isinstance(v, keras.KerasTensor)
        else _told(v)
        for v in [*tree.flatten((args, kwargs)), *sorted(kwargs)]
    ]
    return tuple(told)


def _told(value: Any) -> Any:
    """Return what tells an argument that is no tensor from others, of arrays all that they hold."""
    if isinstance(value, keras.Variable):
        return id(value)
    if not isinstance(value, np.ndarray) and not keras.ops.is_tensor(value):
        return repr(value)
    array = _array(value)
    return array.shape, str(array.dtype), array.tobytes()


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _compare(model: Any, twin: Any, structure: Any) -> None:
    """Raise a ValueError unless both give the same outputs for a random sample."""
    case, close = case_of(twin), _keras.tolerance(twin)
    inputs = case.inputs
    if structure is not None:
        inputs = tree.pack_sequence_as(structure, tree.flatten(inputs))
    with _keras.unmoved(model), _keras.without_warnings():  # of masks that a user's layers let go
        given = tree.flatten(model(inputs, training=False))
    for old, new in zip(given, case.outputs, strict=True):
        old, new = (_array(each).astype(np.float64) for each in (old, new))
        if not np.allclose(old, new, rtol=0, atol=close * np.abs(old).max(), equal_nan=True):
            raise ValueError(
                "An unfolded model must give the outputs of the model. Received: outputs of "
                f"{model.name!r} that differ by {np.abs(old - new).max():.3g}. "
                "Look for masks, or for a `call` that leaves its tensors."
            )

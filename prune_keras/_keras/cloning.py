"""Private Keras, cloning: a second graph over layers made again, and models of the same classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional

from prune_keras._keras.configs import check_weights, from_config
from prune_keras._keras.graphs import all_layers, function_of, nodes_of
from prune_keras._keras.own_attributes import take_over
from prune_keras._keras.own_state import copy_own_state
from prune_keras._keras.state import set_value_on_exit


class Cloning:
    """One copy of one model in the making.

    Models are given their graph without calling a constructor of their class, and then what that
    class, or whoever made them, set on them.

    Args:
        plain: whether models become those of Keras, without attributes of their own.

    Attributes:
        twins: id of an object of the model -> what takes its place in the copy.
    """

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain
        self.twins: dict[int, Any] = {}

    def of(self, operation: Any) -> Any:
        """Return the copy of an operation, the same one each time.

        Raises:
            ValueError: if it cannot be made again.
        """
        if id(operation) not in self.twins:
            if function_of(operation) is None:
                self.twins[id(operation)] = from_config(operation)
            elif isinstance(operation, keras.Sequential):
                self._sequential(operation)
            else:
                self._functional(operation)
        return self.twins[id(operation)]

    def _functional(self, model: Any) -> None:
        inputs = tree.map_structure(
            lambda tensor: self.of(tensor._keras_history.operation).output, model._inputs_struct
        )
        outputs = model._run_through_graph(inputs, operation_fn=self.of)
        twin = Functional.__new__(Functional if self.plain else type(model))
        Functional.__init__(twin, inputs, outputs, name=model.name)
        self._finish(model, twin, model, twin)

    def _sequential(self, model: Any) -> None:
        layers = [self.of(layer) for layer in model._layers]
        twin = keras.Sequential.__new__(keras.Sequential if self.plain else type(model))
        keras.Sequential.__init__(twin, layers, name=model.name)
        self._finish(model, twin, model._functional, twin._functional)

    def _finish(self, model: Any, twin: Any, function: Any, made: Any) -> None:
        self.twins.update({id(model): twin, id(function): made})
        tensors = [*zip(function.inputs, made.inputs, strict=True)]
        for old, new in zip(nodes_of(function), nodes_of(made), strict=True):
            tensors += zip(old.outputs, new.outputs, strict=True)
        self.twins.update({id(old): new for old, new in tensors})
        if not self.plain:
            take_over(twin, model, self.twins, lambda layer: self._beside(layer, model))

    def _beside(self, layer: Any, model: Any) -> Any:
        """Return what takes the place of a layer beside the graph; an untrained one is shared."""
        graph = [] if function_of(layer) is None else nodes_of(function_of(layer))
        if graph and all(id(out) in self.twins for node in graph for out in node.outputs):
            return self._view(layer)
        if any(id(held) in self.twins for held in all_layers(layer) if held.variables):
            raise ValueError(
                "A copy needs to know each call of a layer. Received: an attribute of "
                f"{model.name!r} that holds {layer.name!r}, which calls layers of the model by "
                "itself. Build it from tensors of the model: keras.Model(model.inputs, tensor)."
            )
        return self._with_weights(layer) if layer.trainable_variables else layer

    def _view(self, model: Any) -> Any:
        """Copy a model that shows a part of the graph."""
        view = Functional.__new__(type(model))
        ends = tree.map_structure(
            lambda tensor: self.twins[id(tensor)], (model._inputs_struct, model._outputs_struct)
        )
        Functional.__init__(view, *ends, name=model.name)
        return view

    def _with_weights(self, layer: Any) -> Any:
        twin = self.of(layer)
        if layer.built and not twin.built:
            twin.build_from_config(layer.get_build_config())
        check_weights(layer, twin)
        for old, new in zip(layer.variables, twin.variables, strict=True):
            set_value_on_exit(new, old.value)
        return twin


def with_others(model: Any, instead: Callable[[Any], Callable | None]) -> Any:
    """Return a plain functional copy of a model, with something else in place of some operations.

    Args:
        model: a built functional or Sequential model.
        instead: returns what is called in place of an operation, or None for a copy of it; asked
            once for each operation.
    """
    replacing = _Replacing(instead)
    twin = replacing.of(function_of(model))
    for old, new in replacing.pairs:
        check_weights(old, new)
        for mine, other in zip(old.variables, new.variables, strict=True):
            other.assign(keras.ops.copy(mine.value))
            other.trainable = mine.trainable
        new._trainable = old._trainable
        copy_own_state(old, new)
    return twin


class _Replacing(Cloning):
    """A copy in the making in which other things take the place of some operations."""

    def __init__(self, instead: Callable[[Any], Callable | None]) -> None:
        super().__init__(plain=True)
        self._instead = instead
        self.pairs: list[tuple[Any, Any]] = []

    def of(self, operation: Any) -> Any:
        if id(operation) in self.twins:
            return self.twins[id(operation)]
        graph = function_of(operation)
        if graph is not None:
            inputs = tree.map_structure(
                lambda tensor: self.of(tensor._keras_history.operation).output,
                graph._inputs_struct,
            )
            outputs = graph._run_through_graph(inputs, operation_fn=self.of)
            made = keras.Model(inputs, outputs, name=operation.name)
        else:
            made = self._instead(operation) or from_config(operation)
            if isinstance(made, keras.layers.Layer):
                self.pairs.append((operation, made))
        self.twins[id(operation)] = made
        return made

"""Tying: one layer in place of several that hold the same weight, which no file can tell.

A table that is looked up and read backwards, as tokens and their scores are, becomes a
`keras.layers.ReversibleEmbedding`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from keras import layers

from prune_keras import _keras

BACKWARDS = "...x,yx->...y"


def tied(model: Any) -> Any:
    """Return a functional model that calls one layer for each table that several layers hold.

    Args:
        model: functional model; the other one shares all else with it.
    """
    held = _holders(model)
    names = Counter(operation.name for operation in _keras.operations_seen_in(model))
    reversible = {key: _reversible(each, names) for key, each in held.items() if _is_tie(each)}
    return _Tying(reversible).rebuilt(_keras.function_of(model)) if reversible else model


def can_be_tied(model: Any) -> bool:
    """Tell whether each weight is held by one layer, or by several that one can stand for."""
    return not any(_untied(model))


def check_tied(model: Any, source: Any) -> None:
    """Raise a ValueError unless `can_be_tied`.

    Args:
        model: functional model.
        source: the model that it was made of; the error names it.
    """
    for layers_of_one in _untied(model):
        names = ", ".join(f"{each.name} ({type(each).__name__})" for each in layers_of_one)
        raise ValueError(
            "A weight must belong to one layer to be unfolded, or be a table that is looked up and "
            f"read backwards. Received: {source.name!r} ({type(source).__name__}), in which one is "
            f"held by {names}. Let one layer hold it, and be called wherever it is used; or keep "
            "the class: ProgressivePruning, prune_keras.shrink_in_place."
        )


def _untied(model: Any) -> Iterator[list]:
    """Yield the layers that hold a weight together, and that no layer can stand for."""
    leaves = [each for each in _keras.operations_seen_in(model) if _keras.is_layer(each)]
    holders: dict[int, dict[int, Any]] = defaultdict(dict)
    for layer in (each for each in leaves if _keras.function_of(each) is None):
        for variable in layer.weights:
            holders[id(variable)][id(layer)] = layer
    for found in ([*each.values()] for each in holders.values() if len(each) > 1):
        if not (_is_tie(found) and all(map(_is_table, found))):
            yield found


def _holders(model: Any) -> dict[int, list]:
    """Return the layers that hold a table or kernel, by the id of the variable."""
    found: dict[int, dict[int, Any]] = defaultdict(dict)
    for operation in _keras.operations_seen_in(model):
        variable = _table(operation)
        if variable is not None:
            found[id(variable)][id(operation)] = operation
    return {key: [*holders.values()] for key, holders in found.items()}


def _table(operation: Any) -> Any:
    kinds = (layers.Embedding, layers.ReversibleEmbedding)
    if type(operation) in kinds and getattr(operation, "tie_weights", True):
        return operation._embeddings
    if type(operation) is layers.EinsumDense and operation.equation == BACKWARDS:
        return _keras.kernel_of(operation)
    return None


def _is_table(operation: Any) -> bool:
    return _table(operation) is not None


def _is_tie(holders: list) -> bool:
    return len(holders) > 1 and any(isinstance(each, layers.Embedding) for each in holders)


def _reversible(holders: list, names: Mapping[str, int]) -> Any:
    looked_up = next(each for each in holders if isinstance(each, layers.Embedding))
    config = layers.Embedding.get_config(looked_up)
    known = layers.ReversibleEmbedding(1, 1).get_config()
    given = {name: value for name, value in config.items() if name in known}
    if names[given["name"]] > 1:  # as where a layer of layers is named like the table in it
        given["name"] += "_table"
    made = layers.ReversibleEmbedding(**given)
    return _keras.adopt(made, {"_embeddings": looked_up._embeddings}, (None,))


class _Tying:
    def __init__(self, reversible: Mapping[int, Any]) -> None:
        self._reversible = reversible
        self._nested: dict[int, Any] = {}

    def rebuilt(self, function: Any) -> Any:
        return _keras.rebuilt(function, self.call)

    def call(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        if _keras.function_of(operation) is not None:
            if id(operation) not in self._nested:
                self._nested[id(operation)] = self.rebuilt(_keras.function_of(operation))
            return self._nested[id(operation)](*args, **kwargs)
        layer = self._reversible.get(id(_table(operation)))
        if layer is None:
            return operation(*args, **kwargs)
        backwards = not isinstance(operation, layers.Embedding) or kwargs.get("reverse", False)
        return layer(*args, **{**kwargs, "reverse": True} if backwards else kwargs)

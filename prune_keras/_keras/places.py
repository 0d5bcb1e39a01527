"""Private Keras, places: the calls that a model makes, in the order in which it makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from keras import KerasTensor, tree

from prune_keras._keras.graphs import function_of, graph_of
from prune_keras._keras.walks import Call, walk


@dataclass(frozen=True)
class Place:
    """One call of an operation.

    Args:
        path: path of the operation.
        operation: the layer or raw operation.
        tensor: what the call gives, the first tensor of several.
        reads: what it is given: numbers of places, in the order of its arguments, -1 for an input
            of the whole model.
        is_output: whether it gives what the whole model gives.
        beside: what else it is given, that no call gives.
    """

    path: str
    operation: Any
    tensor: KerasTensor
    reads: tuple[int, ...] = ()
    is_output: bool = False
    beside: tuple[Any, ...] = ()


def places(model: Any) -> list[Place]:
    """Return the calls of a model, nested models entered, in the order in which they are run."""
    found: list[Place] = []

    def call(visited: Call) -> list[_Token]:
        given = tree.flatten((visited.args, visited.kwargs))
        reads = tuple(token.number for token in given if isinstance(token, _Token))
        beside = tuple(each for each in given if not isinstance(each, _Token))
        outputs = visited.node.outputs
        place = Place(visited.path, visited.operation, outputs[0], reads, beside=beside)
        found.append(place)
        return [_Token(len(found) - 1)] * len(outputs)

    def into(node: Any, path: str) -> Any:
        return function_of(node.operation)

    tokens = walk(model, [_Token(-1)] * len(graph_of(model).inputs), call, into=into)
    given = {token.number for token in tokens}
    return [replace(place, is_output=number in given) for number, place in enumerate(found)]


@dataclass(frozen=True)
class _Token:
    """Stands for a tensor: the number of the call that gives it."""

    number: int

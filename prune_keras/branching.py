"""Branching: the end of a network taken apart from its beginning, and what weighs several ends."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import keras
from keras import layers, ops

from prune_keras import _keras
from prune_keras.plan import Plan
from prune_keras.surgery import shrink
from prune_keras.teaching.losses import logits_of
from prune_keras.teaching.stages import channel_axis, stage_ends
from prune_keras.tracing import trace
from prune_keras.validation import free_name


@keras.saving.register_keras_serializable("prune_keras")
class Together(layers.Layer):
    """What several outputs come to, weighed sample by sample: `[weights, output, output, ...]`.

    Args:
        family: activation of the outputs, `"softmax"` or `"sigmoid"`; their logits are weighed.
            None where they are weighed as they are.
    """

    def __init__(self, family: str | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.family = family

    def build(self, input_shape: Any) -> None:
        self.steps = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="steps",
            aggregation="only_first_replica",
        )

    def call(self, inputs: Any) -> Any:
        gate, *outputs = inputs
        family = self.family
        values = outputs if family is None else [logits_of(each, family) for each in outputs]
        shape = (-1, *[1] * (len(values[0].shape) - 1))
        weighed = sum(ops.reshape(gate[:, n], shape) * each for n, each in enumerate(values))
        return weighed if family is None else keras.activations.get(family)(weighed)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "family": self.family}


def copied(model: Any) -> Any:
    with _keras.strategy_scope(model), _keras.uncompiled(model):
        return shrink(model, Plan.everything(trace(model).widths))


def last_shared(model: Any, at: str | None) -> tuple[str, Any, int | None]:
    """Return the path of the layer that branches begin behind, its tensor, and its channel axis.

    Raises:
        ValueError: if there is no such layer in the model itself.
    """
    graph = trace(model)
    if at is None:
        ends = [path for path in stage_ends(model, graph) if "/" not in path]
        if len(ends) < 2:
            raise ValueError(
                "A model must have two stages to be branched at the last one. Received: "
                f"{model.name!r} with ends of stages {ends}. Name the last shared layer as at=."
            )
        at = ends[-2]
    tensors = [place.tensor for place in _keras.places(model) if place.path == at]
    if "/" in at or not tensors:
        known = [place.path for place in _keras.places(model) if "/" not in place.path]
        raise ValueError(
            "`at` must be the name of a layer of the model itself. Received: "
            f"at={at!r}, while {model.name!r} has {known}."
        )
    records = {id(record.tensor): record for record in graph.tensors}
    return at, tensors[-1], channel_axis(records.get(id(tensors[-1])))


def behind(model: Any, shared: Any, at: str, number: int) -> Any:
    """Return what stands behind a tensor as a model of its own, of the same layers.

    Raises:
        ValueError: if something passes it by.
    """
    graph = _keras.graph_of(model)
    try:
        behind = keras.Model(shared, graph.outputs[0], name=f"branch_{number}")
    except ValueError as error:
        raise ValueError(
            "All must pass through the last shared layer. Received: "
            f"at={at!r} of {model.name!r}: {error}. Name another one."
        ) from error
    before = {id(place.operation) for place in _keras.places(keras.Model(graph.inputs, shared))}
    both = [place.path for place in _keras.places(behind) if id(place.operation) in before]
    if both:
        raise ValueError(
            "No layer may stand before and behind the last shared one. Received: "
            f"{both} of {model.name!r}, with at={at!r}. Name another one."
        )
    paths: dict[int, set[str]] = {}
    for place in _keras.places(behind):
        paths.setdefault(id(place.operation), set()).add(place.path)
    several = [sorted(each) for each in paths.values() if len(each) > 1]
    if several:
        raise ValueError(
            "A layer behind the last shared one must be called in one model alone, so that each "
            f"branch has its own. Received: {several[0]} of {model.name!r}, which are one layer. "
            "Name another one as at=, behind it, or make a layer for each."
        )
    return behind


def renewed(behind: Any, fresh: bool, number: int) -> Any:
    """Return a copy of what stands behind a tensor, as a branch of its own.

    What is random in its layers is drawn from other seeds than in other branches.

    Args:
        behind: the model.
        fresh: whether the copy begins with new weights. Layers that training does not change,
            frozen or adapted ones, would never learn what they are for, and keep theirs.
        number: of the branch.
    """

    def again(operation: Any) -> Any:
        return type(operation).from_config(_reseeded(operation.get_config(), number))

    made = keras.models.clone_model(behind, clone_function=again)
    if not fresh:
        made.set_weights(behind.get_weights())
    for old, new in zip(*map(_keras.all_layers, (behind, made)), strict=True):
        if not old.trainable_variables:
            new.set_weights(old.get_weights())
    _keras.copy_own_state(behind, made)
    return made


def _reseeded(config: Any, number: int) -> Any:
    """Return a config in which each seed that is given is another one, for each number.

    Example:

    >>> config = _reseeded({"units": 2, "kernel_initializer": {"config": {"seed": 3}}}, 2)
    >>> config["units"], config["kernel_initializer"]["config"]["seed"] == 3
    (2, False)
    """
    if isinstance(config, dict):
        return {
            key: _seed(value, number)
            if key == "seed" and isinstance(value, int)
            else _reseeded(value, number)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_reseeded(each, number) for each in config)
    return config


def _seed(seed: int, number: int) -> int:
    return random.Random(f"{seed} of {number}").randrange(1, 10**9)


def gated(shared: Any, axis: int | None, branches: int, taken: Collection[str]) -> Any:
    """Return the weight of each branch, sample by sample.

    Args:
        shared: the tensor that branches begin behind.
        axis: along which its channels lie; None for the last one.
        branches: number of branches.
        taken: names that layers must not have.
    """
    last = len(shared.shape) - 1
    positions = [n for n in range(1, last + 1) if n != (axis or last)]
    parts = ("", "_normalization", "_relu", "_weights")
    gate = free_name("gate", parts, taken)
    x = ops.mean(shared, positions) if positions else shared
    x = layers.Dense(branches, name=gate, dtype="float32")(x)
    x = layers.BatchNormalization(name=f"{gate}_normalization", dtype="float32")(x)
    x = layers.ReLU(name=f"{gate}_relu", dtype="float32")(x)
    return layers.Softmax(name=f"{gate}_weights", dtype="float32")(x)

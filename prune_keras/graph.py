"""What a traced model consists of: neurons, families of neurons, weights, and what is fixed.

All classes are frozen records that `trace` fills in; nothing here changes a model. A neuron is a
set of channels that must be removed together; it is known by the number of one of its labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.accounting import Cost, CostModel
from prune_keras.text import printable

IS_OUTPUT = "they are an output of the model"


@dataclass(frozen=True)
class Producer:
    """A layer whose output channels are prunable units.

    Args:
        path: the layer's path in the model, e.g. `"vgg16/block1_conv1"`.
        layer: the Keras layer.
        neurons: `(units,)`, the neuron each unit belongs to.
        prunable: `(units,)` booleans, false for units that are fixed.
        kernel: the variable that computes the units.
        axis: the axis of `kernel` along which the units lie.
        taps: calls after which the units' activations are final, each with the channel axis,
            counted without the batch.
    """

    path: str
    layer: Any
    neurons: np.ndarray
    prunable: np.ndarray
    kernel: Any
    axis: int
    taps: tuple[tuple[Any, int], ...]


@dataclass(frozen=True)
class Weight:
    """A variable and the neurons that lie along its axes.

    Args:
        path: path of the layer and name of the variable.
        variable: the Keras variable.
        axes: axis -> `(size,)` neuron of each entry.
        reads: the axes that read a tensor; zero there silences the neuron.
        times: how often the weight is multiplied for one sample, `None` where sizes are unknown.
        scale: `(size,)` neurons and what the weight is multiplied by as a function of booleans,
            which of them are kept. `None` for nothing.
    """

    path: str
    variable: Any
    axes: dict[int, np.ndarray]
    reads: tuple[int, ...]
    times: int | None
    scale: tuple[np.ndarray, Callable[[np.ndarray], float]] | None = None


@dataclass(frozen=True)
class Setting:
    """An attribute that counts or places channels, as a function of the entries kept."""

    owner: Any
    name: str
    neurons: np.ndarray
    value: Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Tensor:
    """A symbolic tensor of the graph, its shape without the batch and the neurons in it.

    `batch` is the axis of the tensor along which the batch lies.
    """

    tensor: Any
    shape: tuple[int | None, ...]
    neurons: np.ndarray
    batch: int = 0


@dataclass(frozen=True)
class Family:
    """Neurons that live in the same layers and cost the same.

    Args:
        name: path of the first layer they live in; numbered where several families start there.
        paths: paths of all producing layers they live in.
        neurons: `(size,)`, in the order of their position.
        multiple: of how many neurons a multiple stays, as several devices hold parts of a weight
            along them. Defaults to 1.
        gone: neurons that went in earlier rounds. Defaults to 0.
    """

    name: str
    paths: tuple[str, ...]
    neurons: np.ndarray
    multiple: int = 1
    gone: int = 0

    @property
    def size(self) -> int:
        return len(self.neurons)

    @property
    def share_gone(self) -> float:
        """Share of the neurons at the start that went in earlier rounds."""
        return self.gone / (self.gone + self.size)


@dataclass(frozen=True)
class Fixed:
    """Units of a layer that cannot be pruned, and why."""

    path: str
    units: int
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.units} units are fixed: {self.reason}")


@dataclass(frozen=True)
class Graph:
    """A model as pruning sees it; made by `prune_keras.trace`.

    Args:
        name: the model's name.
        producers: path -> `Producer`, in the order of the graph.
        families: all families of prunable neurons, in the order of the graph.
        fixed: what cannot be pruned, with reasons.
        notes: what removing neurons changes beside removing them, and which layers keep all units
            because these could only go at once.
        weights: every variable that carries channels along an axis.
        settings: attributes that count channels.
        tensors: symbolic tensors of the graph.
        costs: parameters and FLOPs as a function of the families' sizes.
        unit_axes: path -> the axis in `costs` along which the layer's units lie.
        ids: number of labels, of which the neurons are some.
        opened: calls of layers without a rule that were looked into. Defaults to none.
    """

    name: str
    producers: dict[str, Producer]
    families: tuple[Family, ...]
    fixed: tuple[Fixed, ...]
    notes: tuple[str, ...]
    weights: tuple[Weight, ...]
    settings: tuple[Setting, ...]
    tensors: tuple[Tensor, ...]
    costs: CostModel
    unit_axes: dict[str, int]
    ids: int
    opened: tuple[Any, ...] = ()

    @property
    def neurons(self) -> int:
        """Number of neurons that can be pruned."""
        return sum(family.size for family in self.families)

    @property
    def sizes(self) -> np.ndarray:
        """`(families,)`, neurons of each family."""
        return np.array([family.size for family in self.families], int)

    @property
    def widths(self) -> dict[str, int]:
        """Path -> number of units, of every layer with prunable units."""
        return {path: len(p.neurons) for path, p in self.producers.items() if p.prunable.any()}

    @property
    def cost(self) -> Cost:
        return self.costs.at(self.sizes)

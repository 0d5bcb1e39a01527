"""What the loss grows by when a unit goes and the layers that read it make up for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.criteria.criterion import Criterion
from prune_keras.criteria.curvature import Curvature, curvatures
from prune_keras.criteria.elimination import (
    Quadratic,
    eliminated,
    elimination,
    weighted_products,
)
from prune_keras.criteria.readers import readers_in
from prune_keras.criteria.reads import Reader, second_moments
from prune_keras.criteria.unread import unread
from prune_keras.graph import Family
from prune_keras.samples.moments import Moments
from prune_keras.samples.subject import Subject
from prune_keras.validation import check_count, check_share, check_whole


@dataclass(frozen=True)
class OptimalBrainSurgeon(Criterion):
    r"""Rise of the loss once the unit is gone, where the layers that read it make up for it.

    Units of a family go one after another, each time the one that adds least,
    `d_j = 1/2 sum_r tr(F_r W_rj' [(H_r^-1)_jj]^-1 W_rj)` over the layers `r` that read it, whose
    weights `W_r` and whose `H_r^-1` are then what they are without it; so of two twins only one is
    free. `s_j` is the sum of `d` up to the unit itself: what the family has lost once it is gone.
    Of a family of more than 256, the 256 that would add least are looked at alone; half of them go
    so before all are looked at anew.
    `H_r` holds the mean products of what is read for one response (the window of a convolution),
    about their means where a bias or a batch normalization makes up for these. `F_r` is the mean
    squared slope of a sample's loss by each output, summed over positions, times what makes layers
    comparable: slopes of many positions go together, behind global pooling all of them, so that
    closing single neurons, with nothing made up for, costs `1/2 mean_n (dL_n/dg_j)^2` for gates `g`
    on what they add to the responses, on the mean over the neurons of a layer.

    Dense layers, EinsumDense, convolutions over one to three axes and the projections of attention
    count as readers. A frozen kernel makes up for nothing. What other weights read (those of
    recurrent cells, separable and transposed convolutions, the width of keys) counts by the slope
    of the loss alone, `1/2 mean_n (sum_i w_i dL_n/dw_i)^2`, and units that no weight reads by the
    kernels that make them.

    Args:
        ridge: share of a channel's mean square that no other one is trusted to tell.
            Defaults to 1e-4.
        entries: where more entries than this are read for one response, places of the window, or
            of a map that was flattened, are taken to tell nothing of each other. Defaults to 1152.
        positions: of each sample, about this many responses of a layer are looked at.
            Defaults to 64.

    Reference:

    - Hassibi and Stork, 1992, Second order derivatives for network pruning: Optimal Brain Surgeon
    - Kurtic et al., 2023, ZipLM, https://arxiv.org/abs/2302.04089
    - Meng et al., 2024, OSSCAR, https://arxiv.org/abs/2403.12983
    """

    ridge: float = 1e-4
    entries: int = 1152
    positions: int = 64
    __name__ = "obs"
    arguments = ("ridge", "entries", "positions")
    needs_samples = True
    needs_loss = True
    loses = "running"

    def __post_init__(self) -> None:
        check_share("ridge", self.ridge)
        check_whole("entries", self.entries)
        check_count("positions", self.positions)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Remove each family to its end, and score its neurons by what is lost on the way."""
        readers = readers_in(subject.model, subject.graph, self.entries)
        constant = unread(subject, readers, self.__name__)
        scores = np.zeros(len(constant))
        with np.errstate(over="ignore", invalid="ignore"):  # those who check scores tell of these
            known = self._quadratics(subject, readers)
        for family in subject.graph.families:
            parts = [elimination(q, places) for q, places in _reads_of(family, known)]
            order, added = eliminated(parts, constant[family.neurons])
            scores[family.neurons[order]] = np.cumsum(added)
        return {p.path: scores[p.neurons] for p in subject.producers}

    def _quadratics(self, subject: Subject, readers: list[Reader]) -> list[tuple]:
        """Return pairs: the neurons along the entries of a table, and its quadratic."""
        moments = second_moments(subject, readers, self.positions)
        found = curvatures(subject, readers, self.__name__)
        normalized = _normalized(subject.model)
        pairs = []
        for reader in readers:
            curvature = found[reader.key]
            scale = _together(reader, moments, curvature)
            told = reader.learns_bias or id(reader.layer) in normalized
            for table in reader.tables:
                each, responses = moments[table.key], curvature.responses[table.outputs] * scale
                second = each.variance if told else _products(each)
                ridge = self.ridge if reader.learns else None
                quadratic = Quadratic.of(second, table.weights, responses, ridge)
                pairs += [(neurons, quadratic) for neurons in table.neurons]
        return pairs


def _products(moments: Moments) -> np.ndarray:
    return moments.variance + np.outer(moments.mean, moments.mean)


def _together(reader: Reader, moments: dict[str, Moments], curvature: Curvature) -> float:
    """Return how much more single neurons count than if all responses were by themselves."""
    apart = 0.0
    for table in reader.tables:
        neurons = table.neurons[0]
        weights = weighted_products(table.weights, curvature.responses[table.outputs])
        own = neurons[:, None] == neurons
        apart += float((_products(moments[table.key]) * weights)[own].sum())
    return curvature.neurons / apart if apart > 0 else 1.0


def _reads_of(family: Family, known: list[tuple]) -> list[tuple[Quadratic, np.ndarray]]:
    """Return quadratics that a family takes part in, and the places of its neurons' entries."""
    return [
        (quadratic, np.stack([np.flatnonzero(neurons == n) for n in family.neurons]))
        for neurons, quadratic in known
        if (neurons == family.neurons[0]).any()
    ]


def _normalized(model: object) -> set[int]:
    """Return the layers whose mean a batch normalization right behind takes away, by id."""
    functions = [f for f in map(_keras.function_of, _keras.models_in(model)) if f is not None]
    nodes = {id(node): node for f in functions for node in _keras.nodes_of(f)}.values()
    behind: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            behind.setdefault(id(tensor), []).append(node.operation)
    calls: dict[int, list[bool]] = {}
    for node in nodes:
        layer, tensor = node.operation, node.outputs[0]
        told = [
            _keras.normalizes_units(each, layer, len(tensor.shape))
            for each in behind.get(id(tensor), ())
        ]
        calls.setdefault(id(layer), []).append(any(told))
    return {key for key, each in calls.items() if all(each)}

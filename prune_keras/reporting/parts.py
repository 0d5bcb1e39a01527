"""Parts of a report: layers and what they feed, coupled groups, scores, the training, its origin.

All of them are frozen records of names and numbers, which `prune_keras.reporting.storing` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layer:
    """One layer of the graph, one of its inputs, or a place where several of its tensors meet.

    Args:
        path: the layer's path in the model.
        kind: its type, such as `"Conv2D"`.
        units: number of its units before; 0 for what has none of its own.
        left: number of its units after.
        inputs: places, among the layers, of those whose output it reads. Defaults to none.
    """

    path: str
    kind: str
    units: int
    left: int
    inputs: tuple[int, ...] = ()

    @property
    def merges(self) -> bool:
        """Whether it is an input or a merge, without units of its own."""
        return self.units == 0


@dataclass(frozen=True)
class Coupled:
    """Neurons that live in the same layers: what goes, goes from all of them.

    Args:
        name: the family's name.
        paths: the layers.
        neurons: number of the neurons before.
        left: number of the neurons after.
    """

    name: str
    paths: tuple[str, ...]
    neurons: int
    left: int


@dataclass(frozen=True)
class Distribution:
    """How the scores of one family were spread as the first cut was chosen.

    Args:
        family: the family's name.
        neurons: number of its neurons.
        removed: how many of them the cut removed.
        raw: quantiles of the scores as they were measured, at 0, 5, 10, ... 100 %.
        debiased: quantiles of the scores that families were compared by.
    """

    family: str
    neurons: int
    removed: int
    raw: tuple[float, ...]
    debiased: tuple[float, ...]


@dataclass(frozen=True)
class Cut:
    """One round on the axis of epochs.

    Args:
        number: the round, 1 for the first.
        at: epochs that were trained before the cut, a part of an epoch included.
        ended: epochs that were trained before the round was judged.
        kept: False if it was undone.
        metric_before: the metric before the cut; None if it was not measured.
        metric_cut: the metric right after the cut; None if it was not measured.
    """

    number: int
    at: float
    ended: float
    kept: bool
    metric_before: float | None = None
    metric_cut: float | None = None


@dataclass(frozen=True)
class Training:
    """The fit that a model was pruned in.

    Args:
        monitor: name of the metric.
        mode: one of `{"auto", "max", "min"}`: whether more or less of it is better.
        bound: the worst value allowed; None if there was none.
        epochs: logs of each epoch, over all fits.
        cuts: the rounds.
    """

    monitor: str
    mode: str
    bound: float | None = None
    epochs: tuple[Mapping[str, float | None], ...] = ()
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One model as it was measured at the end, such as a stage on the way to a device.

    Args:
        name: what it is called.
        values: what was measured, by name, such as `"test accuracy"`; None where it was not.
    """

    name: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Origin:
    """Where a report comes from.

    Args:
        call: what was called, as Python; what cannot be written down is `...`. Defaults to `""`.
        environment: versions, backend and processor by name. Defaults to nothing.
    """

    call: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

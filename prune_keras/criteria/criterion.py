"""What a criterion is that looks at more than one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from prune_keras.samples.subject import Subject


class Criterion:
    """A criterion that measures all layers of a model at once.

    A subclass is a frozen record with a `__name__`. It says as class attributes what it needs, and
    does its work in `measure`; layers that it does not see are scored by `"l2"`.

    Attributes:
        needs_samples: whether it looks at samples. Defaults to False.
        needs_loss: whether it looks at the loss that the model is compiled with. Defaults to False.
        needs_targets: whether it looks at targets. Defaults to `needs_loss`.
        loses: what scores say of the loss, so that those of different layers can be compared and
            summed: `"each"`, what it grows by as the neuron goes, `"running"`, what it has grown by
            once the neuron is gone, those of its family with lower scores included; None, nothing.
            Defaults to None.
        arguments: names of its fields that `prune_keras.criteria.serialize` stores.
    """

    arguments: tuple[str, ...] = ()

    @property
    def loses(self) -> str | None:
        return None

    @property
    def needs_samples(self) -> bool:
        return False

    @property
    def needs_loss(self) -> bool:
        return False

    @property
    def needs_targets(self) -> bool:
        return self.needs_loss

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Return the scores of the layers that it sees, path -> `(units,)` float64 scores."""
        raise NotImplementedError

    def at(self, round: int) -> Any:
        """Return what the criterion is in a round, counted from 0."""
        return self


def needs_samples(criterion: Any) -> bool:
    """Tell whether a criterion looks at samples; a function of a kernel does not."""
    return isinstance(criterion, Criterion) and criterion.needs_samples


def needs_loss(criterion: Any) -> bool:
    """Tell whether a criterion looks at the loss that the model is compiled with."""
    return isinstance(criterion, Criterion) and criterion.needs_loss


def needs_targets(criterion: Any) -> bool:
    """Tell whether a criterion looks at the targets of samples."""
    return isinstance(criterion, Criterion) and criterion.needs_targets


def loses(criterion: Any) -> str | None:
    """Return what a criterion says of the loss; see `Criterion`."""
    return criterion.loses if isinstance(criterion, Criterion) else None


def at_round(criterion: Any, round: int) -> Any:
    """Return what a criterion is in a round, counted from 0."""
    return criterion.at(round) if isinstance(criterion, Criterion) else criterion

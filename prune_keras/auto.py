"""What `"auto"` stands for: the criterion and the repair that suit what there is to score with.

Right after a cut, criteria that look at samples leave by far the most accuracy, and repairs add to
each. `taylor` leaves more on one network and `reconstruction` on another; their mean is the best or
next to it on both. Weights that are all fitted anew leave more than fused ones by any criterion,
also once training has followed. The folders `results/scores`, `results/untrained` and
`results/teaching` of the repository have what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prune_keras import criteria
from prune_keras import debias as debiasing
from prune_keras.repair import check_fuse
from prune_keras.samples.batches import batches, is_read_once, size_of
from prune_keras.scoring import check_samples
from prune_keras.selection.scores import Ranking

AUTO = "auto"
ENOUGH = 256  # samples to fit all weights by


@dataclass(frozen=True)
class Scoring:
    """What neurons are scored by, and what is fused.

    Args:
        criterion: `"auto"`, or what `prune_keras.criteria.get` takes. Defaults to `"auto"`.
        fuse: one of `{"auto", "weights", "bias", "sequential", None}`, or a `Refit`; True stands
            for `"weights"`, False for None. Defaults to `"auto"`.

    Example:

    >>> print(Scoring(criteria.taylor, fuse=True))
    taylor, fused weights
    """

    criterion: Any = AUTO
    fuse: Any = AUTO

    def __post_init__(self) -> None:
        if isinstance(self.fuse, bool):
            object.__setattr__(self, "fuse", "weights" if self.fuse else None)

    def check(self, data: Any) -> None:
        """Raise a ValueError unless both are known, and there are the samples they look at."""
        check_fuse(self.fuse, data)
        if self.criterion != AUTO:
            check_samples(criteria.get(self.criterion), data)

    def reads_all(self, data: Any) -> bool:
        """Tell whether all samples are looked at, and not only some for batch normalization."""
        chosen = self.criterion == AUTO or criteria.needs_data(criteria.get(self.criterion))
        return data is not None and (chosen or self.fuse is not None)

    def settled(self, model: Any, data: Any) -> Scoring:
        """Return a criterion and a repair, with `"auto"` exchanged for what suits model and data.

        The criterion is `"l2"` without data, the mean of `"taylor"` and `"reconstruction"` where
        there are targets and a compiled loss, and else `"reconstruction"`, which looks at inputs
        alone. Wherever there is data, weights are fused; where there are at least 256
        samples, they are fitted anew one layer after another.

        Args:
            model: the model.
            data: inputs, `(inputs, targets)`, a dataset of batches, or None.

        Raises:
            ValueError: if one of them is unknown, samples are missing, or can be read only once.

        Example:

        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> print(Scoring().settled(model, None))
        l2
        >>> print(Scoring().settled(model, np.ones((8, 4))))
        reconstruction, fused weights
        """
        self.check(data)
        is_fused = data is not None and self.fuse is not None
        if is_read_once(data) and (self.criterion == AUTO or is_fused):
            raise ValueError(
                "`data` must be readable more than once to choose a criterion, or to fuse. "
                f"Received: an iterator, with criterion={self.criterion!r}, fuse={self.fuse!r}. "
                "Pass arrays, a PyDataset or a tf.data.Dataset, or a criterion and fuse=None."
            )
        chosen = _suitable(model, data) if self.criterion == AUTO else self.criterion
        fuse = _repair(data) if self.fuse == AUTO else self.fuse
        return Scoring(criteria.get(chosen), fuse)

    def ranking(self, scope: str, debias: Any, combine: str) -> Ranking:
        """Return how neurons are ranked by the scores.

        Raises:
            ValueError: if scores are to be summed over layers that are no parts of one loss.
        """
        loses = criteria.loses(self.criterion)
        ranking = Ranking(scope, debias, combine, loses == "running")
        measured = ranking.by not in debiasing.DEBIASES.values()
        if scope == "optimal" and not measured and (loses is None or ranking.by.__name__ != "none"):
            raise ValueError(
                'scope="optimal" sums scores over layers, so that they must be parts of one loss. '
                f"Received: criterion={self.criterion.__name__!r}, "
                f"debias={ranking.by.__name__!r}. Pass one of "
                f"{[name for name, each in criteria.CRITERIA.items() if criteria.loses(each)]} "
                'as the criterion and debias="none", or a debias that was measured, '
                "prune_keras.sensitivity(model, data)."
            )
        return ranking

    @property
    def name(self) -> str:
        """What the criterion is called."""
        return getattr(self.criterion, "__name__", repr(self.criterion))

    def __str__(self) -> str:
        return self.name if self.fuse is None else f"{self.name}, fused {self.fuse}"


def _repair(data: Any) -> str | None:
    if data is None:
        return None
    return "sequential" if are_enough(data) else "weights"


def are_enough(data: Any) -> bool:
    """Tell whether there are enough samples to fit all weights by."""
    counts = accumulate(size_of(x) for x, *_ in batches(data, whole=False))
    return any(count >= ENOUGH for count in counts)


def _suitable(model: Any, data: Any) -> str:
    if data is None:
        return "l2"
    _, targets, _ = next(batches(data, steps=1))
    has_loss = getattr(model, "loss", None) is not None
    if targets is None or not has_loss:
        return "reconstruction"
    return "mean(taylor, reconstruction)"

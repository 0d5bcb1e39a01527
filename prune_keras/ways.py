"""Ways to cut: criterion, scope and repair together, and what `"auto"` stands for among them.

`obs` with the scope `optimal` leaves more than other criteria ranked by `global`, or as much, and
so it does once training has followed. By `global`, `obs` empties single layers where much is cut.
It counts on weights that make up for what goes, on samples enough to tell how, and on a target that
tells neurons apart by what they cost. The folders `results/untrained` and `results/teaching` of the
repository have what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prune_keras import criteria
from prune_keras import debias as debiasing
from prune_keras.accounting import METRICS
from prune_keras.auto import AUTO, ENOUGH, Scoring, are_enough
from prune_keras.selection.scores import Ranking

NOT = "and not by obs with 'optimal': "
COSTS = [*(metric for metric in METRICS if metric != "neurons"), "latency_ms"]


@dataclass(frozen=True)
class Way:
    """How a cut is made.

    Args:
        scoring: what neurons are scored by, and what makes up for those that go.
        ranking: how neurons are ranked by the scores.
        notes: what was chosen of what was left open, and why.
        otherwise: how it is made if these scores tell no neurons apart, since no loss has a slope
            where samples fit perfectly; None if it is made this way all the same.
    """

    scoring: Scoring
    ranking: Ranking
    notes: tuple[str, ...] = ()
    otherwise: Way | None = None

    @classmethod
    def of(
        cls,
        scoring: Scoring,
        ranking: tuple[str, Any, str],
        model: Any,
        data: Any,
        target: Mapping[str, float] | None = None,
    ) -> Way:
        """Choose what is left open.

        `obs` and the scope `optimal` go together: to one that is named, the other one is chosen,
        and both where none is, unless something speaks against them. Then the criterion is that of
        `Scoring.settled`, and the scope `global`.

        Args:
            scoring: criterion and repair, each of which may be `"auto"`.
            ranking: scope, which may be `"auto"`, debias, and how members are combined.
            model: the model.
            data: inputs, `(inputs, targets)`, a dataset of batches, or None.
            target: metric -> what may remain; None where only a fraction says how much goes.

        Raises:
            ValueError: as `Scoring.settled` and `Scoring.ranking` do.

        Example:

        >>> import numpy as np
        >>> way = Way.of(Scoring("taylor"), ("auto", "auto", "mean"), None, np.ones(3))
        >>> way.ranking.scope
        'global'
        """
        settled, both = scoring.settled(model, data), scoring.criterion == ranking[0] == AUTO
        if not both:
            return cls._made(settled, ranking, *_beside(scoring, settled, *ranking[:2]))
        against = _against(settled, ranking[1], data, target)
        own = settled.criterion, "global"
        if data is None or against:
            return cls._made(settled, ranking, *own, None if data is None else NOT + against)
        rest = cls._made(settled, ranking, *own, NOT + "these tell no neurons apart")
        together = criteria.get("obs"), "optimal", "which lose least"
        return replace(cls._made(settled, ranking, *together), otherwise=rest)

    def scored(
        self, score: Callable[[Way], dict[str, np.ndarray]]
    ) -> tuple[Way, dict[str, np.ndarray]]:
        """Return the way to go, `otherwise` where scores tell no neurons apart, and its scores.

        Args:
            score: from a way to path -> `(units,)` scores.
        """
        scores = score(self)
        if self.otherwise is None or any(np.ptp(each) for each in scores.values()):
            return self, scores
        return self.otherwise, score(self.otherwise)

    def measured_in(self, metric: str) -> Way:
        """Return the same way, with costs in this metric where there is no budget of any."""
        otherwise = self.otherwise and self.otherwise.measured_in(metric)
        return replace(self, ranking=replace(self.ranking, measure=metric), otherwise=otherwise)

    @classmethod
    def _made(
        cls, settled: Scoring, ranking: tuple, criterion: Any, scope: str, why: str | None
    ) -> Way:
        scoring = replace(settled, criterion=criterion)
        notes = (f"scored by {scoring.name} with scope={scope!r}, {why}",) if why else ()
        return cls(scoring, scoring.ranking(scope, *ranking[1:]), notes)


def _beside(given: Scoring, settled: Scoring, scope: str, debias: Any) -> tuple:
    """Return criterion and scope, one of which is named, and why, where that is to be told."""
    own, is_plain = settled.criterion, _is_plain(debias)
    if scope == AUTO and criteria.loses(own) == "running":
        together = "optimal", "the one that goes with it"
        return own, *(together if is_plain else ("global", "as 'optimal' takes no debias"))
    if scope == "optimal" and given.criterion == AUTO and is_plain and criteria.needs_loss(own):
        return criteria.get("obs"), scope, "which goes with it"
    return own, "global" if scope == AUTO else scope, None


def _is_plain(debias: Any) -> bool:
    """Tell whether scores may be summed as they are."""
    return debias == AUTO or debiasing.get(debias) is debiasing.none


def _against(settled: Scoring, debias: Any, data: Any, target: Mapping[str, float] | None) -> str:
    """Return what speaks against `obs` and `optimal` together, empty if nothing does."""
    if not criteria.needs_loss(settled.criterion):
        return "there are no targets, or no loss"
    if settled.fuse in (None, "bias"):
        return f"no weights make up for what goes, fuse={settled.fuse!r}"
    if not _is_plain(debias):
        return "a debias is named"
    if not any(metric in COSTS for metric in target or ()):
        return "no target says what neurons cost"
    return "" if are_enough(data) else f"there are fewer than {ENOUGH} samples"

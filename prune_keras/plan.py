"""A plan: which units of which layers are kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prune_keras import atomic


@dataclass(frozen=True, eq=False)
class Plan:
    """The units that every prunable layer of one model keeps.

    Args:
        kept: path of the layer -> sorted `(kept,)` indices of the units it keeps.
        widths: path of the layer -> the number of units the plan was made for.

    Raises:
        ValueError: if the paths differ, or indices are unsorted, repeated or out of range.

    Example:

    >>> first = Plan({"conv": [0, 2, 3]}, {"conv": 4})
    >>> second = Plan({"conv": [1, 2]}, {"conv": 3})
    >>> first.then(second).kept
    {'conv': array([2, 3])}
    """

    kept: Mapping[str, np.ndarray]
    widths: Mapping[str, int]

    def __post_init__(self) -> None:
        kept = {path: np.array(indices, dtype=int) for path, indices in self.kept.items()}
        widths = {path: int(width) for path, width in self.widths.items()}
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "widths", widths)
        _check(kept, widths)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    @property
    def new_widths(self) -> dict[str, int]:
        """Path of the layer -> the number of units that are left."""
        return {path: len(indices) for path, indices in self.kept.items()}

    @property
    def removed(self) -> int:
        """Number of units that the plan removes, in all layers."""
        return sum(self.widths.values()) - sum(self.new_widths.values())

    def then(self, following: Plan) -> Plan:
        """Compose with a plan for the model that this plan leaves.

        Args:
            following: a plan whose `widths` are this plan's `new_widths`; layers that it does not
                name keep what they have, since one that is left with one unit may be fixed.

        Returns:
            One plan for the model that this plan was made for.

        Raises:
            ValueError: if the second plan was made for another model.
        """
        named = {path: self.new_widths.get(path) for path in following.widths}
        if following.widths != named:
            raise ValueError(
                "A following plan must be made for the widths that this plan leaves. Received: "
                f"{_difference(following.widths, named)}. "
                "Make it from the thinner model: select(trace(thin), ...)."
            )
        kept = {path: self.kept[path][indices] for path, indices in following.kept.items()}
        return Plan({**self.kept, **kept}, self.widths)

    def since(self, first: Plan, paths: Iterable[str] | None = None) -> Plan:
        """Return what is left to do once a part of the plan was carried out.

        Args:
            first: a plan for the same model that keeps all that this plan keeps.
            paths: the layers that the result names. Defaults to None: all.

        Returns:
            A plan for the model that `first` leaves; `first.then` of it is this plan.

        Raises:
            ValueError: if `first` was made for another model, or removes what this plan keeps.

        Example:

        >>> first = Plan({"conv": [0, 2, 3]}, {"conv": 4})
        >>> Plan({"conv": [2, 3]}, {"conv": 4}).since(first).kept
        {'conv': array([1, 2])}
        """
        first.check_fits(self.widths)
        for path, indices in self.kept.items():
            lost = np.setdiff1d(indices, first.kept[path])
            if len(lost):
                raise ValueError(
                    "A plan must keep no units that were removed before. Received: "
                    f"{lost.tolist()} of {path!r}. Choose among the units that are left."
                )
        named = self.kept if paths is None else paths
        kept = {path: np.searchsorted(first.kept[path], self.kept[path]) for path in named}
        return Plan(kept, {path: len(first.kept[path]) for path in named})

    def to_dict(self) -> dict:
        """Return the plan as lists and numbers."""
        kept = {path: indices.tolist() for path, indices in self.kept.items()}
        return {"kept": kept, "widths": dict(self.widths)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Mapping]) -> Plan:
        """Return the plan that `to_dict` told of.

        Raises:
            ValueError: if it holds anything but whole numbers.
        """
        numbers = [*stored["widths"].values(), *itertools.chain(*stored["kept"].values())]
        if not all(type(each) is int for each in numbers):
            raise ValueError("`kept` and `widths` must hold whole numbers.")
        return cls(stored["kept"], stored["widths"])

    def save(self, file: str | Path) -> None:
        """Write the plan as JSON."""
        atomic.write_json(file, self.to_dict())

    @classmethod
    def load(cls, file: str | Path) -> Plan:
        """Read a plan that `save` wrote.

        Raises:
            ValueError: if the file holds something else.
        """
        try:
            return cls.from_dict(atomic.read_json(file))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                "A plan file must hold JSON with `kept` and `widths`. Received: "
                f"{file} ({error}). Write one with plan.save(file)."
            ) from error

    @classmethod
    def everything(cls, widths: Mapping[str, int]) -> Plan:
        """Return the plan that keeps every unit."""
        return cls({path: np.arange(width) for path, width in widths.items()}, widths)

    def check_fits(self, widths: Mapping[str, int]) -> None:
        """Raise a ValueError unless the plan was made for a model of these widths."""
        if dict(self.widths) != dict(widths):
            raise ValueError(
                "A plan fits only the model it was made for. Received: "
                f"{_difference(self.widths, widths)}. "
                "Make a plan from this model, or apply this one to the model it came from."
            )


def _difference(received: Mapping[str, int], expected: Mapping[str, int | None]) -> str:
    for path in [*expected, *received]:
        if received.get(path) != expected.get(path):
            return f"{received.get(path)} units for {path!r}, while it has {expected.get(path)}"
    return "the same widths"


def _check(kept: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> None:
    if set(kept) != set(widths):
        raise ValueError(
            "`kept` and `widths` must name the same layers. Received: "
            f"kept={sorted(kept)}, widths={sorted(widths)}."
        )
    for path, indices in kept.items():
        if not _sorted_below(indices, widths[path]):
            raise ValueError(
                f"The kept indices of a layer must be sorted, different, and below its width. "
                f"Received: kept[{path!r}]={indices.tolist()}, width={widths[path]}."
            )


def _sorted_below(indices: Sequence[int] | np.ndarray, width: int) -> bool:
    indices = np.asarray(indices)
    inside = len(indices) == 0 or (indices[0] >= 0 and indices[-1] < width)
    return indices.ndim == 1 and inside and bool((np.diff(indices) > 0).all())

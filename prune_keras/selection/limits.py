"""Limits: what must remain of layers, whatever the scores say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import keras

from prune_keras.validation import check_count, check_share, fitting

NUMBERS = ("min_units", "max_layer_fraction", "round_to")


@dataclass(frozen=True)
class Limits:
    """What must remain whatever the scores say.

    All but `exclude` are one number for every layer, or a mapping of paths, patterns such as
    `"block1_*"`, or types of layers such as `"Conv2D"` to numbers; all that fit a layer hold. A
    text that is the path of a layer stands for that layer alone, whatever it means as a pattern.

    Args:
        min_units: units that a layer keeps at least. Defaults to 1.
        max_layer_fraction: share of its original units that a layer loses at most, in (0, 1].
            Defaults to 1.
        exclude: layers that keep all units: a path or pattern, several of them, or a function of
            the path. Defaults to none.
        round_to: a family keeps a multiple of this many neurons, or all; of several numbers that
            fit its layers, a multiple of each. Defaults to 1.
    """

    min_units: int | Mapping[str, int] = 1
    max_layer_fraction: float | Mapping[str, float] = 1.0
    exclude: str | Iterable[str] | Callable[[str], bool] = ()
    round_to: int | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        for name in NUMBERS:
            for label, number in _entries(name, getattr(self, name)):
                if name == "max_layer_fraction":
                    check_share(label, number, upto_one=True)
                else:
                    check_count(label, number)
        if isinstance(self.exclude, keras.Operation) or not callable(self.exclude):
            object.__setattr__(self, "exclude", _names(self.exclude))

    def excluded(self, paths: Iterable[str]) -> set[str]:
        """Return the paths that must keep all their units.

        Raises:
            ValueError: if a name or pattern fits no path.
        """
        paths = list(paths)
        if callable(self.exclude):
            return {path for path in paths if self.exclude(path)}
        for pattern in self.exclude:
            if not fitting(pattern, paths):
                raise ValueError(
                    "`exclude` must name layers with prunable units. Received: "
                    f"exclude={pattern!r}, which fits none of {paths}."
                )
        return {path for pattern in self.exclude for path in fitting(pattern, paths)}

    def of(self, name: str, path: str, kind: str, paths: Collection[str] = ()) -> list[Any]:
        """Return the numbers of one limit that hold for a layer.

        Args:
            name: one of `{"min_units", "max_layer_fraction", "round_to"}`.
            path: the layer's path.
            kind: the name of its class.
            paths: those of all layers with units. Defaults to none: all texts are patterns.

        Example:

        >>> Limits(round_to={"Conv2D": 8, "block1_*": 16}).of("round_to", "block1_a", "Conv2D")
        [8, 16]
        """
        value = getattr(self, name)
        if not isinstance(value, Mapping):
            return [value]
        return [number for pattern, number in value.items() if _fits(pattern, path, kind, paths)]

    def check_fits(self, kinds: Mapping[str, str]) -> None:
        """Raise a ValueError if a path, pattern or type fits no layer.

        Args:
            kinds: path of the layer -> name of its class.
        """
        for name in NUMBERS:
            value = getattr(self, name)
            for pattern in value if isinstance(value, Mapping) else ():
                if not any(_fits(pattern, *layer, kinds) for layer in kinds.items()):
                    raise ValueError(
                        f"`{name}` must name layers with units, or their types. Received: "
                        f"{name}={value!r}, of which {pattern!r} fits none of {dict(kinds)}."
                    )

    def looser(self) -> list[tuple[str, Limits]]:
        """Return the limits that differ from their defaults, as text, each with all others."""
        defaults = {each.name: getattr(Limits, each.name) for each in fields(self)}
        return [
            (f"{name}={getattr(self, name)!r}", replace(self, **{name: default}))
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]


def _names(exclude: Any) -> tuple[str, ...]:
    """Return the paths or patterns that are excluded."""
    if exclude is None or isinstance(exclude, str):
        return () if exclude is None else (exclude,)
    names = tuple(exclude) if isinstance(exclude, Iterable) else (exclude,)
    wrong = [each for each in names if not isinstance(each, str)]
    if wrong:
        raise ValueError(
            "`exclude` must be paths or patterns of layers, or a function of a path. Received: "
            f"{wrong[0]!r} of type {type(wrong[0]).__name__}. Pass names, such as [layer.name]."
        )
    return names


def _entries(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the numbers of a limit, each under the name that an error gives it."""
    if not isinstance(value, Mapping):
        return [(name, value)]
    for pattern in value:
        if not isinstance(pattern, str):
            raise ValueError(
                f"`{name}` must be one number, or numbers by paths, patterns or types of layers. "
                f"Received: {name}={value!r}, with {pattern!r} of type {type(pattern).__name__}. "
                "Pass names, such as {layer.name: 8}."
            )
    return [(f"{name}[{pattern!r}]", number) for pattern, number in value.items()]


def _fits(pattern: str, path: str, kind: str, paths: Collection[str]) -> bool:
    exact = pattern in paths
    return pattern == kind or (path == pattern if exact else fnmatchcase(path, pattern))

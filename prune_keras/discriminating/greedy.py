"""Greedy choice: a family's neurons by the slope of the loss, and training between the picks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.discriminating.learner import Learner, as_row
from prune_keras.discriminating.options import DiscriminationAware
from prune_keras.discriminating.wiring import Reader, Wiring
from prune_keras.graph import Family
from prune_keras.samples.inputs import flat_inputs
from prune_keras.samples.scale import Scaled
from prune_keras.samples.subject import Subject, as_tensors

NAME = "discriminate"


@dataclass(frozen=True)
class Sizes:
    """How many neurons a family is left with: at least, at most, and a multiple of what."""

    least: int
    most: int
    multiple: int = 1

    def parts(self, picks: int) -> list[int]:
        """Return how many are to be chosen by the end of each pick, near to equal shares.

        Example:

        >>> Sizes(1, 8, 2).parts(3), Sizes(1, 3).parts(5)
        ([4, 6, 8], [1, 2, 3])
        """
        shares = (self.most * (pick + 1) / picks for pick in range(picks))
        ends = (-(-int(np.ceil(s - 1e-9)) // self.multiple) * self.multiple for s in shares)
        return sorted({min(max(end, self.least, 1), self.most) for end in ends})


class Choosing:
    """Chooses neurons of one family after another.

    Args:
        learner: the network, of which all neurons are there yet; it is compiled.
        wiring: its wiring.
        subject: the network and the data.
        how: how to choose and train.

    Attributes:
        passes: passes over the data, by now.
    """

    def __init__(
        self, learner: Learner, wiring: Wiring, subject: Subject, how: DiscriminationAware
    ) -> None:
        self._learner, self._wiring, self._subject, self._how = learner, wiring, subject, how
        self._scored: Callable[..., dict[str, Any]] | None = None
        self.passes = 0
        self._stays = np.ones(wiring.neurons.count + 1, "float32")
        learner.optimizer.build(learner.trainable_variables)
        self._fresh = [(v, _number(v)) for v in learner.optimizer.variables]

    @contextlib.contextmanager
    def compiled(self) -> Iterator[None]:
        """Compile what scores, once for all that is chosen within."""
        with _keras.passing(self._step, self._learner) as step:
            self._scored = Scaled(step, self._learner)
            yield

    def train_heads(self) -> None:
        """Train all heads by the network as it is now."""
        heads = len(self._wiring.heads)
        if heads:
            self._set([], [], [1.0] * heads + [0.0])
            self._train(self._how.head_epochs)

    def choose(self, family: Family, sizes: Sizes) -> np.ndarray:
        """Choose the neurons of a family that stay, and return which of them do."""
        mine, how = self._wiring.places_of(family), self._how
        readers = self._wiring.readers_of(family)
        judges = np.zeros(len(self._wiring.heads) + 1)
        judges[self._wiring.judge_of(readers)] = how.weight
        self._set(readers, self._wiring.sites_of(readers), judges)
        self._stays[mine] = 0
        losses: list[float] = []
        for end in sizes.parts(how.picks):
            loss, slopes = self._score(mine, readers)
            if self._is_flat([*losses, loss]):
                break
            losses.append(loss)
            self._pick(mine, slopes, end)
            self._train(how.epochs)
        return self._stays[mine] > 0

    def _is_flat(self, losses: list[float]) -> bool:
        """Tell whether the loss fell by too little with the last pick."""
        tolerance = self._how.tolerance
        return (
            tolerance is not None
            and len(losses) > 1
            and losses[-2] - losses[-1] < tolerance * losses[0]
        )

    def _pick(self, mine: np.ndarray, slopes: np.ndarray, end: int) -> None:
        """Choose those of the largest slopes until so many are chosen; ties go by position."""
        chosen = self._stays[mine] > 0
        order = np.argsort(np.where(chosen, np.inf, slopes) * -1, kind="stable")
        self._stays[mine[order[:end]]] = 1

    def _set(self, readers: list[int], sites: list[int], judges: Any) -> None:
        """Let some readers be trained, by these sites and heads, from an optimizer that is new."""
        wiring, learner = self._wiring, self._learner
        for state, chosen, count in (
            (learner.moves, readers, len(wiring.readers)),
            (learner.compares, sites, len(wiring.sites)),
        ):
            state.assign(as_row(np.isin(np.arange(count), chosen)))
        learner.judges.assign(as_row(np.asarray(judges)))
        for variable, value in self._fresh:
            variable.assign(value)

    def _batches(self) -> Iterator[tuple[list, Any, Any]]:
        self._learner.stays.assign(self._stays)
        self.passes += 1
        for x, y, weights in self._subject.batches_with_targets(NAME):
            yield flat_inputs(self._subject.inputs, x), as_tensors(y), as_tensors(weights)

    def _train(self, epochs: int) -> None:
        for _ in range(epochs):
            for x, y, weights in self._batches():
                self._learner.train_on_batch(x, y, sample_weight=weights)

    def _score(self, mine: np.ndarray, readers: list[int]) -> tuple[float, np.ndarray]:
        """Return the mean loss, and how steeply it falls with what each neuron is read by."""
        sums: dict[str, Any] = {}
        samples = 0
        for x, y, weights in self._batches():
            size = x[0].shape[0]
            found = self._scored(x, y, weights)  # type: ignore[misc]
            found = {name: found[name] * size for name in ("loss", *map(str, readers))}
            sums = {name: sums[name] + each for name, each in found.items()} if sums else found
            samples += size
        means = {name: _array(total) / samples for name, total in sums.items()}
        count = self._wiring.neurons.count
        slopes = sum(
            (lengths(self._wiring.readers[n], means[str(n)], count) for n in readers),
            np.zeros(count),
        )
        return float(means["loss"]), slopes[mine]

    def _step(self, x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
        """Return the loss of a batch, and its gradients by what readers see."""
        learner = self._learner

        def loss(seen: dict[str, Any]) -> Any:
            told = learner.told(x, [*seen.values()], training=False)
            return learner.compute_loss(x, y, told, weights) * scale

        seen = learner.seen()
        found = _backend.gradients(loss, seen) | {"loss": loss(seen)}
        return {name: ops.cast(each, "float32") / scale for name, each in found.items()}


def lengths(reader: Reader, gradient: np.ndarray, count: int) -> np.ndarray:
    """Return `(count,)`, the Frobenius norm of the gradient by what reads each neuron."""
    total = np.zeros(count)
    for axis, places in reader.places.items():
        others = tuple(a for a in range(gradient.ndim) if a != axis)
        along = np.square(gradient).sum(axis=others)
        total += np.sqrt(np.bincount(places, along, minlength=count + 1)[:count])
    return total


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)


def _number(variable: keras.Variable) -> np.ndarray:
    return np.array(ops.convert_to_numpy(variable.value))

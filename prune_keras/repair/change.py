"""Change: what the weights of a layer that loses inputs may become, and which of it they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras.readers.entries import numbers
from prune_keras.repair.reading import Reader
from prune_keras.samples.moments import Moments

RIDGE = 1e-4  # of the mean variance


@dataclass(frozen=True)
class Change:
    """What a layer's weights may become.

    Args:
        reader: the layer.
        made: `(units,)` booleans, which of its units stay.
        kernels: thin kernels to choose from, the first one as it was; if there are others, all of
            them hold its constraint.
        missing: kernel of full inputs, by which the layer finds out what its responses miss with
            each of them; their units follow one another.
    """

    reader: Reader
    made: np.ndarray
    kernels: tuple[np.ndarray, ...]
    missing: np.ndarray

    @classmethod
    def of(cls, reader: Reader, kept: np.ndarray, moments: Mapping[str, Moments]) -> Change:
        """Return what there is to choose from.

        Args:
            reader: the layer.
            kept: `(neurons,)` booleans, which neurons stay.
            moments: those of the neurons that it reads; none, if its kernel stays.
        """
        stays, made = kept[reader.neurons], kept[reader.outputs]
        # With LoRA, a layer responds by more than the variable.
        whole = numbers(reader.layer.kernel)[..., made]
        before = numbers(reader.kernel.value)[..., made][..., stays, :]
        kernels = [before]
        if moments:
            taken = _taken_over(reader, kept, moments, whole)[..., stays, :]
            # A slice need not hold a constraint either, as of a norm of one.
            kernels = [_constrained(reader.kernel, each) for each in (before, before + taken)]
        missing = [_missing(whole, stays, kernel - before) for kernel in kernels]
        return cls(reader, made, tuple(kernels), np.concatenate(missing, axis=-1))

    def settled(self, missed: Moments) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield variables and what they become, by what responses miss with each kernel."""
        shape = (len(self.kernels), -1)
        mean, scatter = missed.mean.reshape(shape), missed.scatter.reshape(shape)
        by_bias = self.reader.learns_bias
        error = scatter if by_bias else scatter + missed.count * np.square(mean)
        best = error.argmin(axis=0)
        if len(self.kernels) > 1:
            if not self._holds(best):
                best = np.full_like(best, error.sum(axis=1).argmin())
            yield self.reader.kernel, self._chosen(best)
        if by_bias:
            bias = self.reader.layer.bias
            shifted = numbers(bias.value)[self.made] + mean[best, np.arange(len(best))]
            yield bias, _constrained(bias, shifted)

    def _chosen(self, best: np.ndarray) -> np.ndarray:
        return np.where(best == 0, *self.kernels)

    def _holds(self, best: np.ndarray) -> bool:
        """Tell whether a choice for each unit holds a constraint, which may tie units together."""
        if self.reader.kernel.constraint is None:
            return True
        kernel = self._chosen(best)
        return np.allclose(_constrained(self.reader.kernel, kernel), kernel, atol=1e-6)


def _missing(whole: np.ndarray, stays: np.ndarray, change: np.ndarray) -> np.ndarray:
    missing = whole.copy()
    missing[..., stays, :] = -change
    return missing


def _taken_over(
    reader: Reader, kept: np.ndarray, moments: Mapping[str, Moments], whole: np.ndarray
) -> np.ndarray:
    """Return what is added to the weights of neurons that stay, a kernel of full inputs."""
    added = np.zeros_like(whole)
    for number, block in enumerate(reader.blocks):
        stays = kept[reader.neurons[block[0]]]
        if stays.all() or not stays.any():
            continue
        by = _foretold(moments[f"{reader.key}/{number}"], stays, reader.learns_bias)
        for entries in block:
            lost = whole[..., entries[~stays], :]
            added[..., entries[stays], :] = by.T @ lost
    return added


def _foretold(moments: Moments, stays: np.ndarray, intercept: bool) -> np.ndarray:
    """Return `A`, `(lost, kept)`, of the best prediction of what is lost."""
    second = moments.variance
    if not intercept:
        second = second + np.outer(moments.mean, moments.mean)
    inner = second[np.ix_(stays, stays)]
    inner[np.diag_indices_from(inner)] += RIDGE * np.trace(inner) / len(inner) + 1e-12
    return np.linalg.solve(inner, second[np.ix_(stays, ~stays)]).T


def _constrained(variable: Any, value: np.ndarray) -> np.ndarray:
    """Return what the variable's constraint makes of a value."""
    if variable.constraint is None:
        return value
    return numbers(variable.constraint(ops.convert_to_tensor(value, dtype=variable.dtype)))

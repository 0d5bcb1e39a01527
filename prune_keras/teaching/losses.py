"""Losses of a student and its teacher, each a `keras.losses.Loss` of teacher's and student's."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

EPSILON = 1e-7


class Softened(keras.losses.Loss):
    """How far outputs are from a teacher's, softened: `T^2 KL(teacher || student)`.

    Args:
        family: one of `{"softmax", "sigmoid", "values"}`; values are compared by squared error.
        activated: whether the teacher's and the student's outputs are probabilities already; else
            they are logits.
        temperature: `T`.
        reduction: as of any `keras.losses.Loss`.
    """

    def __init__(
        self,
        family: str,
        activated: tuple[bool, bool] = (False, False),
        temperature: float = 1.0,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name="softened", reduction=reduction)
        self._family, self._activated, self._temperature = family, activated, temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if self._family == "values":
            return ops.mean(ops.square(y_true - y_pred), axis=-1)
        both = zip((y_true, y_pred), self._activated, strict=True)
        logits = [logits_of(y, self._family) if done else y for y, done in both]
        teacher, student = (each / self._temperature for each in logits)
        return self._temperature**2 * _DIVERGENCES[self._family](teacher, student)


def logits_of(y: Any, family: str) -> Any:
    """Return logits of probabilities; those of a softmax are known but for a constant."""
    y = ops.clip(y, EPSILON, 1.0 - EPSILON if family == "sigmoid" else 1.0)
    return ops.log(y) if family == "softmax" else ops.log(y) - ops.log(1.0 - y)


def _of_one_class(teacher: Any, student: Any) -> Any:
    apart = ops.log_softmax(teacher) - ops.log_softmax(student)
    return ops.sum(ops.softmax(teacher) * apart, axis=-1)


def _of_each_class(teacher: Any, student: Any) -> Any:
    holds = ops.log_sigmoid(teacher) - ops.log_sigmoid(student)
    not_so = ops.log_sigmoid(-teacher) - ops.log_sigmoid(-student)
    share = ops.sigmoid(teacher)
    return ops.mean(share * holds + (1.0 - share) * not_so, axis=-1)


_DIVERGENCES = {"softmax": _of_one_class, "sigmoid": _of_each_class}


class Features(keras.losses.Loss):
    """Squared error relative to the teacher's: `|t - s|^2 / |t|^2`, over a batch."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _flat(y_true), _flat(y_pred)
        power = ops.mean(ops.sum(ops.square(y_true), axis=-1))
        return ops.sum(ops.square(y_true - y_pred), axis=-1) / (power + EPSILON)


class Attention(keras.losses.Loss):
    """How far apart it is where two look: of maps of norm 1, the mean square of what differs.

    Args:
        axes: the axis of channels in the teacher's and in the student's outputs.
    """

    def __init__(self, axes: tuple[int, int] = (-1, -1), **kwargs: Any) -> None:
        super().__init__(name="attention", **kwargs)
        self._axes = axes

    def call(self, y_true: Any, y_pred: Any) -> Any:
        both = zip((y_true, y_pred), self._axes, strict=True)
        teacher, student = (_map(y, axis) for y, axis in both)
        return ops.mean(ops.square(teacher - student), axis=-1)


def _map(y: Any, axis: int) -> Any:
    return _unit(_flat(ops.mean(ops.square(y), axis=axis)))


class Factored(keras.losses.Loss):
    """Mean absolute difference of two factors, each flattened and of norm 1."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        teacher, student = (_unit(_flat(y)) for y in (y_true, y_pred))
        return ops.mean(ops.abs(teacher - student), axis=-1)


def weighted_mean(losses: Any, weights: Any) -> Any:
    """Return the mean of losses `(entries,)`, those of each sample weighted by `(batch,)` weights.

    Several entries belong to one sample where windows are joined with the batch.
    """
    if weights is None:
        return ops.mean(losses)
    of_samples = ops.reshape(losses, (ops.shape(weights)[0], -1))
    return ops.mean(ops.mean(of_samples, axis=-1) * ops.cast(weights, losses.dtype))


def _unit(y: Any) -> Any:
    return y * ops.rsqrt(ops.sum(ops.square(y), axis=-1, keepdims=True) + EPSILON**2)


def _flat(y: Any) -> Any:
    """Return a new tensor of `(batch, entries)`, which carries no mask of positions."""
    return ops.reshape(y, (ops.shape(y)[0], -1))

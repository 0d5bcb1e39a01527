"""Answers: how far a student's outputs are from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import tree

from prune_keras import _keras
from prune_keras.teaching.losses import Softened
from prune_keras.teaching.outputs import activated, by_output, families, reductions
from prune_keras.teaching.teacher import Teacher


@dataclass(frozen=True)
class Answers:
    """The softened outputs of a teacher, and what those of a student count beside them.

    Args:
        losses: one for each output.
        weights: of these, as the student's compiled losses weigh; 0 for an output without a loss.
    """

    losses: tuple[Softened, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, asked: Teacher, teacher: Any, student: Any) -> Answers:
        """Return what is compared.

        Args:
            asked: what the user asked for.
            teacher: the model.
            student: the model, compiled.

        Raises:
            ValueError: if it is not known whether outputs are probabilities.
        """
        are_classes = asked.from_logits is not None
        kinds = families(student, teacher, asked.outputs, are_classes)
        mine = _activated(student, kinds, asked.from_logits)
        is_start = asked.model == "start"
        other = mine if is_start else _activated(teacher, kinds, asked.from_logits)
        both = zip(kinds, other, mine, reductions(student), strict=True)
        losses = tuple(Softened(kind, (t, s), asked.temperature, by) for kind, t, s, by in both)
        return cls(losses, tuple(_weights(student)))

    def loss(self, student: Any, told: Any, said: Any, sample_weight: Any) -> Any:
        """Return the weighted sum over outputs, each reduced over the batch as its own loss is.

        Args:
            student: the model.
            told: what the teacher gave.
            said: what the student gave.
            sample_weight: as `compute_loss` is given it.
        """
        outputs = zip(tree.flatten(told), tree.flatten(said), strict=True)
        samples = by_output(student, sample_weight)
        each = zip(self.losses, self.weights, outputs, samples, strict=True)
        return sum(weight * loss(*both, some) for loss, weight, both, some in each if weight)


def _activated(model: Any, kinds: Sequence[str], from_logits: bool | None) -> list[bool]:
    found = activated(model, kinds)
    if None in found and from_logits is None:
        raise ValueError(
            "It must be known whether a model gives probabilities or logits. Received: output "
            f"{found.index(None)} of {model.name!r}, of which neither a last activation nor a loss "
            "of Keras tells. Pass Teacher(from_logits=True) for logits, or False."
        )
    return [not from_logits if each is None else each for each in found]


def _weights(student: Any) -> list[float]:
    """Return what outputs count: as their losses do; all alike, if none has a loss."""
    losses = by_output(student, getattr(student, "loss", None))
    weights = by_output(student, _keras.loss_weights_of(student))
    told = [1.0 if weight is None else weight for weight in weights]
    if all(loss is None for loss in losses):
        return told
    return [0.0 if loss is None else each for loss, each in zip(losses, told, strict=True)]

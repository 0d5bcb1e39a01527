"""Teacher: which model a student learns from, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from prune_keras.plan import Plan
from prune_keras.teaching.factors import Factors
from prune_keras.validation import check_choice, is_number

OUTPUTS = ("auto", "softmax", "sigmoid", "values")


@dataclass(frozen=True)
class Teacher:
    """Which model a student learns from while it trains, and by what.

    The loss becomes `(1 - logits) * loss + logits * T^2 KL(teacher || student) + features * F +
    attention * A`, regularizers and penalties aside, with `T` the temperature. Of several outputs
    the divergences weigh as their losses do; one that has no loss is not taught. `F` is the squared
    error of intermediate outputs relative to the teacher's, on the channels that the student has
    kept: which these are is known, so that no projector is trained. `A` compares where both look:
    the mean over positions of the squared difference of `mean(x^2)` over channels, each map
    flattened and of norm 1. Both are means over the chosen layers.

    Args:
        model: any built Keras model that takes the student's inputs and gives outputs like its; or
            `"start"`, the student as it is when training begins. Defaults to `"start"`.
        logits: share of the loss that the teacher's outputs take over, in [0, 1]. Defaults to 0.5.
        temperature: how much outputs are softened, above 0. Defaults to 4.
        features: weight of `F`. Defaults to 0.
        attention: weight of `A`, which is small by nature: Moonshine's is 3000. Defaults to 0.
        layers: paths of the layers that `features` and `attention` compare, or student's path ->
            teacher's path. Defaults to None: the ends of stages, that is the last layer of each
            size of the maps, under the same path in both.
        outputs: one of `{"auto", "softmax", "sigmoid", "values"}`: what outputs stand for, classes
            of which one holds, classes that hold each for itself, or numbers, whose squared error
            takes the place of KL. Defaults to `"auto"`: told by the last activation, or else the
            loss. Classes of which one holds are to lie along the last axis.
        from_logits: whether classes are given as logits by a model of which neither its last
            activation nor its loss tells. Defaults to None: such a model is refused; but numbers
            without an activation are compared as such, if the loss is of the user's own.
        factors: a `prune_keras.callbacks.Factors`: how the teacher's factors are learnt, too.
            Defaults to None: they are not.
        store: whether the teacher is asked once for each sample, before the first batch, and what
            it says is held on the device, for data that are the same in each epoch: arrays passed
            to `fit`. Of features that are compared, all numbers are held. Defaults to False: it is
            asked in each step.
        plan: which of the teacher's channels the student began with, for a teacher from before an
            earlier pruning: `report.plan`. Defaults to None: all, if widths are equal.

    Raises:
        ValueError: if an argument is out of range, or nothing is to be learnt.

    Example:

    >>> from prune_keras.callbacks import Teacher
    >>> Teacher("start", logits=0.9, temperature=3.0, features=0.5).features
    0.5

    Reference:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015,
        https://arxiv.org/abs/1503.02531; Zagoruyko, Komodakis: Paying More Attention to Attention,
        2017, https://arxiv.org/abs/1612.03928.
    """

    model: Any = "start"
    logits: float = 0.5
    temperature: float = 4.0
    features: float = 0.0
    attention: float = 0.0
    layers: Sequence[str] | Mapping[str, str] | None = None
    outputs: str = "auto"
    plan: Plan | None = None
    factors: Factors | None = None
    store: bool = False
    from_logits: bool | None = None

    def __post_init__(self) -> None:
        if self.model != "start" and not isinstance(self.model, keras.Model):
            raise ValueError(
                "A teacher must be a keras.Model or 'start'. Received: "
                f"model={self.model!r}. Load it with keras.models.load_model first."
            )
        for name in ("logits", "temperature", "features", "attention"):
            _check_weight(name, getattr(self, name))
        if self.temperature == 0:
            raise ValueError("`temperature` must be above 0. Received: temperature=0. Pass 4.")
        if self.logits > 1:
            raise ValueError(
                f"`logits` must be a share in [0, 1]. Received: logits={self.logits}. Pass 0.9 to "
                "learn mostly from the teacher."
            )
        if self.factors is not None and not isinstance(self.factors, Factors):
            raise ValueError(
                "`factors` must be a prune_keras.callbacks.Factors. Received: "
                f"factors={self.factors!r}. Write factors=Factors(data)."
            )
        if not (self.logits or self.compares):
            raise ValueError(
                "A student must learn something from its teacher. Received: logits=0, features=0, "
                "attention=0, factors=None. Give one of them a weight."
            )
        if not (self.from_logits is None or isinstance(self.from_logits, bool)):
            raise ValueError(
                "`from_logits` must be True, False or None. Received: from_logits="
                f"{self.from_logits!r}. Pass True if outputs of classes are logits."
            )
        if not isinstance(self.store, bool):
            raise ValueError(
                f"`store` must be True or False. Received: store={self.store!r}. Pass True to ask "
                "the teacher once for each sample of arrays."
            )
        check_choice("outputs", self.outputs, OUTPUTS)

    @property
    def compares(self) -> bool:
        """Whether intermediate outputs are compared."""
        return bool(self.features or self.attention or self.factors)

    @property
    def pairs(self) -> dict[str, str] | None:
        """Path in the student -> path in the teacher, of the layers compared; None if not told."""
        if self.layers is None or isinstance(self.layers, Mapping):
            return None if self.layers is None else dict(self.layers)
        paths = [self.layers] if isinstance(self.layers, str) else self.layers
        return {path: path for path in paths}

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self  # nothing of it changes, and its model may be large


def _check_weight(name: str, value: Any) -> None:
    if not is_number(value) or value < 0:
        raise ValueError(
            f"`{name}` must be a number of at least 0. Received: {name}={value!r}. "
            "Pass 0 to leave it out."
        )

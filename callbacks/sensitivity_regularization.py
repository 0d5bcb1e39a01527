"""SensitivityRegularization: let weights decay that the outputs do not depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_keras import _keras
from prune_keras.callbacks.in_steps import InSteps
from prune_keras.graph import Graph
from prune_keras.preparing.layers import check_layers, producers_in
from prune_keras.preparing.sensitivity import WATCHED, Sensitivity
from prune_keras.teaching.outputs import by_output, is_of_numbers
from prune_keras.tracing import trace
from prune_keras.validation import check_choice, check_count, check_positive

FORMS = ("unspecific", "specific")
GRANULARITIES = ("unit", "weight")


@dataclass(eq=False, repr=False)
class SensitivityRegularization(InSteps):
    """Draw weights to zero by how little the outputs move with them (Tartaglione et al., 2018).

    The gradient of a training step gains `strength * w * max(0, 1 - S)` for each weight `w` of the
    layers, where its sensitivity `S` is the absolute derivative of an output, averaged over the
    batch, by the weight: the mean over all outputs (unspecific), or that of the true class
    (specific). With SGD of learning rate `lr` that is the update of the paper with `lambda = lr *
    strength`. By unit, `S` is the derivative by the neuron's response before the activation, summed
    over positions, and all incoming weights of the neuron share it: the structured form.

    When the loss stalls, weights of a magnitude below `threshold` are set to zero as the next epoch
    begins, and stay zero until `fit` ends. To see how many are, or to go on without retraining, use
    `prune_keras.sparsify`; neurons without any are the first that `criterion="l2"` cuts.

    Args:
        strength: what the decay is multiplied by, above 0.
        form: `"unspecific"` or `"specific"`. Defaults to `"unspecific"`, which takes one more
            backward pass an output; `"specific"` takes one, and targets that are classes or one-hot
            rows.
        granularity: `"weight"` or `"unit"`; by unit, all layers are to be dense ones or
            convolutions. Defaults to `"weight"`.
        refresh_steps: number of steps after which sensitivities are measured anew. Defaults to 1.
        threshold: magnitude below which weights are set to zero on a plateau. Defaults to None:
            none are.
        monitor: what is to fall, by its name in the logs. Defaults to `"loss"`.
        patience: number of epochs without a new minimum that make a plateau. Defaults to 3.
        layers: paths of layers, or patterns. Defaults to None: all but the first convolution and
            outputs. Frozen ones are left out.

    Attributes:
        zeroed_at: the epochs that began with weights set to zero.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, the
            model has several outputs, or a layer does not fit. After the first epoch, if the logs
            have no such metric.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import SensitivityRegularization
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> decay = SensitivityRegularization(strength=0.1, threshold=0.05, patience=1)
    >>> fitted = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=2, callbacks=[decay], verbose=0
    ... )
    """

    strength: float
    form: str = "unspecific"
    granularity: str = "weight"
    refresh_steps: int = 1
    threshold: float | None = None
    monitor: str = "loss"
    patience: int = 3
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("strength", self.strength)
        check_choice("form", self.form, FORMS)
        check_choice("granularity", self.granularity, GRANULARITIES)
        check_count("refresh_steps", self.refresh_steps)
        check_count("patience", self.patience)
        if self.threshold is not None:
            check_positive("threshold", self.threshold)
        check_layers(self.layers)
        self.zeroed_at: list[int] = []
        self._sensitivity: Sensitivity | None = None
        self._least, self._stalled = math.inf, 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.zeroed_at, self._least, self._stalled = [], math.inf, 0
        self._check(self.model)
        super().on_train_begin(logs)

    def _check(self, model: Any) -> None:
        trace(model)  # which looks into a `call` of its own
        outputs = _keras.graph_of(model).outputs
        if len(outputs) != 1:
            raise ValueError(
                "The model must have one output. "
                f"Received: {len(outputs)} outputs of {model.name!r}."
            )
        if self.form == "specific" and is_of_numbers(*by_output(model, model.loss)):
            raise ValueError(
                "The specific form must be of a model of classes, compiled with a cross-entropy. "
                f"Received: loss={model.loss!r} of {model.name!r}. Use form='unspecific'."
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._sensitivity is not None and self.zeroed_at:
            self._sensitivity.settle(0.0)  # an optimizer may have moved what no step saw
        if self._stalled < self.patience or self.threshold is None or self._sensitivity is None:
            return
        self._sensitivity.settle(self.threshold)
        self._sensitivity.hold()
        self.zeroed_at.append(epoch)
        self._stalled, self._least = 0, math.inf

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        found = (logs or {}).get(self.monitor)
        if self.threshold is None:
            return
        if found is None:
            raise ValueError(
                f"`monitor` must be in the logs. Received: monitor={self.monitor!r}, while these "
                f"are {sorted(logs or {})}. Pass validation_data, or monitor='loss'."
            )
        self._stalled = 0 if found < self._least else self._stalled + 1
        self._least = min(found, self._least)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._sensitivity is not None and self._view is not None and self.zeroed_at:
            self._sensitivity.settle(0.0)
        super().on_train_end(logs)

    def _made(self, graph: Graph) -> _keras.View:
        named = producers_in(graph, self.layers)
        producers = [p for p in named if p.kernel.trainable]  # what is frozen is not to be zeroed
        if not producers:
            raise ValueError(
                "There must be a layer that is trained. Received: "
                f"{[p.path for p in named]}, all of which are frozen. Name others by `layers`."
            )
        by_unit = self.granularity == "unit"
        others = [p.path for p in producers if not isinstance(p.layer, WATCHED)]
        if by_unit and others:
            raise ValueError(
                "By unit, all layers must be dense ones or convolutions. "
                f"Received: {others}. Name others by `layers`, or use granularity='weight'."
            )
        specific = self.form == "specific"
        self._sensitivity = Sensitivity(
            self.model, producers, self.strength, specific, by_unit, self.refresh_steps
        )
        if self.zeroed_at:
            self._sensitivity.hold()
        return self._sensitivity.view

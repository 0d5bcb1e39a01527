"""TargetedDropout: train a model to do without its smallest neurons, or weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_keras import _keras
from prune_keras.callbacks.in_steps import InSteps
from prune_keras.graph import Graph
from prune_keras.preparing.dropping import Dropping, Units, Weights
from prune_keras.preparing.layers import check_layers, families_in, producers_in
from prune_keras.preparing.scores import Neurons
from prune_keras.validation import check_choice, check_count, check_share, check_whole

GRANULARITIES = ("unit", "weight")


@dataclass(eq=False, repr=False)
class TargetedDropout(InSteps):
    """Drop what a later cut would remove, at random and anew in each step of training.

    Of each family of coupled neurons, or of each layer, the share of lowest magnitude are
    candidates, and each candidate is dropped with a probability for the forward and backward pass
    of one step (Gomez et al., 2018); nothing is rescaled. The network learns not to rely on them,
    so that they can be cut afterwards: neurons by `prune_keras.prune(..., criterion="l2",
    debias="none", scope="uniform")`, weights by `prune_keras.sparsify`.

    A neuron is dropped as a cut would remove it: all that reads it reads zeros, in all layers that
    it lives in at once. Its magnitude is the L2 norm of its incoming weights, averaged over these
    layers. A weight is dropped by being zero; its magnitude is its absolute value among the weights
    of the same output unit. Biases, and kernels that make no units of their own such as depthwise
    ones, are not dropped by weight.

    Masks are drawn inside of the compiled step. Variables, `evaluate`, and files that other
    callbacks write know nothing of them. After a cut of a `ProgressivePruning` in the same fit they
    are made for what is left.

    Args:
        target_fraction: share of neurons of a family, or weights of a unit, that are candidates, in
            (0, 1], rounded down.
        drop_rate: probability with which a candidate is dropped in a step, in (0, 1].
        granularity: `"unit"` for whole neurons, `"weight"` for single weights. Defaults to
            `"unit"`.
        ramp_epochs: number of epochs over which both rise from 0 to their ends: in epoch `e`,
            counted from 0, they are `min(1, e / ramp_epochs)` of them. Defaults to 0: no ramp.
        layers: paths of layers, or patterns such as `"stage2*"`; of coupled neurons, all layers
            must be among them. Defaults to None: all but the first convolution, what is coupled to
            it, and outputs.
        refresh_steps: number of steps after which candidates are chosen anew, as they are at each
            epoch's begin. Defaults to 10.
        seed: seed of the masks. Defaults to None: another one for each fit.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, or
            there is nothing to drop.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import TargetedDropout
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> dropout = TargetedDropout(target_fraction=0.5, drop_rate=0.5, ramp_epochs=2)
    >>> fitted = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=3, callbacks=[dropout], verbose=0
    ... )
    >>> dropout.share, dropout.rate
    (0.5, 0.5)
    """

    target_fraction: float
    drop_rate: float
    granularity: str = "unit"
    ramp_epochs: int = 0
    layers: Sequence[str] | None = None
    refresh_steps: int = 10
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("target_fraction", self.target_fraction, upto_one=True)
        check_share("drop_rate", self.drop_rate, upto_one=True)
        check_choice("granularity", self.granularity, GRANULARITIES)
        check_whole("ramp_epochs", self.ramp_epochs)
        check_layers(self.layers)
        check_count("refresh_steps", self.refresh_steps)
        self._dropping: Dropping | None = None
        self._epoch = 0

    @property
    def share(self) -> float:
        """The share of candidates in the epoch that was begun last."""
        return self.target_fraction * self._risen

    @property
    def rate(self) -> float:
        """The probability with which a candidate is dropped in the epoch that was begun last."""
        return self.drop_rate * self._risen

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch
        if self._dropping is not None:
            self._dropping.ramp(self.share, self.rate)

    @property
    def _risen(self) -> float:
        return min(1.0, self._epoch / self.ramp_epochs) if self.ramp_epochs else 1.0

    def _made(self, graph: Graph) -> _keras.View:
        kind: Units | Weights
        if self.granularity == "unit":
            kind = Units(Neurons(graph, families_in(graph, self.layers)))
        else:
            kind = Weights(producers_in(graph, self.layers))
        self._dropping = Dropping(kind, self.refresh_steps, self.seed)
        self._dropping.ramp(self.share, self.rate)
        return self._dropping.view

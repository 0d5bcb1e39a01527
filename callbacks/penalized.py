"""Penalties in training steps: on scale factors, and on whole groups of weights that grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from prune_keras import _keras
from prune_keras.callbacks.in_steps import InSteps
from prune_keras.graph import Graph
from prune_keras.preparing.layers import check_layers, families_in
from prune_keras.preparing.penalties import Paying, Penalty, on_groups, on_scales, scales
from prune_keras.preparing.scores import Neurons
from prune_keras.validation import check_choice, check_positive, check_share

NORMS = ("lasso", "l2")


@dataclass(eq=False, repr=False)
class _Penalized(InSteps):
    strength: float
    growth: float = 0.0
    limit: float | None = None
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("strength", self.strength)
        check_positive("growth", self.growth, zero=True)
        if self.limit is not None:
            check_positive("limit", self.limit)
        check_layers(self.layers)
        self._paying: Paying | None = None
        self._epoch = 0

    @property
    def current(self) -> float:
        """The strength in the epoch that was begun last."""
        grown = self.strength + self.growth * self._epoch
        return grown if self.limit is None else min(grown, self.limit)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch
        if self._paying is not None:
            self._paying.set_strength(self.current)

    def _made(self, graph: Graph) -> _keras.View:
        self._paying = Paying(self._penalty(Neurons(graph, families_in(graph, self.layers))))
        self._paying.set_strength(self.current)
        return self._paying.view

    def _penalty(self, neurons: Neurons) -> Penalty:
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class ScaleSparsity(_Penalized):
    """Penalize the scales of batch normalization, as network slimming does (Liu et al., 2017).

    The loss of a training step grows by `strength` times the sum of the absolute scales of all
    neurons that can be pruned, so that the optimizer draws those of neurons that matter little to
    zero. Cut them by `criterion="bn_scale"`.

    Args:
        strength: what the sum is multiplied by, above 0; 1e-5 to 1e-3 is usual.
        growth: what the strength grows by each epoch. Defaults to 0.
        limit: the most it grows to. Defaults to None: no limit.
        layers: paths of layers, or patterns; of coupled neurons, all layers must be among them.
            Defaults to None: all but the first convolution, and what is coupled to it.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, or
            no scale belongs to such neurons.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import ScaleSparsity
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"),
    ...     keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> fitted = model.fit(np.ones((8, 4)), np.ones((8, 2)), epochs=2, verbose=0,
    ...     callbacks=[ScaleSparsity(strength=1.0)])
    >>> bool((model.get_layer("norm").gamma < 0.9).numpy().all())
    True
    """

    def _penalty(self, neurons: Neurons) -> Penalty:
        found = scales(self.model, neurons)
        if not found:
            raise ValueError(
                "There must be scales of batch normalization that belong to prunable neurons. "
                f"Received: layers={self.layers!r}. Use GroupPenalty, which needs none."
            )
        return on_scales(found)


@dataclass(eq=False, repr=False)
class GroupPenalty(_Penalized):
    """Penalize neurons as groups: all incoming weights of all coupled members at once.

    With `norm="lasso"`, the loss of a training step grows by `strength` times the length of each
    group, whose gradient is a step of the same size against each group whatever its size. With
    `norm="l2"`, by half of `strength` times its square; with a share of the neurons and a strength
    that grows, that is growing regularization (GReg, Wang et al., 2021): those that are to go are
    drawn to zero ever stronger. Which ones are lowest is told by the L2 norms of their incoming
    weights as `fit` begins, and after each cut of a `ProgressivePruning`.

    Args:
        strength: strength in the first epoch, above 0.
        growth: what the strength grows by each epoch. Defaults to 0.
        limit: the most it grows to. Defaults to None: no limit.
        layers: paths of layers, or patterns; of coupled neurons, all layers must be among them.
            Defaults to None: all but the first convolution, and what is coupled to it.
        norm: `"lasso"` or `"l2"`. Defaults to `"lasso"`.
        share: share of each family's neurons, those of lowest norm, that pay, in (0, 1]. Defaults
            to 1.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, or
            there is no such layer.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import GroupPenalty
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> penalty = GroupPenalty(strength=0.1, growth=0.1, limit=0.25, norm="l2", share=0.5)
    >>> fitted = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=3, callbacks=[penalty], verbose=0
    ... )
    >>> penalty.current
    0.25
    """

    norm: str = "lasso"
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("norm", self.norm, NORMS)
        check_share("share", self.share, upto_one=True)

    def _penalty(self, neurons: Neurons) -> Penalty:
        lowest = neurons.are_lowest(neurons.norms(), ops.convert_to_tensor(self.share, "float32"))
        return on_groups(neurons, self.norm, ops.convert_to_numpy(lowest))

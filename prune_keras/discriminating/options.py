"""Options of discrimination-aware pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_keras.preparing.layers import check_layers
from prune_keras.validation import check_count, check_positive, check_share, check_whole


@dataclass(frozen=True)
class DiscriminationAware:
    """How `prune_keras.discriminate` chooses and trains.

    Args:
        weight: what the loss of a head counts beside half of the mean squared error of features, of
            at least 0; 0 chooses by reconstruction alone. Defaults to 1.
        layers: paths of layers with a head behind them. Defaults to None: the ends of stages, as
            `prune_keras.callbacks.Teacher` compares them.
        head_epochs: passes over the data in which all heads are trained, before anything is
            chosen. Defaults to 2.
        picks: in how many picks the neurons of a family are chosen; 1 chooses all at once, and more
            than a family has neurons, one by one. Defaults to 4.
        epochs: passes over the data in which the weights that read the chosen neurons are trained
            after each pick, and with them the head. Defaults to 1.
        learning_rate: of SGD with Nesterov momentum of 0.9, above 0. Defaults to 0.01.
        tolerance: a family gets no more neurons when a pick, and the training after it, made the
            loss fall by less than this share of what it was without any; in (0, 1). Defaults to
            None: as many as may stay.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> from prune_keras import DiscriminationAware
    >>> DiscriminationAware(picks=8, tolerance=0.01).epochs
    1
    """

    weight: float = 1.0
    layers: Sequence[str] | None = None
    head_epochs: int = 2
    picks: int = 4
    epochs: int = 1
    learning_rate: float = 0.01
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_layers(self.layers)
        check_whole("head_epochs", self.head_epochs)
        check_count("picks", self.picks)
        check_whole("epochs", self.epochs)
        check_positive("learning_rate", self.learning_rate)
        if self.tolerance is not None:
            check_share("tolerance", self.tolerance)

"""How much what is kept depends on what would be cut: the loss measured, and its expansion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.preparing.dropping import Units, Weights
from prune_keras.preparing.layers import check_layers, families_in, producers_in
from prune_keras.preparing.scores import Neurons
from prune_keras.preparing.state import masked
from prune_keras.samples.batches import Samples, check_batch_size
from prune_keras.samples.inputs import check_data
from prune_keras.samples.subject import Subject
from prune_keras.tracing import trace
from prune_keras.validation import check_choice, check_share

GRANULARITIES = ("unit", "weight")


@dataclass(frozen=True)
class Dependence:
    """The loss without what would be cut, and its expansion in the weights `w = k + c`.

    `k` are the weights that are kept, and zeros; `c` are those that would be cut; `g` is the
    gradient and `H` the Hessian of the mean loss, at `w`.

    Args:
        loss: mean loss of the model as it is.
        loss_cut: mean loss with the weights `k`, measured.
        first_kept: `g'k`.
        first_cut: `g'c`.
        second_kept: `1/2 k'Hk`.
        second_cut: `1/2 c'Hc`.
        second_cross: `k'Hc`; the three sum up to `1/2 w'Hw`.
    """

    loss: float
    loss_cut: float
    first_kept: float
    first_cut: float
    second_kept: float
    second_cut: float
    second_cross: float

    @property
    def change(self) -> float:
        """What the loss grows by as `c` is cut, measured."""
        return self.loss_cut - self.loss

    @property
    def first_order(self) -> float:
        """The first-order estimate of `change`: `-g'c`."""
        return -self.first_cut

    @property
    def second_order(self) -> float:
        """The second-order estimate of `change`: `-g'c + 1/2 c'Hc`."""
        return self.second_cut - self.first_cut

    def to_dict(self) -> dict[str, float]:
        """Return all numbers by name."""
        names = ("change", "first_order", "second_order")
        return asdict(self) | {name: getattr(self, name) for name in names}


def dependence(
    model: Any,
    data: Any,
    share: float,
    granularity: str = "unit",
    layers: Sequence[str] | None = None,
    data_batch_size: int | None = None,
) -> Dependence:
    """Measure how much a model depends on its smallest neurons or weights.

    What would be cut is the share that `callbacks.TargetedDropout` takes as candidates. Of neurons,
    the weights that read them count as cut, by which they are silenced; their layers' other
    weights, and all that are trained, count as kept. Second derivatives are products of the Hessian
    with `k` and `c`, and take about as long as four passes of training.

    Args:
        model: a built functional or Sequential model, compiled with a loss; it is not changed.
        data: `(inputs, targets)`, with sample weights or without, or a dataset of such batches. Of
            arrays, 4,096 samples are looked at.
        share: share of neurons of each family, or of weights of each unit, in (0, 1).
        granularity: `"unit"` or `"weight"`. Defaults to `"unit"`.
        layers: paths of layers, or patterns. Defaults to None: all but the first convolution and
            outputs.
        data_batch_size: samples a batch where `data` is arrays. Defaults to None: 32.

    Returns:
        A `Dependence`, of mean losses in inference, regularizers among them.

    Raises:
        ValueError: if an argument is out of range, or there are no targets.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> found = prune_keras.dependence(model, (np.ones((8, 4)), np.ones((8, 2))), share=0.5)
    >>> bool(abs(found.second_order - found.change) < 1e-5)  # with these layers it is exact
    True
    """
    check_share("share", share)
    check_choice("granularity", granularity, GRANULARITIES)
    check_layers(layers)
    check_batch_size(data_batch_size)
    graph = trace(model)
    check_data(data, _keras.graph_of(model).inputs, 1)
    kind: Units | Weights = Weights(producers_in(graph, layers))
    if granularity == "unit":
        kind = Units(Neurons(graph, families_in(graph, layers)))
    with _keras.undisturbed(model):
        masks = _masks(model, kind, share)
    subject = Subject(model, graph, Samples.of(data, data_batch_size))
    return _expanded(subject, masks)


def _masks(model: Any, kind: Units | Weights, share: float) -> list[tuple[keras.Variable, Any]]:
    """Return each variable that is trained or cut, and ones for the weights of it that stay."""
    kept = kind.look(ops.convert_to_tensor(share, "float32"))
    found = {id(variable): (variable, mask) for variable, mask in kind.masks(kept, 1.0, 0)}
    trained = {id(v): (v, 1.0) for v in model.trainable_variables}
    return [*(trained | found).values()]


def _expanded(subject: Subject, masks: list[tuple[keras.Variable, Any]]) -> Dependence:
    def step(x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
        def loss(factors: dict[str, Any]) -> Any:
            kept, cut = factors["kept"], factors["cut"]
            shown = [
                (variable, masked(variable, mask * kept + (1.0 - mask) * cut))
                for variable, mask in masks
            ]
            with _keras.showing(subject.model, shown):
                total = ops.cast(subject.loss(x, y, weights), "float32")
            return total * scale

        one, zero = ops.ones((), "float32"), ops.zeros((), "float32")
        whole = {"kept": one, "cut": ops.copy(one)}  # apart: by each it is differentiated
        first, second = _backend.second_derivatives(loss, whole)
        found = {
            "loss": loss(whole),
            "loss_cut": loss(whole | {"cut": zero}),
            "first_kept": first["kept"],
            "first_cut": first["cut"],
            "second_kept": second["kept"]["kept"] / 2,
            "second_cut": second["cut"]["cut"] / 2,
            "second_cross": second["kept"]["cut"],
        }
        return {name: value / scale for name, value in found.items()}

    sums, samples, _ = subject.summed(step, "dependence", targets=True, scaled=True)
    means = {name: float(total) / samples for name, total in sums.items()}
    if not all(map(math.isfinite, means.values())):
        raise ValueError(
            f"The losses must be finite. Received: {means}. Look for NaN or infinity in the data, "
            "targets among it, and in the weights."
        )
    return Dependence(**means)

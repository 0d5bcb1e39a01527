"""Criteria that watch samples pass: activations, and gradients of the loss by them.

The statistic of both kinds is a function of one layer's activations that is already reduced to
`(batch, units)` or reduces `(batch, positions, units)` itself, so nothing larger is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops


@dataclass(frozen=True)
class Activations:
    """A criterion from forward passes: the mean of a statistic over samples.

    Args:
        statistic: from activations `(batch, positions, units)` to `(batch, units)`.
        __name__: name of the criterion.

    Example:

    >>> from keras import ops
    >>> peak = Activations(lambda a: ops.max(a, axis=1), "peak")
    >>> peak(ops.ones((2, 5, 3))).shape == (2, 3)
    True
    """

    statistic: Callable[[Any], Any]
    __name__: str

    def __call__(self, activations: Any) -> Any:
        return self.statistic(activations)


@dataclass(frozen=True)
class Gradients:
    """A criterion from one backward pass: the mean of a statistic over samples.

    Args:
        statistic: from `(batch, units)`, the sum over positions of activation times gradient of
            the sample's loss, divided by the number of positions, to `(batch, units)`.
        __name__: name of the criterion.
    """

    statistic: Callable[[Any], Any]
    __name__: str

    def __call__(self, products: Any) -> Any:
        return self.statistic(products)


def _share_of_nonzeros(activations: Any) -> Any:
    return ops.mean(ops.cast(activations > 0, "float32"), axis=1)


def _mean_magnitude(activations: Any) -> Any:
    return ops.mean(ops.cast(ops.abs(activations), "float32"), axis=1)


def _magnitude(products: Any) -> Any:
    return ops.abs(products)


apoz = Activations(_share_of_nonzeros, "apoz")
"""One minus the average percentage of zeros: `s_j = mean(a_j > 0)` over samples and positions.

`a_j` is the activation where others read it: after batch normalization and activation. It tells
units apart only behind an activation that gives zeros, such as relu.

Reference:

- Hu et al., 2016, Network Trimming, https://arxiv.org/abs/1607.03250
"""

mean_activation = Activations(_mean_magnitude, "mean_activation")
"""Mean magnitude of the activation: `s_j = mean(|a_j|)` over samples and positions.

Reference:

- Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2; the same behind relu)
"""

taylor = Gradients(_magnitude, "taylor")
"""First-order change of the loss when the unit goes: `s_j = mean_n |1/P sum_p a_njp dL_n/da_njp|`.

`n` counts samples, `p` the `P` positions of a feature map, `L_n` is the compiled loss of a sample.

Reference:

- Molchanov et al., 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference,
  https://arxiv.org/abs/1611.06440
"""

"""Criteria that watch samples pass: statistics of activations, and of gradients.

Each is a frozen record of what is to be measured; `prune_keras.scoring` measures it in one pass, in
which nothing larger than `(batch, units)` a layer is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras._backend import mean_over_positions


def _as_it_is(mean: np.ndarray) -> np.ndarray:
    return mean


@dataclass(frozen=True)
class Activations:
    """A criterion from forward passes: the mean of a statistic over samples.

    Args:
        statistic: from activations `(batch, positions, units)` to `(batch, units)`, or to
            `(batch, units, moments)`.
        __name__: name of the criterion.
        finish: from the mean over samples, an array `(units,)` or `(units, moments)`, to scores
            `(units,)`. Defaults to the mean as it is.

    Example:

    >>> from keras import ops
    >>> peak = Activations(lambda a: ops.max(a, axis=1), "peak")
    >>> peak(ops.ones((2, 5, 3))).shape == (2, 3)
    True
    """

    statistic: Callable[[Any], Any]
    __name__: str
    finish: Callable[[np.ndarray], np.ndarray] = _as_it_is

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


@dataclass(frozen=True)
class WeightGradients:
    """A criterion from gradients by the kernels that make the units: its mean over batches.

    Args:
        statistic: from a kernel and a gradient by it, both `(inputs, units)`, to `(units,)`.
        __name__: name of the criterion.
        of: `"loss"`, or `"outputs"` for the mean over outputs, one backward pass each.
        outputs: how many outputs to differentiate at most; drawn by the seed where there are more.
            Defaults to 16.
    """

    statistic: Callable[[Any, Any], Any]
    __name__: str
    of: str = "loss"
    outputs: int = 16

    def __call__(self, kernel: Any, gradient: Any) -> Any:
        kernel, gradient = (ops.cast(each, "float32") for each in (kernel, gradient))
        return self.statistic(kernel, gradient)


@dataclass(frozen=True)
class Reconstruction:
    r"""Change of the next layers' responses when the unit goes.

    `s_j = sqrt(sum_r mean_np |sum_i x_nip w_i|^2)` over the layers `r` that read the unit, where
    `i` runs over the unit's entries of what is read for one response (the window of a convolution),
    `w_i` are their weights to all outputs, `n` counts samples and `p` positions of the response.
    Dense layers and convolutions over one or two axes count as readers. Units that others read are
    scored by `"l2"`.

    Reference:

    - Luo et al., 2017, ThiNet, https://arxiv.org/abs/1707.06342
    """

    __name__ = "reconstruction"


@dataclass(frozen=True)
class Discrimination:
    r"""What the unit counts where it stands for telling classes apart.

    On the activations of each layer, averaged over positions and standardized, `x_nj`, a linear
    softmax classifier is fitted: an auxiliary loss `L` at that layer.
    `s_j = mean_n |x_nj dL_n/dx_nj|`. Needs targets that are classes, of one output.

    Args:
        steps: steps of gradient descent for each classifier. Defaults to 200.

    Reference:

    - after Zhuang et al., 2018, Discrimination-aware Channel Pruning, NeurIPS,
      https://arxiv.org/abs/1810.11809, which trains the network on such losses, too
    """

    steps: int = 200
    __name__ = "discrimination"


@dataclass(frozen=True)
class Oracle:
    """Measured change of the mean loss when the neuron is silenced: exact, and slow.

    `s = L(without the neuron) - L`, with zeros in all weights that read it; all members of a
    neuron have its score. What lies before the first of these weights is computed once a batch,
    and each neuron costs a forward pass from there on. What divides by a statistic over channels
    (layer normalization, say) sees zeros, while a cut leaves them out.

    Reference:

    - Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2, "oracle")
    """

    __name__ = "oracle"


def _share_of_nonzeros(activations: Any) -> Any:
    return mean_over_positions(activations > 0)


def _mean_magnitude(activations: Any) -> Any:
    return mean_over_positions(ops.abs(activations))


def _magnitude(products: Any) -> Any:
    return ops.abs(products)


def _moments(activations: Any) -> Any:
    values = ops.cast(activations, "float32")
    squares = ops.mean(ops.square(values), axis=1)
    mean = ops.mean(values, axis=1)
    return ops.stack([ops.ones_like(mean), mean, squares], axis=-1)


def _deviation(moments: np.ndarray) -> np.ndarray:
    calls, mean, square = np.moveaxis(moments, -1, 0)
    return np.sqrt(np.maximum(square / calls - np.square(mean / calls), 0))


def _squared_sum(kernel: Any, gradient: Any) -> Any:
    return ops.square(ops.sum(kernel * gradient, axis=0))


def _summed_magnitude(kernel: Any, gradient: Any) -> Any:
    return ops.sum(ops.abs(gradient), axis=0)


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

activation_std = Activations(_moments, "activation_std", _deviation)
"""Standard deviation of the activation: `s_j = std(a_j)` over samples and positions.

A unit that always says the same can be replaced by a bias.

Reference:

- Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2)
"""

taylor = Gradients(_magnitude, "taylor")
"""First-order change of the loss when the unit goes: `s_j = mean_n |1/P sum_p a_njp dL_n/da_njp|`.

`n` counts samples, `p` the `P` positions of a feature map, `L_n` is the compiled loss of a sample.

Reference:

- Molchanov et al., 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference,
  https://arxiv.org/abs/1611.06440
"""

taylor_weights = WeightGradients(_squared_sum, "taylor_weights")
"""First-order change of the loss when the unit's weights go: `s_j = mean_b (sum_i w_ij g_bij)^2`.

`g_b` is the gradient of the mean loss of batch `b` by the kernel.

Reference:

- Molchanov et al., 2019, Importance Estimation for Neural Network Pruning,
  https://arxiv.org/abs/1906.10771
"""

sensitivity = WeightGradients(_summed_magnitude, "sensitivity", of="outputs")
"""How much outputs move with the unit's weights: `s_j = mean_bk sum_i |dy_bk / dw_ij|`.

`y_bk` is output `k`, averaged over batch `b` and over axes of open size. One backward pass an
output; of more than 16, 16 are drawn.

Reference:

- Tartaglione et al., 2018, Learning Sparse Neural Networks via Sensitivity-Driven Regularization,
  NeurIPS, https://arxiv.org/abs/1810.11764
"""

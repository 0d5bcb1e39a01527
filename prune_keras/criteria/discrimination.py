"""How much each unit helps to tell the classes apart where it stands, by auxiliary losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_keras.criteria.activations import pooled
from prune_keras.criteria.criterion import Criterion
from prune_keras.samples.subject import Subject


@dataclass(frozen=True)
class Discrimination(Criterion):
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
    arguments = ("steps",)
    needs_samples = True
    needs_targets = True

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Fit a linear classifier to each layer's pooled activations; score units by its loss."""
        features, targets = pooled(subject, self.__name__)
        classes = _one_hot(targets)
        return {
            path: discrimination(values, classes, self.steps) for path, values in features.items()
        }


def discrimination(features: np.ndarray, classes: np.ndarray, steps: int) -> np.ndarray:
    """Return what each feature counts in the loss of a linear softmax classifier.

    Args:
        features: `(samples, units)`.
        classes: `(samples, classes)`, ones for the class of each sample.
        steps: steps of gradient descent with momentum, by which the classifier is fitted.

    Returns:
        `(units,)`, the mean magnitude of feature times slope of the loss by it.
    """
    deviation = features.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    x = (features - features.mean(axis=0)) * scale
    rate = 4.0 / max(np.square(x).sum(axis=1).mean(), 1.0)  # below what the curvature allows
    weights, bias = np.zeros((x.shape[1], classes.shape[1])), np.zeros(classes.shape[1])
    velocity = np.zeros_like(weights), np.zeros_like(bias)
    for _ in range(steps):
        error = (_softmax(x @ weights + bias) - classes) / len(x)
        velocity = 0.9 * velocity[0] - rate * (x.T @ error), 0.9 * velocity[1] - error.sum(0)
        weights, bias = weights + velocity[0], bias + velocity[1]
    slopes = (_softmax(x @ weights + bias) - classes) @ weights.T
    return np.abs(x * slopes).mean(axis=0)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _one_hot(targets: np.ndarray) -> np.ndarray:
    """Return targets as one column a class."""
    shares = targets.ndim == 2 and targets.shape[1] > 1 and (targets >= 0).all()
    if shares and np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        return targets.astype(np.float64)
    labels = targets.reshape(len(targets), -1)
    if labels.shape[1] != 1 or not (labels == np.round(labels)).all():
        raise ValueError(
            "The criterion 'discrimination' needs classes: targets that are class numbers, or one "
            f"column a class that add up to one. Received: targets of shape {targets.shape} that "
            "are neither. Use another criterion, such as 'taylor'."
        )
    known, columns = np.unique(labels[:, 0], return_inverse=True)
    return np.eye(len(known))[columns]

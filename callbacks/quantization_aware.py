"""QuantizationAware: fine-tune a model for the eight bits that it is going to be held in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.callbacks.copying import Copied
from prune_keras.callbacks.distillation import check_no_pruning
from prune_keras.quantizing import Quantization, calibrate
from prune_keras.samples.batches import check_batch_size


@dataclass(eq=False, repr=False)
class QuantizationAware(Copied, keras.callbacks.Callback):
    """Let training and validation steps compute as LiteRT will in eight bits.

    As `fit` begins, `data` tell between which values each tensor lies; these grids stay. From then
    on kernels are rounded on a grid of each output channel, activations on that of each tensor,
    and gradients are those of what was not rounded. The shape of the model stays what it is, so
    that a pruned model stays as thin. Weights, files and `predict` know nothing of it, and once
    `fit` ends, however it does, nothing of it is left.

    What `prune_keras.export(model, "model.tflite", int8=aware.quantization)` writes gives what the
    last validation saw, to one step of its outputs' grid.

    Args:
        data: inputs, `(inputs, targets)` or a dataset of batches; of arrays, 4,096 samples are
            looked at.
        data_batch_size: samples a batch where `data` is arrays. Defaults to None: 32.

    Attributes:
        quantization: a `prune_keras.Quantization`, the grids; after `fit` has begun.

    Raises:
        ValueError: at construction or before the first batch, if it is not known what LiteRT makes
            of a layer, or the fit prunes.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import QuantizationAware
    >>> x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("adam", "mse")
    >>> aware = QuantizationAware(data=x)
    >>> history = model.fit(x, x[:, :2], callbacks=[aware], verbose=0)
    >>> len(aware.quantization.ranges)
    3

    Reference:
        Jacob et al.: Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference, 2018, https://arxiv.org/abs/1712.05877.
    """

    data: Any
    data_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        check_batch_size(self.data_batch_size)
        self.quantization: Quantization | None = None
        self._take_away: Callable[[], None] = lambda: None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end()  # a loop of another make that never came to its end
        check_no_pruning(self)
        model = (
            self.model
        )  # on JAX, to ask for it in a step would end the state that this was given
        self.quantization = quantization = calibrate(model, self.data, self.data_batch_size)
        self._take_away = _keras.surround(
            model, ["train_step", "test_step"], lambda name, batch: quantization.running(model)
        )
        _keras.keep_values(model)
        _keras.on_failure(model, self._end)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end()

    def _end(self) -> None:
        self._take_away()
        self._take_away = lambda: None

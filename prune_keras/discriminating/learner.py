"""Learner: a network whose readers see chosen neurons only, the network as it was, and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _backend, _keras
from prune_keras.discriminating.wiring import Site, Wiring
from prune_keras.preparing.scores import spread
from prune_keras.preparing.state import new_state


class Head(keras.layers.Layer):
    """Tells classes of maps: batch normalization, ReLU, the mean over positions, and Dense.

    Args:
        axis: the axis of channels.
        classes: number of outputs.
        activation: that of the outputs.
    """

    def __init__(self, axis: int, classes: int, activation: str | None) -> None:
        super().__init__(dtype="float32")
        self.axis = axis
        self.norm = keras.layers.BatchNormalization(axis=axis, momentum=0.9, dtype="float32")
        self.classes = keras.layers.Dense(classes, activation=activation, dtype="float32")

    def build(self, shape: Any) -> None:
        self.norm.build(shape)
        self.classes.build((shape[0], shape[self.axis]))

    def call(self, x: Any, training: bool = False) -> Any:
        x = ops.relu(self.norm(x, training=training))
        axes = [axis for axis in range(1, len(x.shape)) if axis != self.axis]
        return self.classes(ops.mean(x, axis=axes) if axes else x)


class Learner(keras.Model):
    """Trains what reads chosen neurons, by features of the network as it was and by heads.

    All of it is run as in inference, but for heads that are trained. What it pays is `sum_s c_s e_s
    + sum_h j_h l_h`: `e_s` is half of the mean squared error at a site, over the neurons chosen
    there; `l_h` the compiled loss of a head's outputs, or of the model's own, which come last.

    Args:
        dense: the network as it was.
        thin: a copy of it, compiled, whose readers are trained.
        wiring: that of `thin`.
        heads: one for each of the wiring's.

    Attributes:
        stays: `(neurons + 1,)` ones for neurons that were chosen; the last one is always there.
        moves: `(readers,)` ones for readers that are trained.
        compares: `(sites,)`, the `c`.
        judges: `(heads + 1,)`, the `j`.
    """

    def __init__(self, dense: Any, thin: Any, wiring: Wiring, heads: Sequence[Head]) -> None:
        super().__init__(autocast=False)
        self.dense, self.thin, self.heads = dense, thin, [*heads]
        self._wiring = wiring
        self.stays = new_state((wiring.neurons.count + 1,), "float32", "stays")
        self.moves = new_state((max(len(wiring.readers), 1),), "float32", "moves")
        self.compares = new_state((max(len(wiring.sites), 1),), "float32", "compares")
        self.judges = new_state((len(heads) + 1,), "float32", "judges")
        self.built = True

    def call(self, x: list, training: bool = False) -> dict[str, Any]:
        return self.told(x, [*self.seen().values()], training)

    def seen(self) -> dict[str, Any]:
        """Return what readers see of their weights, by their number as a text."""
        found = {}
        for number, reader in enumerate(self._wiring.readers):
            value = ops.convert_to_tensor(reader.variable.value)
            held = ops.stop_gradient(value)
            value = held + ops.cast(self.moves.value[number], value.dtype) * (value - held)
            for axis, places in reader.places.items():
                stays = ops.cast(ops.take(self.stays.value, places), value.dtype)
                value = value * spread(stays, axis, reader.variable)
            found[str(number)] = value
        return found

    def told(self, x: list, seen: list, training: bool) -> dict[str, Any]:
        """Return errors at sites, and what heads and the model itself give.

        Args:
            x: the flat inputs of a batch.
            seen: what readers see of their weights.
            training: whether heads are trained.
        """
        sites, heads = self._wiring.sites, self._wiring.heads
        _, asked = _backend.without_gradients(lambda: _heard(self.dense, x, sites))()
        variables = [reader.variable for reader in self._wiring.readers]
        with _keras.showing(self.thin, zip(variables, seen, strict=True)):
            (given, *_), heard = _heard(self.thin, x, [*sites, *heads])
        errors = [self._error(s, asked[s.call], heard[s.call]) for s in sites]
        maps = [self._chosen(site, heard[site.call]) for site in heads]
        judged = [
            head(each, training=training) for head, each in zip(self.heads, maps, strict=True)
        ]
        return {"errors": errors, "outputs": [*judged, given]}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of what `told` returned."""
        structure = _keras.output_structure(self.thin)
        losses = [
            self.thin.compute_loss(
                x=x,
                y=y,
                y_pred=tree.pack_sequence_as(structure, [outputs]),
                sample_weight=sample_weight,
            )
            for outputs in y_pred["outputs"]
        ]
        pairs = [*enumerate(y_pred["errors"])]
        total = sum(
            (self.compares.value[n] * error for n, error in pairs), ops.zeros((), "float32")
        )
        judged = (self.judges.value[n] * ops.cast(each, "float32") for n, each in enumerate(losses))
        return sum(judged, total)

    def _error(self, site: Site, asked: Any, heard: Any) -> Any:
        apart = ops.cast(asked, "float32") - ops.cast(heard, "float32")
        error = ops.mean(ops.square(self._chosen(site, apart))) / 2
        if site.places is None:
            return error
        return error / ops.maximum(ops.mean(ops.take(self.stays.value, site.places)), 1e-6)

    def _chosen(self, site: Site, value: Any) -> Any:
        """Let what a site gives be zero where it is of neurons that were not chosen."""
        if site.axis is None or site.places is None:
            return value
        shape = [1] * len(value.shape)
        shape[site.axis] = -1
        stays = ops.reshape(ops.take(self.stays.value, site.places), shape)
        return value * ops.cast(stays, value.dtype)


def _heard(model: Any, x: list, sites: Sequence[Site]) -> tuple[list, dict[int, Any]]:
    """Run a model; return its flat outputs, and what the calls at sites give."""
    wanted, heard = {site.call for site in sites}, {}
    count = iter(range(10**9))

    def call(visited: _keras.Call) -> Any:
        number, outputs = next(count), _keras.run(visited)
        if number in wanted:
            heard[number] = tree.flatten(outputs)[0]
        return outputs

    return _keras.walk(model, x, call), heard


def heads_for(wiring: Wiring, classes: int, activation: str | None) -> list[Head]:
    """Return a new head for each of a wiring's."""
    made = []
    for site in wiring.heads:
        head = Head(int(site.axis or 1), classes, activation)
        head.build(site.shape)
        head.built = True
        made.append(head)
    return made


def as_row(values: np.ndarray) -> np.ndarray:
    """Return numbers as the states of a learner hold them; one zero where there are none."""
    return np.asarray(values if len(values) else [0.0], "float32")

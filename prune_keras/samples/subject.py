"""What is scored, and how statistics of samples are summed while they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph, Producer
from prune_keras.samples.batches import (
    Batch,
    batches,
    check_targets,
    number_of_batches,
    size_of,
)
from prune_keras.samples.inputs import fixed_size, flat_inputs
from prune_keras.samples.scale import Scaled


@dataclass(frozen=True)
class Subject:
    """A model to score, and what it is scored with.

    Args:
        model: the model.
        graph: its graph.
        data: samples, where the criterion looks at some.
        seed: seed of what a criterion draws. None for another one at each call.
    """

    model: Any
    graph: Graph
    data: Any = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            _keras.check_runs(self.model)

    @cached_property
    def producers(self) -> list[Producer]:
        """Layers with prunable units."""
        return [p for p in self.graph.producers.values() if p.prunable.any()]

    @cached_property
    def shown(self) -> list[Producer]:
        """Those of them whose units an output shows."""
        return [p for p in self.producers if p.taps]

    @property
    def inputs(self) -> list:
        return _keras.graph_of(self.model).inputs

    @property
    def calls(self) -> float | None:
        """How many batches there are; None where that is not told."""
        return number_of_batches(self.data, fixed_size(self.inputs))

    def rng(self, seed: int | None = None) -> np.random.Generator:
        return np.random.default_rng(self.seed if seed is None else seed)

    def batches(self) -> Iterator[Batch]:
        return batches(self.data, fixed_size=fixed_size(self.inputs))

    def batches_with_targets(self, name: str) -> Iterator[Batch]:
        """Yield batches; a batch without targets is an error of the criterion of this name."""
        for x, y, weights in self.batches():
            check_targets(y, name)
            yield x, y, weights

    def flat(self) -> Iterator[list]:
        """Yield the flat inputs of all batches."""
        for x, _, _ in self.batches():
            yield flat_inputs(self.inputs, x)

    def summed(
        self,
        step: Callable,
        name: str,
        targets: bool = False,
        turns: Sequence[tuple] = ((),),
        scaled: bool = False,
    ) -> tuple[dict, int, int]:
        """Sum what a step returns over all batches.

        Args:
            step: from inputs, and targets and sample weights if it takes these, to a dict.
            name: name of the criterion.
            targets: whether the step takes targets and weights.
            turns: further arguments of the step, which each batch takes once with each of them.
            scaled: whether the step's last argument is a scale of the loss; see `Scaled`. Only
                such a step may have gradients.

        Returns:
            The dict of sums as float64 arrays, the number of samples, and that of batches.
        """
        totals: dict[str, Any] | None = None
        samples = count = 0
        with _keras.passing(step, self.model, None if scaled else self.calls) as compiled:
            call = Scaled(compiled, self.model) if scaled else compiled
            for x, y, weights in self.batches_with_targets(name) if targets else self.batches():
                x = flat_inputs(self.inputs, x)
                given = (x, as_tensors(y), as_tensors(weights)) if targets else (x,)
                given = _backend.shared_out(given, self.model)
                for turn in turns:
                    sums = call(*given, *turn)
                    totals = sums if totals is None else {p: totals[p] + sums[p] for p in sums}
                samples, count = samples + size_of(x), count + 1
        return {key: as_numpy(total) for key, total in (totals or {}).items()}, samples, count

    def collected(
        self, step: Callable, name: str, targets: bool = True
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return what a step gives for each sample, `(samples, ...)` arrays, and the targets."""
        found: list[dict[str, np.ndarray]] = []
        wanted: list[np.ndarray] = [np.zeros(0)]
        with _keras.passing(step, self.model, self.calls) as compiled:
            for x, y, _ in self.batches_with_targets(name) if targets else self.batches():
                x = _backend.shared_out(flat_inputs(self.inputs, x), self.model)
                given = compiled(x)
                found.append({key: as_numpy(value) for key, value in given.items()})
                wanted += [as_numpy(_only(y, name))] if targets else []
        joined = {key: np.concatenate([each[key] for each in found]) for key in found[0]}
        return joined, np.concatenate(wanted[1:] or wanted)

    def loss(self, x: list, y: Any, weights: Any, call: Callable = _keras.run) -> Any:
        """Return the compiled loss of a batch, summed over its samples, for a walk with `call`."""
        predicted = _keras.walk(self.model, x, call)
        predicted = keras.tree.pack_sequence_as(_keras.output_structure(self.model), predicted)
        total = self.model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights)
        return total * ops.cast(ops.shape(x[0])[0], total.dtype)


def _only(targets: Any, name: str) -> Any:
    """Return targets that are one array; raise a ValueError if a model has several."""
    flat = keras.tree.flatten(targets)
    if len(flat) != 1:
        raise ValueError(
            f"The criterion {name!r} needs the targets of one output. Received: {len(flat)} arrays "
            "of targets. Use another criterion, such as 'taylor'."
        )
    return flat[0]


def taps(producers: list[Producer]) -> dict[int, list[tuple[str, int]]]:
    """Return, by id of a call, the layers whose activation it gives, and their channel axis."""
    found: dict[int, list] = {}
    for producer in producers:
        for node, axis in producer.taps:
            found.setdefault(id(node), []).append((producer.path, axis))
    return found


def by_units(kernel: Any, axis: int, units: int) -> Any:
    """Lay a kernel, or a gradient by it, out as `(inputs, units)`; gates follow one another."""
    axis %= len(kernel.shape)
    order = [*(i for i in range(len(kernel.shape)) if i != axis), axis]
    return ops.reshape(ops.transpose(kernel, order), (-1, units))


def as_tensors(structure: Any) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(ops.convert_to_tensor, structure)


def as_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)

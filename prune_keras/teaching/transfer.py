"""Transfer: a teacher's factors, told to a student while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph, Tensor
from prune_keras.plan import Plan
from prune_keras.samples.batches import Samples
from prune_keras.samples.inputs import batches_for
from prune_keras.surgery import kept_neurons
from prune_keras.teaching.comparing import Told
from prune_keras.teaching.factors import Factors, decoder, encoder
from prune_keras.teaching.losses import Factored, weighted_mean
from prune_keras.teaching.masked import meaning, of_meant, without
from prune_keras.teaching.stages import calls_of, channel_axis, stage_ends
from prune_keras.tracing import trace
from prune_keras.validation import agree

BATCH_SIZE = 32  # of the paraphraser's training


@dataclass(frozen=True)
class Side:
    """The features of one of two models.

    Args:
        path: path of the layer that gives them.
        shape: of a sample, channels last.
        axis: the axis of channels, the batch counted.
        record: the neurons that lie along it.
    """

    path: str
    shape: tuple[int | None, ...]
    axis: int
    record: Tensor = field(repr=False)

    @classmethod
    def of(cls, model: Any, graph: Graph, path: str | None, whose: str) -> Side:
        """Return the features of a layer, or of the last one with maps.

        Raises:
            ValueError: if there is none, or it gives no maps.
        """
        path = path or next(reversed(stage_ends(model, graph)), None)
        place = calls_of(model, {path}, whose)[-1] if path else None
        records = {id(record.tensor): record for record in graph.tensors}
        record = None if place is None else records.get(id(place.tensor))
        axis = channel_axis(record)
        if record is None or axis is None or not 2 <= len(record.shape) <= 4:
            raise ValueError(
                f"Factors must be of maps with channels along one axis. Received: {path!r} of the "
                f"{whose} {model.name!r}. Name other layers in Factors(layers=...)."
            )
        sizes = np.delete(np.array(record.shape, object), axis - 1)
        return cls(str(path), (*sizes, record.neurons.size), axis, record)

    def maps(self, value: Any, meant: Any) -> Any:
        """Return the features as float32, channels last, and zero where they are masked."""
        return ops.cast(ops.moveaxis(without(value, meant), self.axis, -1), "float32")


class Transfer:
    """A paraphraser, a translator and its optimizer, beside one student.

    Args:
        asked: what the user asked for.
        teacher: the model.
        student: the model, as it is now.
        graph: of the student as training began, which later plans are about.
    """

    def __init__(self, asked: Factors, teacher: Any, student: Any, graph: Graph) -> None:
        self._asked, self._teacher, self._graph = asked, teacher, graph
        mine, other = asked.pair
        self.student = Side.of(student, graph, mine, "student")
        self.teacher = Side.of(teacher, trace(teacher), other, "teacher")
        self._check_sizes()
        width = max(1, round(asked.rate * int(self.teacher.shape[-1] or 1)))
        self.paraphraser = encoder(self.teacher.shape, width, asked.seed, "paraphraser")
        self.translator = encoder(self.student.shape, width, asked.seed + 1, "translator")
        self.optimizer = asked.new_optimizer()
        self.translator.trainable = False  # for Keras: no optimizer but this one is to find it
        self.optimizer.build(self.translator.weights)

    @property
    def variables(self) -> tuple[Any, ...]:
        """All that changes with each step of the student."""
        return (*self.translator.weights, *self.optimizer.variables)

    def learn(self) -> list[float]:
        """Train the paraphraser: what is decoded of its factors shall be the teacher's features.

        Returns:
            What is missed on average, batch by batch.
        """
        seen = self._features()
        width = self.paraphraser.output_shape[-1]
        decoded = decoder(self.teacher.shape, width, self._asked.seed + 2)(self.paraphraser.output)
        both = keras.Model(self.paraphraser.input, decoded, name="reconstruction")
        both.dtype_policy = "float32"
        both.compile("adam", "mae")
        drawn, missed = np.random.default_rng(self._asked.seed), []
        for _ in range(self._asked.epochs):
            order = drawn.permutation(len(seen))
            for start in range(0, len(seen), BATCH_SIZE):
                batch = seen[order[start : start + BATCH_SIZE]]
                missed.append(float(both.train_on_batch(batch, batch)))
        return missed

    def told(self, plan: Plan) -> Told:
        """Return what is learnt by a student of whom a plan is left."""
        left = kept_neurons(self._graph, plan)[self.student.record.neurons.reshape(-1)]
        pair = self.student.path, self.teacher.path
        return Told(pair, lambda told, said, weights: self.loss(told, said, left, weights))

    def loss(self, told: Any, said: Any, left: np.ndarray, sample_weight: Any = None) -> Any:
        """Return what is added to the student's loss, and let the translator take a step.

        Args:
            told: the teacher's features of a batch.
            said: the student's.
            left: which of the channels that training began with the student still has.
            sample_weight: weights of samples, `(batch,)`. Defaults to None: all alike.
        """
        meant = meaning(said, self.student.axis)
        told = self.teacher.maps(told, meant)
        factor = without(ops.stop_gradient(self.paraphraser(told, training=False)), meant)
        said = _at_first(self.student.maps(said, meant), left)
        variables = self.translator.weights
        # Copies: PyTorch takes gradients only later, of values that must not have changed then.
        values = {str(n): ops.stop_gradient(v.value) + 0.0 for n, v in enumerate(variables)}

        def apart(values: Mapping[str, Any], said: Any) -> Any:
            given, _ = self.translator.stateless_call([], [*values.values()], said)
            apart = Factored(reduction=None)(factor, without(given, meant))
            return weighted_mean(of_meant(apart, meant), sample_weight)

        still = ops.stop_gradient(said)
        slopes = _backend.gradients(lambda values: apart(values, still), values)
        loss = apart(values, said)
        self.optimizer.apply([*slopes.values()], variables)
        return self._asked.weight * loss

    def _features(self) -> np.ndarray:
        """Return the teacher's features of all samples, channels last."""
        held: list[Any] = []
        side = self.teacher

        def answer(operation: Any, call: Any, args: tuple, kwargs: dict) -> Any:
            held.append(call(*args, **kwargs))
            return held[-1]

        layer = calls_of(self._teacher, {side.path}, "teacher")[-1].operation
        found = []
        tensors = _keras.graph_of(self._teacher).inputs
        with _keras.undisturbed(self._teacher), _keras.answering([layer], answer):
            for inputs, _, _ in batches_for(tensors, Samples.of(self._asked.data)):
                held.clear()
                self._teacher(inputs, training=False)
                maps = side.maps(held[-1], meaning(held[-1], side.axis))
                found.append(ops.convert_to_numpy(maps))
        return np.concatenate(found)

    def _check_sizes(self) -> None:
        mine, other = self.student.shape[:-1], self.teacher.shape[:-1]
        if not agree(mine, other):
            raise ValueError(
                "Factors must be of maps of one size. Received: "
                f"{self.student.path!r} with maps of {mine}, for the teacher's "
                f"{self.teacher.path!r} with {other}. Name others in Factors(layers=...)."
            )


def _at_first(x: Any, left: np.ndarray) -> Any:
    """Return features with zeros where channels were that are gone, channels last.

    So a translator reads what is left where it always did, and needs no cut, nor one undone.
    """
    if left.all():
        return x
    places = np.where(left, np.cumsum(left) - 1, left.sum())
    return _backend.take(ops.concatenate([x, ops.zeros_like(x[..., :1])], -1), places, -1)

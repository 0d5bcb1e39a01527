"""Ensembling: several branches of one network that teach each other, of which one is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from prune_keras import _keras
from prune_keras.branching import Together, behind, copied, gated, last_shared, renewed
from prune_keras.teaching.ends import activations
from prune_keras.teaching.losses import Softened
from prune_keras.teaching.outputs import by_output, check_classes, losses, reductions
from prune_keras.validation import check_count, check_positive, check_whole

TOGETHER = "ensemble"


@keras.saving.register_keras_serializable("prune_keras")
class NativeEnsemble(keras.Model):
    """A model to train in place of another one: its end several times over, and a gate.

    All layers up to one are shared, all behind it are there once for each branch. A gate, made of
    the shared features by `Dense`, batch normalization, ReLU and softmax, weighs the branches'
    logits `z_i`; what comes out, `z = sum g_i z_i`, teaches them. The loss is that of each branch
    and of the ensemble, as compiled, and `w(t) T^2 sum KL(z || z_i)` while it is trained, with the
    temperature `T`, no gradients through `z`, and `w(t) = exp(-5 (1 - t / ramp_steps)^2)`, 1 from
    `t = ramp_steps` on. Numbers, which no class stands behind, are compared by squared error.

    Outputs are `{"branch_1": ..., "branch_2": ..., "ensemble": ...}`, each like the model's own.
    Compile with one loss and one list of metrics, and fit with the model's own targets: they hold
    for every output. `branch` returns the model to keep.

    Args:
        model: a built functional or Sequential model with one output; it is not changed. The first
            branch begins with its weights.
        branches: number of branches, at least 2. Defaults to 3.
        at: name of the last layer that is shared, through which all must pass. Defaults to None:
            the end of the last stage but one, that is the last layer of the second smallest maps.
        fresh: whether the other branches begin with new weights, as they must to differ; else with
            the model's, and they differ by what is random in their layers. Frozen and adapted
            layers keep theirs. Seeds of layers are others in each branch. Defaults to True.
        temperature: `T`, above 0. Defaults to 3.
        ramp_steps: training steps until the branches fully learn from the ensemble; in the paper,
            those of 80 epochs of 300. Defaults to 0: from the beginning.
        name: name of this model. Defaults to that of the model with `_ensemble`.

    Raises:
        ValueError: if an argument is out of range, the model cannot be branched there, its classes
            do not lie along the last axis, or a layer has an activation with weights that is not
            built, or the name of an output of the ensemble.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(8, 3, activation="relu", name="a"),
    ...         keras.layers.Conv2D(8, 3, activation="relu", name="b"),
    ...         keras.layers.GlobalAveragePooling2D(),
    ...         keras.layers.Dense(2, activation="softmax"),
    ...     ]
    ... )
    >>> ensemble = prune_keras.NativeEnsemble(model, at="a")
    >>> ensemble.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.random.default_rng(0).normal(size=(8, 8, 8, 3)), np.arange(8) % 2
    >>> history = ensemble.fit(x, y, verbose=0)
    >>> [name for name in sorted(history.history) if "accuracy" in name][:2]
    ['branch_1_accuracy', 'branch_2_accuracy']
    >>> ensemble.branch(2).count_params() == model.count_params()
    True

    Reference:
        Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble, 2018,
        https://arxiv.org/abs/1806.04606.
    """

    def __init__(
        self,
        model: Any,
        branches: int = 3,
        at: str | None = None,
        fresh: bool = True,
        temperature: float = 3.0,
        ramp_steps: int = 0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        _check(model, branches, temperature, ramp_steps)
        _check_layers(model, branches)
        stem = copied(model)
        at, shared, axis = last_shared(stem, at)
        first, *others = (behind(stem, shared, at, n + 1) for n in range(branches))
        family = activations(stem)[0]
        check_classes(stem, [family or "values"], "Branch a model without its softmax,")
        made = [first, *(renewed(each, fresh, n + 2) for n, each in enumerate(others))]
        outputs = {each.name: each(shared) for each in made}
        gate = gated(shared, axis, branches, {layer.name for layer in stem.layers})
        outputs[TOGETHER] = Together(family, name=TOGETHER)([gate, *outputs.values()])
        name = name or f"{model.name}_ensemble"
        super().__init__(_keras.input_structure(stem), outputs, name=name, **kwargs)
        self._held = _Held(copied(model), stem, first, tuple(made), family)
        self._settings: dict[str, Any] = {"branches": branches, "at": at, "fresh": fresh}
        self._settings |= {"temperature": temperature, "ramp_steps": ramp_steps}

    def branch(self, number: int = 1) -> Any:
        """Return the model with one of the branches, as a model of its own, not compiled.

        Args:
            number: 1 for the first. Defaults to 1.

        Raises:
            ValueError: if there is no such branch.
        """
        held = self._held
        if isinstance(number, bool) or number not in range(1, len(held.branches) + 1):
            raise ValueError(
                f"`number` must be of a branch, 1 to {len(held.branches)}. Received: "
                f"number={number!r}. Pass 1 for the one that began as the model."
            )
        kept = held.branches[number - 1]
        instead = {id(old): new for old, new in zip(held.first.weights, kept.weights, strict=True)}
        twin = copied(held.model)
        for mine, weight in zip(twin.weights, held.stem.weights, strict=True):
            # Which JAX would share, and let one give away.
            mine.assign(ops.copy(instead.get(id(weight), weight).value))
        held.give_own_state(twin, kept)
        return twin

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Compile as the model would be; its loss and metrics hold for every output."""
        if isinstance(loss, list | tuple) and len(loss) == 1:  # as Keras takes that of one output
            (loss,) = loss
        metrics, weighted = (self._own_metrics(each) for each in (metrics, weighted_metrics))
        super().compile(optimizer, loss, loss_weights, metrics, weighted, **kwargs)
        check_classes(self, losses(self), "Take a loss over the last axis,")

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a file tells."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _own_metrics(self, given: Any) -> Any:
        if given is None or isinstance(given, Mapping):
            return given
        given = given if isinstance(given, list | tuple) else [given]
        return {name: [*map(_own, given)] for name in self.output_names}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the losses of all outputs, and in training what is learnt of the ensemble."""
        loss = super().compute_loss(x, self._each(y), y_pred, self._each(sample_weight), training)
        if not training:
            return loss
        apart = self._apart(y_pred, sample_weight)
        return loss + ops.cast(self._weight() * apart, loss.dtype)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics of all outputs."""
        return super().compute_metrics(x, self._each(y), y_pred, self._each(sample_weight))

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save as any model, into a `.keras` file: Keras reads no class out of another one.

        Raises:
            ValueError: if the file is a `.h5` one.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "An ensemble must be saved into a .keras file. Received: "
                f"{str(filepath)!r}, which Keras could not read back. Save a branch, or name a "
                ".keras file."
            )
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        model = keras.saving.serialize_keras_object(self._held.model)
        return {"model": model, **self._settings, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})

    def _each(self, given: Any) -> Any:
        """Return what is given for the model's one output, for each output there is."""
        names = self.output_names
        if isinstance(given, dict) and {*given} != {*names}:
            raise ValueError(
                "Targets and their weights must be arrays, which hold for all outputs, or a dict "
                f"of one for each output. Received: a dict of {[*given]}, while outputs are "
                f"{names}. Pass the array itself."
            )
        return given if given is None or isinstance(given, dict) else dict.fromkeys(names, given)

    def _apart(self, y_pred: Any, sample_weight: Any) -> Any:
        """Return how far all branches are from the ensemble."""
        told = zip(by_output(self, self.loss), losses(self), reductions(self), strict=True)
        given = (each for each in told if each[0] is not None)
        _, by_loss, by = next(given, (None, "values", "sum_over_batch_size"))
        family = self._held.family or by_loss
        activated = (self._held.family is not None,) * 2
        loss = Softened(family, activated, self._settings["temperature"], by)
        taught = ops.stop_gradient(ops.cast(y_pred[TOGETHER], "float32"))
        names = [name for name in self.output_names if name != TOGETHER]
        weights = self._each(sample_weight) or {}
        return sum(
            loss(taught, ops.cast(y_pred[name], "float32"), weights.get(name)) for name in names
        )

    def _weight(self) -> Any:
        """Return `w(t)`, and count the step."""
        steps = self.get_layer(TOGETHER).steps
        ramp = self._settings["ramp_steps"]
        share = ops.minimum(ops.cast(steps, "float32") / max(ramp, 1), 1.0) if ramp else 1.0
        weight = ops.exp(-5.0 * ops.square(1.0 - share))
        steps.assign_add(1)
        return weight


@dataclass(frozen=True)
class _Held:
    """Models that an ensemble is made of; within this, Keras does not track them again.

    Args:
        model: the model as it was.
        stem: a copy, whose layers up to the branches are the ensemble's.
        first: what stands behind these in the copy.
        branches: the branches.
        family: what the output stands for, by its last activation; None for none.
    """

    model: Any
    stem: Any
    first: Any
    branches: tuple[Any, ...]
    family: str | None

    def give_own_state(self, twin: Any, kept: Any) -> None:
        """Give a copy of the model what layers up to a branch, and in it, keep beside weights."""
        layers = (_keras.all_layers(each) for each in (self.first, kept))
        instead = {id(old): new for old, new in zip(*layers, strict=True)}
        layers = (_keras.all_layers(each) for each in (self.stem, twin))
        for old, new in zip(*layers, strict=True):  # each model before the layers in it
            _keras.copy_own_state(instead.get(id(old), old), new)


def _check(model: Any, branches: int, temperature: float, ramp_steps: int) -> None:
    check_count("branches", branches)
    check_positive("temperature", temperature)
    check_whole("ramp_steps", ramp_steps)
    if branches < 2:
        raise ValueError("An ensemble must have at least 2 branches. Received: branches=1. Pass 3.")
    graph = _keras.graph_of(model) if isinstance(model, keras.Model) else None
    if graph is None or len(graph.outputs) != 1:
        count = "no graph" if graph is None else f"{len(graph.outputs)} outputs"
        raise ValueError(
            "A model that is branched must be functional or Sequential, built, and have one "
            f"output. Received: model={getattr(model, 'name', model)!r} with {count}. Write it as "
            "keras.Model(inputs, output), or see prune_keras.unfold."
        )


def _check_layers(model: Any, branches: int) -> None:
    """Raise a ValueError for layers that an ensemble cannot hold."""
    outputs = {TOGETHER, *(f"branch_{number + 1}" for number in range(branches))}
    taken = outputs & {layer.name for layer in model.layers}
    if taken:
        raise ValueError(
            f"Layers must not have the names of the ensemble's outputs. Received: {min(taken)!r} "
            f"in {model.name!r}. Give it another name."
        )
    held: list[tuple[Any, Any]] = [
        (each, getattr(each, "activation", None)) for each in _keras.all_layers(model)
    ]
    late = [layer.name for layer, made in held if _keras.is_layer(made) and not made.built]
    if late:
        raise ValueError(
            "Activations that are layers must be built, so that each branch has their weights. "
            f"Received: that of {late[0]!r} in {model.name!r}, which Keras builds when the model "
            "is run. Call it once on some samples."
        )


def _own(metric: Any) -> Any:
    """Return a metric that one output alone has."""
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric

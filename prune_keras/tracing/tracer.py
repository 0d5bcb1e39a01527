"""What the rules of layers report to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from prune_keras import _keras
from prune_keras.initial_values import fits_every_size
from prune_keras.tracing.labels import Labels, Partition, Place, count
from prune_keras.tracing.reaching import own_code, reached_from
from prune_keras.tracing.record import Fixing, MadeUnits, Reach, Record, Refusal, UsedWeight
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rule_checks import check_found, check_setting, check_weight
from prune_keras.tracing.rules.batches import stands_in_front
from prune_keras.tracing.rules.registry import rule_for, why_unruled
from prune_keras.tracing.trying import function_mixes, pass_alone
from prune_keras.tracing.visit import Visit


class Tracer:
    """What rules report to.

    An id stands for one channel. Those of what comes in are `visit.input.ids`; those of what a
    layer makes come from `units`. Ids that are united, as `along` and `weight` do where they meet,
    are removed together or not at all.
    """

    def __init__(self, first_units: bool = False) -> None:
        self.partition = Partition()
        self.record = Record()
        self.closed: dict[str, str] = {}
        self.chooses_units = False
        self._first_units = first_units

    def fix(self, ids: np.ndarray, reason: str) -> np.ndarray:
        """Keep the channels of these ids forever.

        Args:
            ids: integer array of any shape.
            reason: why they stay, as the report says it: `f"{visit.path} counts them"`.

        Returns:
            The ids.
        """
        self.record.fixings.append(Fixing(np.unique(ids), reason))
        return ids

    def note(self, ids: np.ndarray, text: str) -> None:
        """Say what removing channels of these ids changes beside removing them."""
        self.record.notes.append(Fixing(np.unique(ids), text))

    def fresh(self, count: int) -> np.ndarray:
        """Return `(count,)` ids of channels that no layer makes, such as those of a padding."""
        return self.partition.new(count)

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Let channels go together or not at all.

        Args:
            first: integer array of ids.
            second: another one, which broadcasts against it; the ids at each place become one
                channel.
        """
        self.partition.unite(first, second)

    def refuse(self, visit: Visit, reason: str) -> list[np.ndarray]:
        """Keep all channels that a call touches, and return ids for its outputs."""
        for labels in visit.inputs:
            self.fix(labels.ids, reason)
        has_rule = rule_for(visit.operation) is not None
        refusal = Refusal(visit.path, visit.operation, reason, has_rule)
        self.record.refusals.setdefault(visit.path, refusal)
        self._reach(visit, reason, visit.operation)
        return [self.nothing(len(shape), reason) for shape in visit.shapes]

    def nothing(self, rank: int, reason: str) -> np.ndarray:
        """Return ids for a tensor of which nothing can be removed."""
        return self.fix(self.partition.new(1).reshape((1,) * rank), reason)

    def along(self, labels: Labels, axis: int, reader: str) -> np.ndarray:
        """Return the `(size,)` ids along one axis.

        What lies at the other positions is united with them: after a Flatten, say, one channel
        stands at many entries, and a layer that treats entries along an axis alike needs them all.

        Args:
            labels: what comes in.
            axis: the axis, counted without the batch.
            reader: `visit.path`; reasons name it.
        """
        axis %= labels.rank
        size = labels.shape[axis]
        if size is None:
            self.fix(labels.ids, f"{reader} reads an axis of unknown size")
            return self.nothing(1, f"{reader} reads an axis of unknown size")
        ids = np.moveaxis(labels.ids, axis, -1).reshape(-1, labels.ids.shape[axis])
        if ids.shape[1] == 1 and len(ids) > 1:
            self.fix(ids, f"{reader} mixes the axis along which they lie")
        self.partition.unite(ids[1:], ids[:1])
        return np.broadcast_to(ids[0], (size,))

    def units(
        self,
        visit: Visit,
        kernel: Any,
        axis: int,
        tap_axis: int | None = -1,
        name: str = "",
        copies: int = 1,
    ) -> np.ndarray:
        """Return the `(units,)` ids of the units that a layer makes, the same ones at every call.

        Args:
            visit: the call of the layer.
            kernel: the variable that computes the units.
            axis: the axis of `kernel` along which the units lie.
            tap_axis: the axis of the (first) output along which they lie, without the batch; None
                where it does not show them. Criteria that score activations look there. Defaults
                to the last one.
            name: what the units are, where a layer makes several kinds, e.g. `"heads"`.
            copies: how often the units follow one another along the axis, as those of gates do.
        """
        key = (id(kernel), name, axis % len(kernel.shape))  # a tied one is read along both
        made = self.record.made.get(key)
        if made is None:
            ids = self.partition.new(kernel.shape[axis] // copies)
            path = f"{visit.path}:{name}" if name else visit.path
            made = MadeUnits(path, visit.operation, ids, kernel, axis, [])
            self.record.made[key] = made
        if tap_axis is not None:
            made.calls.append((visit.node, tap_axis))
        return made.ids

    def axis_of_units(self, count: int) -> int:
        """Return which of several axes of units of a kernel can be pruned: the last or the first.

        Channels lie along one axis of a tensor only. Where it makes a difference, a model is traced
        both ways.
        """
        self.chooses_units |= count > 1
        return 0 if self._first_units else count - 1

    def weight(
        self,
        visit: Visit,
        variable: Any,
        axes: dict,
        reads: tuple = (),
        times: int | None = 0,
        scale: tuple[np.ndarray, Callable] | None = None,
    ) -> None:
        """Record that channels lie along the axes of a variable.

        Args:
            visit: the call that uses the variable.
            variable: a Keras variable, or None where the layer has none.
            axes: axis -> `(size,)` ids; empty where no axis holds channels.
            reads: the axes that read the layer's input: zero there silences a channel.
            times: how often each entry of the variable is multiplied for one sample, for FLOPs;
                `visit.input.positions(-1)` for a kernel that is applied at every position, None
                where unknown. Defaults to 0.
            scale: `(size,)` ids and a function of booleans of that shape: what the variable is
                multiplied by to make up for what the layer divides by. Defaults to nothing.

        Raises:
            ValueError: if the ids do not fit the variable.
        """
        if variable is None:
            return
        check_weight(visit, variable, axes, reads)
        axes = {axis % len(variable.shape): ids for axis, ids in axes.items()}
        reads = tuple(axis % len(variable.shape) for axis in reads)
        self._lora(visit, variable, axes, reads, scale)
        used = self.record.used.get(id(variable))
        if used is None:
            path = f"{visit.path}/{variable.name}"
            self.record.used[id(variable)] = UsedWeight(path, variable, axes, reads, times, scale)
            return
        for axis in used.axes.keys() & axes.keys():
            self.partition.unite(used.axes[axis], axes[axis])
        for axis in used.axes.keys() ^ axes.keys():
            alone = used.axes[axis] if axis in used.axes else axes[axis]
            self.fix(alone, f"{used.path} is met by channels in some calls only")
        used.times = None if used.times is None or times is None else used.times + times

    def _lora(self, visit: Visit, variable: Any, axes: dict, reads: tuple, scale: Any) -> None:
        """Record the matrices that a layer multiplies and adds to a variable, if it does."""
        found = _keras.lora_of(visit.operation, variable)
        if found is None:
            return
        first, second = found
        last = len(variable.shape) - 1
        before = {axis: ids for axis, ids in axes.items() if axis != last}
        behind = {1: axes[last]} if last in axes else {}
        self.weight(visit, first, before, tuple(axis for axis in reads if axis != last))
        self.weight(visit, second, behind, (1,) if last in reads else (), scale=scale)

    def axes_of(self, variable: Any) -> dict[int, np.ndarray] | None:
        """Return axis -> ids as `weight` was told of a variable; None where it was told nothing."""
        used = self.record.used.get(id(variable))
        return None if used is None else used.axes

    def multiplied(self, axes: list[np.ndarray], times: int | None) -> None:
        """Record that tensors are multiplied with each other, as scores and values of attention.

        Args:
            axes: `(size,)` ids of each axis of channels that takes part.
            times: multiplications for one entry along all of them; None where unknown.
        """
        self.record.products.append((axes, times))

    def setting(self, owner: Any, name: str, ids: np.ndarray, value: Callable = count) -> None:
        """Record that an attribute depends on which entries of `ids` are kept.

        Args:
            owner: the object that has the attribute, a layer say, which writes it to its config.
            name: the attribute, such as `"units"`.
            ids: integer array.
            value: function of booleans of the shape of `ids`, true for what is kept; returns the
                attribute's new value. Defaults to counting them.

        Raises:
            ValueError: if the owner has no such attribute.
        """
        check_setting(owner, name, value)
        known = self.record.settings.setdefault((id(owner), name), (owner, name, ids, value))
        if known[2].shape == ids.shape:
            self.partition.unite(known[2], ids)
        else:
            name = getattr(owner, "name", "an operation")
            self.fix(np.append(known[2], ids), f"{name} is called on tensors of two shapes")

    def rectangle(self, ids: np.ndarray) -> np.ndarray:
        """Ask that what is kept of these ids is a product of one choice an axis."""
        self.record.rectangles.append(ids)
        return ids

    def at_least(self, ids: np.ndarray, count: int) -> None:
        """Ask that so many entries are left of ids that lie along an axis of a weight."""
        self.record.least.append((ids, count))

    def pointwise(self, visit: Visit) -> np.ndarray:
        """Record that a call maps each entry by itself, and return its input's ids.

        What it returns is taken for the activations of the units before it.
        """
        self.record.pointwise.add(id(visit.node))
        return visit.input.ids

    def apply(self, visit: Visit, tracer: Trace | None = None) -> Any:
        """Run the rule of a visit's operation, and return the ids of the output or outputs.

        Args:
            visit: the call.
            tracer: what the rule reports to. Defaults to this one.
        """
        rule = rule_for(visit.operation)
        report: Trace = tracer or self
        self._reach_by_code(visit)
        if not stands_in_front(visit):
            return self.refuse(visit, f"{visit.path} takes another axis for that of the batch")
        if rule is None:
            return self._without_rule(visit, report)
        if not visit.inputs:
            return self.refuse(visit, f"{visit.path} is given nothing but constants")
        try:
            found = _as_arrays(rule(visit, report))
        except Exception as error:
            kind = type(visit.operation).__name__
            error.add_note(f"in the rule of {visit.path!r} ({kind})")
            raise
        check_found(visit, found, self.partition.size)
        self._check_weights(visit)
        self._regularized(visit, found)
        return found

    def _without_rule(self, visit: Visit, tracer: Any) -> Any:
        alone = pass_alone(visit, tracer)
        if alone is not None:
            return alone
        inside = tracer.opened(visit)
        if inside is not None:
            return inside
        why = self.closed.get(visit.path)
        return self.refuse(visit, why_unruled(visit) + (f": {why}" if why else ""))

    def opened(self, visit: Visit) -> list | None:
        """Return ids for the outputs of what a layer is made of; None where that is not known."""
        return None

    def _regularized(self, visit: Visit, found: Any) -> None:
        """Record what a regularizer of activities is called on."""
        if not _keras.is_layer(visit.operation):
            return
        made = found if isinstance(found, list) else [found]
        if visit.operation.activity_regularizer is not None:
            for ids, shape in zip(made, visit.shapes, strict=False):
                self.record.regularized.append((visit.path, visit.operation, Labels(ids, shape)))
        seen = [layer for _, layer, _ in self.record.regularized]
        for layer in _keras.all_layers(visit.operation):
            regularizer = layer.activity_regularizer
            if layer not in seen and regularizer is not None and not fits_every_size(regularizer):
                self.refuse(visit, f"{visit.path} regularizes activities of its own {layer.name}")

    def tried(self, function: Callable, place: Place) -> str | None:
        """Return how an activation mixes channels, as found by trying it once."""
        known = self.record.activations
        key = (id(function), place)
        if key not in known:
            known[key] = (function, function_mixes(function, place))
        return known[key][1]

    def _reach(self, visit: Visit, reason: str, *starts: Any) -> None:
        """Record what a call may use, for `keep_what_is_reached`."""
        found = reached_from(*starts)
        if found:
            self.record.reaches.append(Reach(visit.path, reason, found))

    def _reach_by_code(self, visit: Visit) -> None:
        """Record what a call is given beside tensors of the graph, and what a user's code uses."""
        named = f"{visit.path} ({type(visit.operation).__name__})"
        given = [v for v in tree.flatten((visit.args, visit.kwargs)) if not isinstance(v, Labels)]
        self._reach(visit, f"{named} is given what no rule knows", *given)
        code = own_code(visit.operation)
        self._reach(visit, f"{named} calls a function that no rule knows", *code)

    def _check_weights(self, visit: Visit) -> None:
        """Fix what a layer touches if it has weights that its rule does not know."""
        for variable in getattr(visit.operation, "weights", ()):
            if id(variable) not in self.record.used:
                shape = tuple(variable.shape)
                self.refuse(
                    visit,
                    f"the rule of {visit.path} does not record its weight {variable.name} of "
                    f"shape {shape}",
                )


def _as_arrays(found: Any) -> Any:
    """Return ids as arrays, of which NumPy makes scalars where no axis is left."""
    if isinstance(found, list):
        return [_as_arrays(each) for each in found]
    return np.asarray(found) if isinstance(found, np.integer) else found

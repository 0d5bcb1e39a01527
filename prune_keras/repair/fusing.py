"""Fusing: let the neurons that stay say, as far as they can, what the others said.

What a layer reads of the neurons that go is foretold from those that stay, by least squares over
samples, and its weights are changed by as much; so what it responds changes least. The channels of
a feature map are foretold position by position, the same way at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.repair.change import Change
from prune_keras.repair.reading import Reader, readers_in
from prune_keras.repair.refit import Refit
from prune_keras.samples.moments import Moments, merged
from prune_keras.samples.subject import Subject

WIDEST = 16_384
"""Neurons of which all pairs are looked at; those of more would take over two gigabytes."""
WAYS = ("auto", "weights", "bias", "sequential")


def check_fuse(fuse: Any, data: Any) -> None:
    """Raise a ValueError unless `fuse` is known, and there are samples for it."""
    known = fuse is None or isinstance(fuse, Refit) or fuse in WAYS
    if not known:
        raise ValueError(
            f"`fuse` must be a bool, None, a Refit or one of {WAYS}. Received: fuse={fuse!r}."
        )
    if fuse not in (None, "auto") and data is None:
        raise ValueError(
            f"Fusing looks at samples. Received: fuse={fuse!r}, data=None. "
            "Pass data=inputs, (inputs, targets), or a dataset of batches."
        )


def fused(
    model: Any, graph: Graph, kept: np.ndarray, data: Any, fuse: str
) -> list[tuple[int, np.ndarray]]:
    r"""Return what the weights of layers that lose inputs become, before anything is cut.

    With `x` what a layer's kernel reads at one place, zeros of the padding among it, `K` the
    channels that stay and `R` the others, the prediction `x_R = A x_K + b` has the least mean
    squared error over all that is read, and `w_K` becomes `w_K + A^T w_R` at each place of the
    kernel. What the layer's responses then miss on average, borders included, goes to its bias; a
    layer without one gets `b = 0`. With `fuse="bias"`, `A = 0`. An output that would miss more on
    the samples than with the weights as they were keeps these. Frozen weights stay, and constraints
    hold for what the others become. For a layer that reads more than `WIDEST` neurons, `A = 0`.

    Args:
        model: the model; it is not changed.
        graph: its graph.
        kept: `(neurons,)` booleans, which neurons stay.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        fuse: `"weights"` or `"bias"`.

    Returns:
        (position in `model.variables`, value of the thin variable) pairs.

    Reference:

    - Mariet and Sra, 2016, Diversity Networks, ICLR, https://arxiv.org/abs/1511.05077 (section 3)
    """
    subject = Subject(model, graph, data)
    readers = [r for r in readers_in(model, graph) if not kept[r.neurons].all()]
    learn = [r for r in readers if fuse == "weights" and r.learns_kernel]
    by_weights = {r.key: r for r in learn if _width(r) <= WIDEST}
    moments = _moments(subject, by_weights, kept)
    changes = {
        r.key: Change.of(r, kept, moments if r.key in by_weights else {})
        for r in readers
        if r.key in by_weights or r.learns_bias
    }
    missed = _missed(subject, changes)
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    return [
        (places[id(variable)], value)
        for key, change in changes.items()
        for variable, value in change.settled(missed[key])
    ]


def too_wide(model: Any, graph: Graph, kept: np.ndarray) -> tuple[str, ...]:
    """Return a note on each layer that loses some of so many inputs that its kernel stays."""
    readers = [r for r in readers_in(model, graph) if not kept[r.neurons].all()]
    return tuple(_note(r) for r in readers if r.learns_kernel and _width(r) > WIDEST)


def _width(reader: Reader) -> int:
    """Return how many neurons a reader reads that are to be told by each other."""
    return max((block.shape[1] for block in reader.blocks), default=0)


def _note(reader: Reader) -> str:
    return (
        f"{reader.layer.name}: reads {_width(reader):,} neurons, more than the {WIDEST:,} whose "
        "pairs are looked at, so that only its bias makes up for those that go; to fit its "
        "kernel, pass fuse='sequential'"
    )


def assign(model: Any, values: Sequence[tuple[int, np.ndarray]]) -> None:
    """Give a thin model's variables the values that `fused` returned."""
    variables = model.variables
    for place, value in values:
        variables[place].assign(value)


def _moments(subject: Subject, readers: dict[str, Reader], kept: np.ndarray) -> dict[str, Moments]:
    """Return moments of what is read, by reader and block; of blocks that lose neurons."""
    if not readers:
        return {}
    numbers = {
        key: [i for i, block in enumerate(r.blocks) if not kept[r.neurons[block[0]]].all()]
        for key, r in readers.items()
    }

    @_backend.without_gradients
    def step(x: list) -> dict[str, list]:
        found: dict[str, list] = {}

        def call(visited: _keras.Call) -> Any:
            key = str(id(visited.operation))
            if key in readers:
                for name, moments in readers[key].products(visited, numbers[key]):
                    found.setdefault(name, []).extend(moments)
            return _keras.run(visited)

        _keras.walk(subject.model, x, call)
        return found

    return merged(step, subject.model, subject.flat(), calls=subject.calls)


def _missed(subject: Subject, changes: dict[str, Change]) -> dict[str, Moments]:
    """Return moments of what the responses of layers would miss, with each of their kernels."""
    if not changes:
        return {}
    missing = {key: ops.convert_to_tensor(change.missing) for key, change in changes.items()}

    @_backend.without_gradients
    def step(x: list, kernels: dict[str, Any]) -> dict[str, list]:
        found: dict[str, list] = {}

        def call(visited: _keras.Call) -> Any:
            key = str(id(visited.operation))
            if key in kernels:
                moments = changes[key].reader.responses(visited, kernels[key])
                found.setdefault(key, []).append(moments)
            return _keras.run(visited)

        _keras.walk(subject.model, x, call)
        return found

    return merged(step, subject.model, subject.flat(), missing, calls=subject.calls)

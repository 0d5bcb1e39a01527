"""Cheapening: convolutions become grouped ones and bottlenecks, fitted to what they responded."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.factoring import Factors, factored
from prune_keras.readers.patches import Patches
from prune_keras.samples.batches import Samples, batches
from prune_keras.tracing import trace

ROWS = 4096  # that a convolution is fitted to, at least
_FORM = re.compile(r"(G)\((\d+|N)\)|(B)\((\d+)\)|(BG)\((\d+), ?(\d+|N)\)")


@dataclass(frozen=True)
class Block:
    """What takes the place of a convolution.

    Args:
        bottleneck: by how much channels are reduced before it; 1 for not at all.
        groups: number of groups of the convolution; None for as many as it has channels.
    """

    bottleneck: int = 1
    groups: int | None = 1

    @classmethod
    def of(cls, text: str) -> Block:
        """Return what a text such as `"G(8)"`, `"B(2)"`, `"BG(2,8)"` or `"G(N)"` stands for.

        Raises:
            ValueError: if it is of another form.
        """
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None or "0" in found.groups():
            raise ValueError(
                "A block must be 'G(groups)', 'B(bottleneck)' or 'BG(bottleneck,groups)', with N "
                f"for as many groups as channels. Received: block={text!r}. Write 'G(8)'."
            )
        _, groups, _, narrow, _, both, inner = found.groups()
        count = groups or inner or "1"
        return cls(int(narrow or both or 1), None if count == "N" else int(count))

    def sizes(self, layer: Any) -> tuple[int, int]:
        """Return channels and groups of the convolution in place of a layer.

        Raises:
            ValueError: if the layer's channels cannot be divided so.
        """
        read, made = layer.kernel.shape[-2], layer.filters
        middle = made // self.bottleneck if self.bottleneck > 1 else read
        groups = middle if self.groups is None else self.groups
        if middle == 0 or middle % groups or (self.bottleneck > 1 and made % self.bottleneck):
            raise ValueError(
                "Channels must be divisible into groups and by a bottleneck. Received: layer "
                f"{layer.name!r} with {read} channels and {made} units, for {self}. Name other "
                "layers= or another block."
            )
        return middle, groups


def cheapen(
    model: Any, block: str, layers: Sequence[str] | str | None = None, data: Any = None
) -> Any:
    """Return a copy of a model with cheaper blocks in place of its convolutions.

    `"G(g)"` is a convolution in `g` groups and a pointwise one that mixes them, `"G(N)"` one of
    each channel by itself, a `DepthwiseConv2D`, which CPUs do far faster than groups; `"B(b)"` a
    pointwise one to a `b`-th of the units, the convolution, and a pointwise one back; `"BG(b,g)"`
    both. There is nothing between these, so that one block after another is fitted by least
    squares: from what it reads behind those before it, to what the convolution responds in the
    model, on samples. What that cannot hold is left to fine-tuning, best with
    `prune_keras.callbacks.Distillation` from the model. The copy is a plain functional model, which
    is pruned like any other, and is not compiled.

    Args:
        model: a built functional or Sequential model; it is not changed.
        block: one of the forms above.
        layers: paths or patterns of `Conv2D` layers that read more than one position. Defaults to
            None: all of them but those that have groups already, or read the model's inputs,
            scaled or not.
        data: inputs, `(inputs, targets)` or a dataset of batches to fit to.

    Returns:
        A `keras.Model` with the same inputs and outputs.

    Raises:
        ValueError: if the block is of another form, there are no samples, no such layer, or one
            whose channels cannot be divided so.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(8, 3, name="b")]
    ... )
    >>> cheap = prune_keras.cheapen(model, "G(4)", data=np.random.normal(size=(16, 8, 8, 3)))
    >>> model.count_params() - cheap.count_params()
    368

    Reference:
        Crowley, Gray, Storkey: Moonshine: Distilling with Cheap Convolutions, 2018,
        https://arxiv.org/abs/1711.02613.
    """
    chosen, form = _chosen(model, layers), Block.of(block)
    sizes = {id(layer): form.sizes(layer) for layer in chosen.values()}
    if data is None:
        raise ValueError(
            "Blocks are fitted to samples. Received: data=None. Pass some training inputs."
        )
    made: dict[int, list[Any]] = {}

    def instead(layer: Any) -> Callable[[Any], Any] | None:
        if id(layer) not in sizes:
            return None
        made[id(layer)] = _layers(layer, *sizes[id(layer)], form.bottleneck > 1)
        return lambda x: _through(made[id(layer)], x)

    twin = _keras.with_others(model, instead)
    samples = Samples.of(data)
    for layer in chosen.values():  # in the order of calls, so that each sees those before it
        instead_of = made[id(layer)]
        rows, responses = _seen(model, twin, layer, instead_of[0], samples)
        taps = int(np.prod(layer.kernel_size))
        factors = factored(rows, responses, taps, *sizes[id(layer)], form.bottleneck > 1)
        _assign(instead_of, factors)
    return twin


def _chosen(model: Any, wanted: Sequence[str] | str | None) -> dict[str, Any]:
    """Return path -> layer of the convolutions that are replaced."""
    patterns = [wanted] if isinstance(wanted, str) else wanted
    found: dict[str, Any] = {}
    calls = _keras.places(model)
    firsts = _that_read_inputs(model, calls)
    for number, place in enumerate(calls):
        layer = place.operation
        if type(layer) is not layers.Conv2D or np.prod(layer.kernel_size) == 1 or layer.groups > 1:
            continue
        by_name = patterns is not None and any(fnmatchcase(place.path, p) for p in patterns)
        if by_name or (patterns is None and number not in firsts):
            found[place.path] = layer
    if not found:
        raise ValueError(
            "There must be a Conv2D that reads several positions. Received: "
            f"layers={wanted!r}, of {model.name!r}. Name paths that prune_keras.trace shows."
        )
    return found


def _that_read_inputs(model: Any, calls: Sequence[_keras.Place]) -> set[int]:
    """Return numbers of the calls that read the model's inputs, through no layer with units."""
    makers = {id(producer.layer) for producer in trace(model).producers.values()}
    found: set[int] = set()
    plain = {-1}  # what still is an input, scaled, padded or the like
    for number, place in enumerate(calls):
        if place.reads and plain.issuperset(place.reads):
            found.add(number)
            if id(place.operation) not in makers:
                plain.add(number)
    return found


def _seen(
    model: Any, twin: Any, layer: Any, first: Any, samples: Samples
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that a block reads in the twin, and what the layer responds in the model there.

    Args:
        model: the model.
        twin: its copy, with blocks that are fitted up to this one.
        layer: the layer of the model.
        first: the block's first layer.
        samples: what both look at, up to as many rows as a fit needs.
    """
    drawn = np.random.default_rng(0)
    most = max(ROWS, 4 * int(np.prod(layer.kernel.shape[:-1])))
    read: list[Any] = []
    responded: list[Any] = []
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def see(each: Any, x: Any, response: Any) -> Any:
        read.append(x) if each is first else responded.append(response)
        return response

    with _keras.undisturbed(model), _keras.watched([layer, first], see):
        for inputs, _, _ in batches(samples):
            for each in (model, twin):
                each(inputs, training=False)
            both = zip(read, responded, strict=True)
            found += [_rows(layer, x, response, most, drawn) for x, response in both]
            read.clear()
            responded.clear()
            if sum(len(rows) for rows, _ in found) >= most:
                break
    rows, responses = (np.concatenate(each) for each in zip(*found, strict=True))
    return rows, responses


def _rows(
    layer: Any, x: Any, response: Any, most: int, drawn: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    patches = Patches.of(layer, tuple(x.shape), tuple(response.shape))
    positions = patches.positions(tuple(response.shape))
    places = np.sort(drawn.choice(positions, min(positions, max(1, most // 4)), replace=False))
    rows, responses = patches.rows(x, places)[0], patches.made_at(response, places)[0]
    return rows.astype("float64"), responses.astype("float64")


def _layers(layer: Any, middle: int, groups: int, reduces: bool) -> list[Any]:
    """Return the layers of a block, not built yet."""
    shared = {"data_format": layer.data_format, "dtype": layer.dtype_policy}
    names = ("kernel_size", "strides", "padding", "dilation_rate")
    spatial = {name: getattr(layer, name) for name in names} | shared
    spatial |= {"use_bias": False, "name": f"{layer.name}_grouped"}
    reduce = layers.Conv2D(middle, 1, use_bias=False, name=f"{layer.name}_reduce", **shared)
    is_depthwise = groups == middle and len({*layer.strides}) == 1  # of others it knows no kernel
    grouped = (
        layers.DepthwiseConv2D(**spatial)
        if is_depthwise
        else layers.Conv2D(middle, groups=groups, **spatial)
    )
    mix = {"activation": layer.activation, "name": f"{layer.name}_mix"} | shared
    return [*([reduce] if reduces else []), grouped, layers.Conv2D(layer.filters, 1, **mix)]


def _through(block: list[Any], x: Any) -> Any:
    for layer in block:
        x = layer(x)
    return x


def _assign(block: list[Any], factors: Factors) -> None:
    """Give the layers of a block their kernels."""
    *first, grouped, mix = block
    if factors.reduce is not None:
        first[0].kernel.assign(factors.reduce[None, None])
    grouped.kernel.assign(factors.grouped.reshape(grouped.kernel.shape))
    mix.kernel.assign(factors.mix[None, None])
    mix.bias.assign(factors.bias)

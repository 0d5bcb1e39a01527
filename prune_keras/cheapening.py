"""Cheapening: convolutions become grouped ones and bottlenecks, fitted to what they responded."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import keras
import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.factoring import Factors, factored
from prune_keras.responding import seen, through
from prune_keras.samples.batches import Samples, is_read_once
from prune_keras.tracing import trace
from prune_keras.validation import fitting, free_name

_NUMBER = r"[1-9]\d*"
_FORM = re.compile(rf"(G)\(({_NUMBER}|N)\)|(B)\(({_NUMBER})\)|(BG)\(({_NUMBER}), ?({_NUMBER}|N)\)")


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
        if found is None:
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

    A block is trainable if the convolution is. Each of its kernels gets the regularizer and the
    constraint of the kernel, its last layer those of the bias and of the responses, and the name of
    the convolution if that is an output of the model.

    Args:
        model: a built functional or Sequential model; it is not changed.
        block: one of the forms above.
        layers: paths or patterns of `Conv2D` layers that read more than one position. Defaults to
            None: all of them but those that have groups already, or read the model's inputs,
            scaled or not.
        data: inputs, `(inputs, targets)` or a dataset of batches to fit to. Of an iterator, what is
            looked at is held in memory until all blocks are fitted.

    Returns:
        A `keras.Model` with the same inputs and outputs.

    Raises:
        ValueError: if the block is of another form, there are no samples, a pattern names no such
            layer, or one whose channels cannot be divided so.

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
    if not hasattr(model, "layers") or _keras.function_of(model) is None:
        raise ValueError(
            "A model whose convolutions are replaced must be functional or Sequential. Received: "
            f"model={getattr(model, 'name', model)!r}, with a `call` of its own. Take the plain "
            "model that prune_keras.unfold makes of it."
        )
    chosen, form = _chosen(model, layers), Block.of(block)
    sizes = {id(layer): form.sizes(layer) for layer in chosen.values()}
    if data is None:
        raise ValueError(
            "Blocks are fitted to samples. Received: data=None. Pass some training inputs."
        )
    made: dict[int, list[Any]] = {}
    taken = {each.name for each in _keras.operations_in(model)}
    ends = {id(place.operation) for place in _keras.places(model) if place.is_output}

    def instead(layer: Any) -> Callable[[Any], Any] | None:
        if id(layer) not in sizes:
            return None
        size, is_output = sizes[id(layer)], id(layer) in ends
        made[id(layer)] = _layers(layer, *size, form.bottleneck > 1, taken, is_output)
        taken.update(each.name for each in made[id(layer)])
        return lambda x: through(made[id(layer)], x)

    twin = _keras.with_others(model, instead)
    samples = Samples.of(_Kept(data) if is_read_once(data) else data)
    blocks = [(layer, made[id(layer)]) for layer in chosen.values()]
    for number, (layer, block_of) in enumerate(blocks):  # in the order of calls
        rows, responses = seen(model, twin, blocks, number, samples)
        taps = int(np.prod(layer.kernel_size))
        factors = factored(rows, responses, taps, *sizes[id(layer)], form.bottleneck > 1)
        _assign(block_of, factors)
    return twin


class _Kept:
    """What can be read once, kept as far as it was read, so that it can be read for each layer."""

    def __init__(self, data: Any) -> None:
        self._begin = tee(data, 1)[0]

    def __iter__(self) -> Iterator[Any]:
        return copy.copy(self._begin)


def _chosen(model: Any, wanted: Sequence[str] | str | None) -> dict[str, Any]:
    """Return path -> layer of the convolutions that are replaced."""
    places = _keras.places(model)
    calls = {number: each for number, each in enumerate(places) if _is_wide(each.operation)}
    known = {each.path: each.operation for each in calls.values()}
    if wanted is None:
        firsts = _that_read_inputs(model, places)
        names = {each.path for number, each in calls.items() if number not in firsts}
    else:
        patterns = [wanted] if isinstance(wanted, str) else wanted
        names = set().union(*(_named(pattern, known) for pattern in patterns))
    if not names:
        raise ValueError(
            "There must be a Conv2D that reads several positions. Received: "
            f"layers={wanted!r}, of {model.name!r}. Name paths that prune_keras.trace shows."
        )
    named = {id(known[path]) for path in names}
    first_paths: dict[int, str] = {}  # a layer that is called under several paths is one
    for path, layer in known.items():
        first_paths.setdefault(id(layer), path)
    return {path: known[path] for key, path in first_paths.items() if key in named}


def _is_wide(operation: Any) -> bool:
    """Tell whether an operation is a convolution that a block can take the place of."""
    if type(operation) is not layers.Conv2D:
        return False
    return np.prod(operation.kernel_size) > 1 and operation.groups == 1


def _named(pattern: str, known: Collection[str]) -> list[str]:
    found = fitting(pattern, known)
    if not found:
        raise ValueError(
            "Each of `layers` must name a Conv2D that reads several positions, all channels at "
            f"once. Received: layers=[{pattern!r}], while such are {[*known]}. Name one of these."
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


def _layers(
    layer: Any,
    middle: int,
    groups: int,
    reduces: bool,
    taken: Collection[str],
    is_output: bool,
) -> list[Any]:
    """Return the layers of a block, not built yet, of other names than are taken.

    The last one of an output keeps the layer's name, by which losses are given.
    """
    shared = {"data_format": layer.data_format, "dtype": layer.dtype_policy}
    shared |= {"trainable": layer.trainable}
    kernel = shared | _held(layer, "kernel", "kernel")
    name = free_name(layer.name, ("_reduce", "_grouped", "_mix"), taken)
    reduce = layers.Conv2D(middle, 1, use_bias=False, name=f"{name}_reduce", **kernel)
    grouped = _grouped(layer, middle, groups, shared | {"name": f"{name}_grouped"})
    mix = layers.Conv2D(
        layer.filters,
        1,
        activation=_own(layer.activation),
        activity_regularizer=layer.activity_regularizer,
        name=layer.name if is_output else f"{name}_mix",
        **kernel,
        **_held(layer, "bias", "bias"),
    )
    return [*([reduce] if reduces else []), grouped, mix]


def _grouped(layer: Any, middle: int, groups: int, shared: dict[str, Any]) -> Any:
    """Return the layer of a block that reads what the layer reads around, in groups."""
    names = ("kernel_size", "strides", "padding", "dilation_rate")
    spatial = {name: getattr(layer, name) for name in names} | shared
    spatial |= {"use_bias": False}
    if groups == middle and len({*layer.strides}) == 1:  # of others it knows no kernel
        return layers.DepthwiseConv2D(**spatial, **_held(layer, "kernel", "depthwise"))
    return layers.Conv2D(middle, groups=groups, **spatial, **_held(layer, "kernel", "kernel"))


def _own(activation: Any) -> Any:
    """Return an activation that shares no weights."""
    if not _keras.is_layer(activation):
        return activation
    made = _keras.from_config(activation)
    if activation.built:
        made.build_from_config(activation.get_build_config())
    for old, new in zip(activation.variables, made.variables, strict=True):
        new.assign(keras.ops.copy(old.value))
    return made


def _held(layer: Any, weight: str, name: str) -> dict[str, Any]:
    """Return what holds a layer's weight in training, as arguments for a weight of some name."""
    kinds = ("regularizer", "constraint")
    return {f"{name}_{kind}": getattr(layer, f"{weight}_{kind}") for kind in kinds}


def _assign(block: list[Any], factors: Factors) -> None:
    """Give the layers of a block their kernels."""
    *first, grouped, mix = block
    if factors.reduce is not None:
        first[0].kernel.assign(factors.reduce[None, None])
    grouped.kernel.assign(factors.grouped.reshape(grouped.kernel.shape))
    mix.kernel.assign(factors.mix[None, None])
    mix.bias.assign(factors.bias)

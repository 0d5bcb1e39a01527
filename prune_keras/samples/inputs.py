"""Inputs: what a model is called on, flat and checked, from batches of whatever a user holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import tree

from prune_keras.samples.batches import Batch, batches, is_read_once, size_of

ENOUGH = 1280  # samples for statistics


def fixed_size(model_inputs: list) -> int | None:
    """Return the number of samples that a model takes at once; None for any."""
    return model_inputs[0].shape[0]


def flat_inputs(model_inputs: list, x: Any) -> list:
    """Return the inputs of a batch in the order and dtypes of the model's inputs.

    Args:
        model_inputs: the model's symbolic input tensors.
        x: one tensor, or a list or dict of tensors.

    Raises:
        ValueError: if their number or a shape differs, or an entry is NaN or infinite.
    """
    if isinstance(x, dict) and {t.name for t in model_inputs} <= set(x):
        x = [x[tensor.name] for tensor in model_inputs]
    flat = tree.flatten(x)
    if len(flat) != len(model_inputs):
        raise ValueError(
            f"`data` must hold {len(model_inputs)} input arrays a sample, one an input of the "
            f"model. Received: {len(flat)}. Inputs and targets go together as a tuple, "
            "(inputs, targets)."
        )
    pairs = zip(flat, model_inputs, strict=True)
    tensors = [keras.ops.convert_to_tensor(value, dtype=tensor.dtype) for value, tensor in pairs]
    for tensor, value in zip(model_inputs, tensors, strict=True):
        _check_shape(tensor, value)
        _check_finite(tensor, value)
    return tensors


def _check_finite(tensor: Any, value: Any) -> None:
    """Raise a ValueError for NaN, which a relu may turn into zero unseen."""
    if "float" not in tensor.dtype:
        return
    finite = keras.ops.all(keras.ops.isfinite(value))
    if not bool(keras.ops.convert_to_numpy(finite)):
        raise ValueError(
            "`data` must be finite. Received: NaN or infinity in a batch for the input "
            f"{tensor.name!r}. Remove these samples, or replace the values."
        )


def _check_shape(tensor: Any, value: Any) -> None:
    same_rank = len(value.shape) == len(tensor.shape)
    sizes = zip(value.shape[1:], tensor.shape[1:], strict=same_rank)
    if not same_rank or any(expected not in (None, size) for size, expected in sizes):
        raise ValueError(
            f"`data` must have the shape of the model's input, {tuple(tensor.shape)}. "
            f"Received: a batch of shape {tuple(value.shape)}. Pass what fit takes as `x`."
        )


def joined(found: Iterable[list], least: int, steps: int | None) -> Iterator[list]:
    """Join flat inputs of batches until each holds `least` samples; what is left over too.

    Args:
        found: flat inputs of batches.
        least: the fewest samples.
        steps: number of joined batches at most; None for as many as hold 1,280 samples.
    """
    held: list = []
    rest: list = []
    count = samples = 0
    for x in found:
        rest = _concatenated(rest, x) if rest else x
        if size_of(rest) < least:
            continue
        if held:
            yield held
        held, rest = rest, []
        count, samples = count + 1, samples + size_of(held)
        if count == steps or (steps is None and samples >= ENOUGH):
            break
    if held and rest:
        held, rest = _concatenated(held, rest), []
    if held or rest:
        yield held or rest


def _concatenated(one: list, other: list) -> list:
    return [keras.ops.concatenate(pair, axis=0) for pair in zip(one, other, strict=True)]


def batches_for(model_inputs: list, data: Any) -> Iterator[Batch]:
    """Yield batches as a model takes them, of its fixed size if it has one.

    Args:
        model_inputs: the model's symbolic input tensors.
        data: what `batches` takes.

    Raises:
        ValueError: if a batch is none of the model's, or holds NaN or infinity, with which a model
            would run, and tell nothing.
    """
    for batch in batches(data, fixed_size=fixed_size(model_inputs)):
        flat_inputs(model_inputs, batch[0])
        yield batch


def check_data(data: Any, model_inputs: list, steps: int | None) -> None:
    """Raise a ValueError unless data can be read again and again, fits the model, and is finite.

    Args:
        data: what `batches` takes.
        model_inputs: the model's symbolic input tensors.
        steps: number of batches to look at; None for as many as hold 1,280 samples.
    """
    if is_read_once(data):
        raise ValueError(
            "`data` must be readable once a round. Received: an iterator, which ends after the "
            "first. Pass arrays, a PyDataset, or a tf.data.Dataset."
        )
    read = batches(data, fixed_size=fixed_size(model_inputs), whole=False)
    flat = (flat_inputs(model_inputs, x) for x, _, _ in read)
    for _ in joined(flat, 1, steps):
        pass

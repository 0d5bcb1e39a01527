"""Batches from whatever a user holds: arrays, tuples of arrays, datasets of batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import tree

from prune_keras.samples.ending import check_end_is_told, number_of, read

Batch = tuple[Any, Any, Any]


def batches(
    data: Any, batch_size: int = 128, steps: int | None = None, fixed_size: int | None = None
) -> Iterator[Batch]:
    """Yield `(inputs, targets, sample_weights)`; what is not there is None.

    Args:
        data: an array or SciPy matrix of inputs, a tuple `(inputs, targets)` or `(inputs, targets,
            sample_weights)`, where inputs and targets may be lists or dicts of arrays; or a
            `keras.utils.PyDataset`, a `tf.data.Dataset`, a list of tuples, or another iterable that
            yields batches.
        batch_size: samples a batch, for arrays. Each batch is spread over the whole array, so that
            the first ones do not hold one class only. Defaults to 128.
        steps: number of batches, at most. Defaults to None: all.
        fixed_size: samples that each batch must hold, where a model has it built in. Of arrays,
            the last samples are left out that fill no batch. Defaults to None: any.

    Sparse arrays and tensors are made dense, a batch at a time.

    Raises:
        ValueError: if there is no sample, arrays differ in length, a dataset has no end, or a batch
            does not have its fixed size.

    Example:

    >>> [x.tolist() for x, y, w in batches(np.arange(5), batch_size=3)]
    [[0, 2, 4], [1, 3]]
    """
    if not _is_arrays(data) and steps is None:
        check_end_is_told(data)
    if _is_arrays(data):
        found = _array_batches(data, fixed_size or batch_size, fixed_size)
    else:
        found = _dataset_batches(data)
    empty = True
    for batch in islice(found, steps):
        empty = False
        _check_size(batch, fixed_size)
        yield batch
    if empty:
        raise ValueError(
            "`data` must hold at least one sample. Received: data without any. "
            "Pass samples of the training data."
        )


def _is_arrays(data: Any) -> bool:
    if data is None or isinstance(data, str | os.PathLike):
        raise ValueError(
            f"`data` must be samples. Received: data={data!r}. "
            "Pass inputs, (inputs, targets), or a dataset of batches."
        )
    if isinstance(data, list) and any(isinstance(batch, tuple) for batch in data):
        return False
    flat = tree.flatten(data) if isinstance(data, tuple | list | dict) else [data]
    return all(
        hasattr(array, "shape") and (hasattr(array, "__getitem__") or _is_matrix(array))
        for array in flat
    )


def _is_matrix(array: Any) -> bool:
    """Tell whether an array is a sparse one of SciPy."""
    return hasattr(array, "tocsr")


def _array_batches(data: Any, batch_size: int, fixed_size: int | None) -> Iterator[Batch]:
    parts = data if isinstance(data, tuple) else (data,)
    # Only rows stored one after another can be picked.
    parts = tree.map_structure(lambda a: a.tocsr() if _is_matrix(a) else a, parts)
    lengths = {int(array.shape[0]) for array in tree.flatten(parts)}
    if len(lengths) > 1:
        raise ValueError(
            "All arrays of `data` must hold the same number of samples. "
            f"Received: {sorted(lengths)} samples."
        )
    whole = max(lengths, default=0)
    count = -(-whole // batch_size) if fixed_size is None else max(whole // fixed_size, 1)
    for first in range(count):
        yield _complete(tree.map_structure(lambda a: a[first::count][:fixed_size], parts))  # noqa: B023


def _dataset_batches(data: Any) -> Iterator[Batch]:
    for batch in read(data):
        yield _complete(batch if isinstance(batch, tuple | list) else (batch,))


def _complete(parts: Any) -> Batch:
    if len(parts) > 3:
        raise ValueError(
            "A batch must be inputs, (inputs, targets), or (inputs, targets, sample_weights). "
            f"Received: {len(parts)} parts."
        )
    x, y, weights = tree.map_structure(_dense, (*parts, None, None)[:3])
    return x, y, weights


def _dense(array: Any) -> Any:
    if _is_matrix(array):
        return array.toarray()
    is_tensor = keras.ops.is_tensor(array)
    return keras.ops.convert_to_tensor(array, sparse=False) if is_tensor else array


def _check_size(batch: Batch, fixed_size: int | None) -> None:
    if fixed_size not in (None, size_of(batch[0])):
        raise ValueError(
            f"The model takes batches of {fixed_size} samples. Received: data in a batch of "
            f"{size_of(batch[0])}. Pass arrays of at least {fixed_size} samples, or a dataset of "
            "such batches, the last one dropped if it is smaller."
        )


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


def size_of(x: Any) -> int:
    """Return the number of samples in a batch."""
    return int(np.shape(tree.flatten(x)[0])[0])


def check_ends(data: Any) -> None:
    """Raise a ValueError for data without an end; where it is not told, they are read for it."""
    if _is_arrays(data):
        return
    check_end_is_told(data)
    if number_of(data) is None:
        for _ in read(data):
            pass


def check_data(data: Any, model_inputs: list, steps: int) -> None:
    """Raise a ValueError unless data can be read again and again, fits the model, and is finite.

    Args:
        data: what `batches` takes.
        model_inputs: the model's symbolic input tensors.
        steps: number of batches to look at.
    """
    if hasattr(data, "__next__"):
        raise ValueError(
            "`data` must be readable once a round. Received: an iterator, which ends after the "
            "first. Pass arrays, a PyDataset, or a tf.data.Dataset."
        )
    for x, _, _ in batches(data, steps=steps, fixed_size=fixed_size(model_inputs)):
        flat_inputs(model_inputs, x)


def check_targets(targets: Any, name: str) -> None:
    """Raise a ValueError if there are no targets for the criterion of this name."""
    if targets is None:
        raise ValueError(
            f"The criterion {name!r} needs targets. Received: data without targets. "
            "Pass data=(inputs, targets) or a dataset of such batches."
        )


def _check_shape(tensor: Any, value: Any) -> None:
    same_rank = len(value.shape) == len(tensor.shape)
    sizes = zip(value.shape[1:], tensor.shape[1:], strict=same_rank)
    if not same_rank or any(expected not in (None, size) for size, expected in sizes):
        raise ValueError(
            f"`data` must have the shape of the model's input, {tuple(tensor.shape)}. "
            f"Received: a batch of shape {tuple(value.shape)}. Pass what fit takes as `x`."
        )

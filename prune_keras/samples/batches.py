"""Batches from whatever a user holds: arrays, tuples of arrays, datasets of batches."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import tree

from prune_keras import _backend, processes
from prune_keras.samples.ending import check_end_is_told, number_of, read
from prune_keras.validation import check_count

Batch = tuple[Any, Any, Any]
BATCH_SIZE = 32  # as in Keras' fit and evaluate
MOST = 4096  # samples of arrays; scores hardly change with more

_watching: ContextVar[Callable[[int, float | None], None] | None] = ContextVar("_", default=None)


@dataclass(frozen=True)
class Samples:
    """Data, and how they are read.

    Args:
        data: what `batches` takes.
        batch_size: samples a batch, for arrays.
        class_weight: class -> weight of a sample of that class, for targets without weights of
            their own. None for none.
    """

    data: Any
    batch_size: int = BATCH_SIZE
    class_weight: Mapping[int, float] | None = None

    @classmethod
    def of(
        cls,
        data: Any,
        batch_size: int | None = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> Any:
        """Return data and how they are read; None stays None.

        Raises:
            ValueError: if the size of a batch is not a count.
        """
        check_batch_size(batch_size)
        return None if data is None else cls(data, batch_size or BATCH_SIZE, class_weight)

    @property
    def note(self) -> tuple[str, ...]:
        """What is to be said of samples that are left out."""
        if not is_arrays(self.data):
            return ()
        count = _length(_parts(self.data))
        step, starts = _strides(count, self.batch_size)
        used = sum(-(-(count - start) // step) for start in starts)
        if used == count:
            return ()
        left = "spread over the arrays; to look at all, pass a dataset of batches"
        return (f"scores looked at {used:,} of {count:,} samples, {left}",)


def check_batch_size(batch_size: Any) -> None:
    """Raise a ValueError unless `data_batch_size` is a count or None."""
    if batch_size is not None:
        check_count("data_batch_size", batch_size)


def batches(
    data: Any,
    batch_size: int | None = None,
    steps: int | None = None,
    fixed_size: int | None = None,
    whole: bool = True,
) -> Iterator[Batch]:
    """Yield `(inputs, targets, sample_weights)`; what is not there is None.

    Args:
        data: an array or SciPy matrix of inputs, a tuple `(inputs, targets)` or `(inputs, targets,
            sample_weights)`, where inputs and targets may be lists or dicts of arrays; or a
            `keras.utils.PyDataset`, a `tf.data.Dataset`, a list of tuples, or another iterable that
            yields batches; or `Samples`, which say how they are read.
        batch_size: samples a batch, for arrays. Each batch is spread over the whole array, so that
            the first ones do not hold one class only. Of more than 4,096 samples, about as many
            are taken. Defaults to None: 32, or what `Samples` say.
        steps: number of batches, at most. Defaults to None: all.
        fixed_size: samples that each batch must hold, where a model has it built in. Of arrays,
            the last samples are left out that fill no batch. Defaults to None: any.
        whole: whether they are read to their end, which is then to be there. Defaults to True.

    Sparse arrays and tensors are made dense, a batch at a time.

    Raises:
        ValueError: if there is no sample, arrays differ in length, a dataset has no end, or a batch
            does not have its fixed size.

    Example:

    >>> [x.tolist() for x, y, w in batches(np.arange(5), batch_size=3)]
    [[0, 2, 4], [1, 3]]
    """
    samples = data if isinstance(data, Samples) else Samples(data, batch_size or BATCH_SIZE)
    data = samples.data
    part = None if fixed_size is None else fixed_size // processes.count()
    if is_arrays(data):
        found = _array_batches(data, part or samples.batch_size, part)
    else:
        if whole and steps is None:
            check_end_is_told(data)
        found = _dataset_batches(_backend.own_part(data))
    count, seen = 0, _watching.get()
    for count, batch in enumerate(processes.joined(islice(found, steps)), start=1):  # noqa: B007
        if seen is not None:
            seen(count, steps or number_of_batches(samples, fixed_size))
        _check_size(batch, fixed_size)
        yield _weighted(batch, samples.class_weight)
    if not count:
        raise ValueError(
            "`data` must hold at least one sample. Received: data without any. "
            "Pass samples of the training data."
        )


@contextlib.contextmanager
def watched(seen: Callable[[int, float | None], None]) -> Iterator[None]:
    """Tell a function of each batch that is read within: its number, and of how many, if known.

    Example:

    >>> with watched(lambda number, of: print(number, of)):
    ...     read = [*batches(np.arange(5), batch_size=3)]
    1 2
    2 2
    """
    token = _watching.set(seen)
    try:
        yield
    finally:
        _watching.reset(token)


def number_of_batches(data: Any, fixed_size: int | None = None) -> float | None:
    """Return how many batches `batches` will yield; None where it is not told.

    Example:

    >>> number_of_batches(np.arange(5)), number_of_batches(Samples(np.arange(5), batch_size=2))
    (1, 3)
    """
    samples = data if isinstance(data, Samples) else Samples(data)
    if not is_arrays(samples.data):
        return number_of(samples.data)
    length = _length(_parts(samples.data))
    size = fixed_size or samples.batch_size
    return len(_strides(length if fixed_size is None else length // size * size, size)[1])


def is_arrays(data: Any) -> bool:
    """Tell whether data are arrays, rather than batches."""
    if data is None or isinstance(data, str | os.PathLike):
        raise ValueError(
            f"`data` must be samples. Received: data={data!r}. "
            "Pass inputs, (inputs, targets), or a dataset of batches."
        )
    if isinstance(data, list) and any(isinstance(batch, tuple) for batch in data):
        return False
    _check_no_lists(data)
    flat = tree.flatten(data) if isinstance(data, tuple | list | dict) else [data]
    return all(
        hasattr(array, "shape") and (hasattr(array, "__getitem__") or _is_matrix(array))
        for array in flat
    )


def _check_no_lists(data: Any) -> None:
    """Raise a ValueError for arrays beside lists of numbers, which are no batches."""
    parts = data if isinstance(data, tuple) else ()
    plain = [n for n, part in enumerate(parts) if isinstance(part, list) and _is_number(part)]
    if plain and hasattr(parts[0], "shape"):
        raise ValueError(
            f"`data` must be arrays, or batches of them. Received: a list of numbers as part "
            f"{plain[0]} of {len(parts)}, beside an array. Pass numpy.asarray of it."
        )


def _is_number(part: list) -> bool:
    return (
        bool(part)
        and not isinstance(part[0], dict | list | tuple | str)
        and not hasattr(part[0], "shape")
    )


def _is_matrix(array: Any) -> bool:
    """Tell whether an array is a sparse one of SciPy."""
    return hasattr(array, "tocsr")


def _parts(data: Any) -> tuple:
    return data if isinstance(data, tuple) else (data,)


def _array_batches(data: Any, batch_size: int, fixed_size: int | None) -> Iterator[Batch]:
    # Only rows stored one after another can be picked.
    parts = tree.map_structure(lambda a: a.tocsr() if _is_matrix(a) else a, _parts(data))
    length = _length(parts)
    whole = length if fixed_size is None else max(length // fixed_size, 1) * fixed_size
    step, starts = _strides(whole, batch_size)
    for start in starts:
        yield _complete(tree.map_structure(lambda a: a[start::step][:fixed_size], parts))  # noqa: B023


def _strides(length: int, batch_size: int) -> tuple[int, list[int]]:
    """Return how far apart the samples of a batch lie, and where each batch starts."""
    count = -(-length // batch_size)
    used = max(1, MOST // batch_size)
    if count <= used:
        return count, list(range(count))
    # Neighbours are alike, and classes may take turns: steps of no common divisor meet all of them.
    step = next(step for step in range(round(0.618 * count), count) if math.gcd(step, count) == 1)
    return count, [place * step % count for place in range(used)]


def _length(parts: tuple) -> int:
    lengths = {int(array.shape[0]) for array in tree.flatten(parts)}
    if len(lengths) > 1:
        raise ValueError(
            "All arrays of `data` must hold the same number of samples. "
            f"Received: {sorted(lengths)} samples."
        )
    return max(lengths, default=0)


def _weighted(batch: Batch, class_weight: Mapping[int, float] | None) -> Batch:
    """Return the batch with weights by class, as Keras takes them, if it has no other ones."""
    x, y, weights = batch
    if class_weight is None or y is None or weights is not None:
        return batch
    classes = np.asarray(keras.ops.convert_to_numpy(y))
    if classes.ndim > 1:
        classes = classes.argmax(-1) if classes.shape[-1] > 1 else classes[..., 0]
    known, places = np.unique(np.round(classes), return_inverse=True)
    of_known = np.array([class_weight.get(int(k), 1.0) for k in known], keras.config.floatx())
    return x, y, of_known[places].reshape(classes.shape)


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


def size_of(x: Any) -> int:
    """Return the number of samples in a batch."""
    return int(np.shape(tree.flatten(x)[0])[0])


def is_read_once(data: Any) -> bool:
    """Tell whether data are an iterator, which ends after it was read once."""
    return hasattr(data.data if isinstance(data, Samples) else data, "__next__")


def check_ends(data: Any) -> None:
    """Raise a ValueError for data without an end; where it is not told, they are read for it."""
    data = data.data if isinstance(data, Samples) else data
    if is_arrays(data):
        return
    check_end_is_told(data)
    if number_of(data) is None:
        for _ in read(data):
            pass


def check_targets(targets: Any, name: str) -> None:
    """Raise a ValueError if there are no targets for the criterion of this name."""
    if targets is None:
        raise ValueError(
            f"The criterion {name!r} needs targets. Received: data without targets. "
            "Pass data=(inputs, targets) or a dataset of such batches."
        )

"""Backends, randomness: the state of random numbers."""

from __future__ import annotations

from typing import Any

import keras


def random_state() -> Any:
    """Return the state of the backend's own random numbers as lists; None where it has none."""
    if keras.backend.backend() == "tensorflow":
        drawn = _seeds_of_operations()
        return None if drawn is None else [*drawn.getstate()]
    if keras.backend.backend() == "torch":
        import torch

        return torch.get_rng_state().tolist()
    return None


def set_random_state(state: Any) -> None:
    """Bring back what `random_state` returned."""
    if keras.backend.backend() == "tensorflow":
        drawn = _seeds_of_operations()
        if drawn is not None and state is not None:
            version, numbers, gauss = state
            drawn.setstate((version, tuple(numbers), gauss))
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))


def _seeds_of_operations() -> Any:
    """Return what TensorFlow draws the seeds of operations from, once a seed was set."""
    from tensorflow.python.eager import context

    return getattr(context.context(), "_rng", None)

"""Backends, randomness: the state of random numbers."""

from __future__ import annotations

from typing import Any

import keras


def random_state() -> Any:
    """Return the state of the backend's own random numbers as lists; None where it has none.

    On PyTorch each device draws for itself, as a dropout without a seed does.
    """
    if keras.backend.backend() == "tensorflow":
        drawn = _seeds_of_operations()
        return None if drawn is None else [*drawn.getstate()]
    if keras.backend.backend() == "torch":
        return {name: of.get_rng_state().tolist() for name, of in _devices().items()}
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

        states = state if isinstance(state, dict) else {"cpu": state}  # as older backups have it
        for name, of in _devices().items():
            if name in states:
                of.set_rng_state(torch.tensor(states[name], dtype=torch.uint8))


def _devices() -> dict[str, Any]:
    """Return the modules of PyTorch that draw: that of the CPU, and of an accelerator."""
    import torch

    if not torch.accelerator.is_available():
        return {"cpu": torch}
    name = torch.accelerator.current_accelerator().type
    return {"cpu": torch, name: torch.get_device_module(name)}


def _seeds_of_operations() -> Any:
    """Return what TensorFlow draws the seeds of operations from, once a seed was set."""
    from tensorflow.python.eager import context

    return getattr(context.context(), "_rng", None)

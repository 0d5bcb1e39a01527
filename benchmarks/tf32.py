"""What a GPU is called, and whether it may round what it multiplies to TF32, on each backend."""

import contextlib

import measuring


def gpu():
    """Return the name of the first GPU that the backend finds, or `None`."""
    return {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}[measuring.backend()]()


def _of_tensorflow():
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details
    return details(found[0]).get("device_name", "GPU") if found else None


def _of_jax():
    import jax

    first = jax.devices()[0]
    return first.device_kind if first.platform == "gpu" else None


def _of_torch():
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


@contextlib.contextmanager
def allowed(is_allowed):
    """Let matrices and convolutions of float32 be multiplied in TF32, or not.

    On JAX this is said to what is compiled meanwhile; elsewhere to whatever runs.
    """
    if measuring.backend() == "jax":
        import jax

        with jax.default_matmul_precision("tensorfloat32" if is_allowed else "float32"):
            yield
        return
    held = _switched(is_allowed)
    try:
        yield
    finally:
        _switched(held)


def _switched(is_allowed):
    """Turn TF32 on or off, and return what it was for matrices."""
    if measuring.backend() == "tensorflow":
        import tensorflow as tf

        held = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(is_allowed)
        return held
    import torch

    held = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_allowed
    return held

"""Writing: what a recorded `call` writes to its variables, which may be a mask on a kernel."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.opening.closed import Closed
from prune_keras.tracing.rules.masked import MaskedCall


class Written:
    """Gives what is called in place of layers to whose kernels a `call` wrote a mask.

    Args:
        tensors: the symbolic tensors that stand for variables.
    """

    def __init__(self, tensors: list) -> None:
        self._tensors = tensors
        self._made: dict[int, Any] = {}

    def instead(self, layer: Any) -> Any:
        """Return the layer, or a call of it that masks its kernel before."""
        held = set(map(id, layer.variables))
        written = [t for t in self._tensors if t.written is not None and id(t.variable) in held]
        if not written or isinstance(layer, MaskedCall):
            return layer
        if len(written) > 1:
            raise Closed(f"it writes several variables of {layer.name}")
        if id(layer) not in self._made:
            (tensor,) = written
            self._made[id(layer)] = MaskedCall(layer, tensor.variable, _mask(tensor))
        return self._made[id(layer)]


def _mask(tensor: Any) -> np.ndarray:
    """Return the array of zeros and ones that a variable is multiplied with, and written."""
    node = _keras.made_by(tensor.written)
    if node is not None and type(node.operation) is raw.Multiply:
        for weight, mask in (node.arguments.args, node.arguments.args[::-1]):
            if weight is tensor and not isinstance(mask, keras.KerasTensor):
                array = np.asarray(ops.convert_to_numpy(mask))
                if array.ndim <= len(tensor.shape) and np.isin(array, (0, 1)).all():
                    return array
    raise Closed(f"it changes {tensor.variable.path}, by other than a mask of zeros and ones")


def check_unread(weights: list[tuple[Any, Any]], used: set[int]) -> None:
    """Raise where a call reads what it wrote: tensors stand for what was there before.

    Raises:
        Closed: naming the variable.
    """
    for variable, tensor in weights:
        if tensor.written is not None and id(tensor) in used:
            raise Closed(f"it changes {variable.path}, and reads it itself")

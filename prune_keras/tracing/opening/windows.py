"""Windows: what a `call` joins with the batch, as seen from the graph that it stands in."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from keras.src.ops import numpy as raw

from prune_keras import _keras


def rows_since_inputs(tensor: Any) -> int:
    """Return how many times longer the batch of a symbolic tensor is than that of the inputs."""
    rows = _rows(tensor)
    return int(rows) if rows.denominator == 1 else 1


def _rows(tensor: Any) -> Fraction:
    rows, node = Fraction(1), _keras.made_by(tensor)
    while node is not None and node.input_tensors:
        rows *= _growth(node, tensor)
        tensor = node.input_tensors[0]
        node = _keras.made_by(tensor)
    return rows


def _growth(node: Any, tensor: Any) -> Fraction:
    function = _keras.function_of(node.operation)
    if function is not None:
        return _rows(function.outputs[[id(each) for each in node.outputs].index(id(tensor))])
    before, behind = (tuple(each.shape[1:]) for each in (node.input_tensors[0], tensor))
    open_or_empty = None in (*before, *behind) or 0 in behind
    if open_or_empty or not isinstance(node.operation, raw.Reshape):
        return Fraction(1)
    return Fraction(math.prod(before), math.prod(behind))

"""Private Keras, name scopes: what paths of new layers begin with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras.src.backend.common.global_state import get_global_attribute


@contextlib.contextmanager
def same_name_scope() -> Iterator[None]:
    """Leave the name scopes that are entered within, also those that Keras stays in.

    TensorFlow refuses some names of layers in a graph. Keras has entered the layer's scope by then,
    and leaves one too few: every layer that is made later would have that part before its path.
    """
    depth = len(get_global_attribute("name_scope_stack") or ())
    try:
        yield
    finally:
        del (get_global_attribute("name_scope_stack") or [])[depth:]

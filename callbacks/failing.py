"""Failing: hooks of a callback that clear up after themselves where nobody else does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def cleanly(hook: Callable) -> Callable:
    """Let a hook that fails go back to the last good state first.

    In a `fit` of Keras, that is done as `fit` fails, whoever made it; a loop of another make, which
    calls the hooks itself, knows of no such thing.
    """

    @functools.wraps(hook)
    def whole(callback: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(callback, *args, **kwargs)
        except BaseException:
            if not callback._is_watched:
                callback._abandon()
            raise

    return whole

r"""Refit: how weights are fitted anew, layer after layer, to what the thin network feeds them.

One walk over the graph carries what each tensor holds in the dense and in the thin network, as
repaired so far. With `X` what a layer reads in the thin one and `M` what its responses miss there
of the dense ones, `W` becomes `W + (X'X/N + r I)^-1 X'M/N`. Where responses are added to a stream,
`M` is what the sum misses, so that a layer also makes up for what the stream lost before it. What
an activation behind hides is not missed; see `bending`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Refit:
    r"""How weights are fitted anew, one layer after another, to what the dense network responds.

    With `X` what a layer reads in the thin network, `M` what its responses miss there, over `N`
    rows, and a ridge `r` that is chosen on every fourth sample, `W` becomes
    `W + (X'X/N + r I)^-1 X'M/N`. A layer keeps its weights where these samples would not gain.

    Args:
        memory: bytes that activations may take, at most, all samples together; where `data` would
            take more, fewer batches of it are looked at. Defaults to 4 GiB.
        rows: positions that a layer is fitted by, at most, or eight for each number that it reads
            where that is more. Defaults to 32,768.
        verbose: 1 shows a progress bar, 0 nothing. Defaults to 0.

    Raises:
        ValueError: if `memory` or `rows` is not a count, or `verbose` neither 0 nor 1.

    Reference:

    - He, Zhang and Sun, 2017, Channel Pruning for Accelerating Very Deep Neural Networks,
      https://arxiv.org/abs/1707.06168 (asymmetric reconstruction)

    Example:

    >>> print(Refit(memory=2**30).memory)
    1073741824
    """

    memory: int = 2**32
    rows: int = 2**15
    verbose: int = 0

    def __post_init__(self) -> None:
        for name in ("memory", "rows"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}. "
                    "Leave it out for the default."
                )

        if self.verbose not in (0, 1):
            raise ValueError(
                f"`verbose` must be 0 or 1. Received: verbose={self.verbose!r}. "
                "Pass 1 for a progress bar."
            )

    def __str__(self) -> str:
        return "sequential"

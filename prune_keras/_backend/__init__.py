"""What differs between Keras' backends, by what it is about."""

from prune_keras._backend.arrays import (
    TOGETHER,
    UNITS,
    mean_over_positions,
    own_array,
    renewed,
    retire,
    sum_of_rows,
    take,
)
from prune_keras._backend.compiling import (
    FEW,
    compiled,
    dispose,
    eagerly,
    is_worth_compiling,
)
from prune_keras._backend.differentiating import (
    absolute_gradients,
    gradients,
    second_derivatives,
    variable_gradients,
    without_gradients,
)
from prune_keras._backend.kernels import (
    has_kernel,
    optimizer_types,
)
from prune_keras._backend.parallel import (
    devices,
    gathered,
    mesh_of,
    own_part,
    processes,
    several_workers,
    shared_out,
)
from prune_keras._backend.randomness import (
    random_state,
    set_random_state,
)

__all__ = [
    "FEW",
    "TOGETHER",
    "UNITS",
    "absolute_gradients",
    "compiled",
    "devices",
    "dispose",
    "eagerly",
    "gathered",
    "gradients",
    "has_kernel",
    "is_worth_compiling",
    "mean_over_positions",
    "mesh_of",
    "optimizer_types",
    "own_array",
    "own_part",
    "processes",
    "random_state",
    "renewed",
    "retire",
    "second_derivatives",
    "set_random_state",
    "several_workers",
    "shared_out",
    "sum_of_rows",
    "take",
    "variable_gradients",
    "without_gradients",
]

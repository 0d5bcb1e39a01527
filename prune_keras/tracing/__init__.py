"""Tracing: which channels of a model belong together, found by running it on labels.

`trace` and `cost` are what others call; the other names are for writers of rules.
"""

from prune_keras.tracing.labels import Labels, kept_sizes
from prune_keras.tracing.rules.registry import register_rule, rule_for
from prune_keras.tracing.rules.wrappers import inside, remember
from prune_keras.tracing.tracer import Tracer
from prune_keras.tracing.visit import Visit
from prune_keras.tracing.walk import cost, trace

__all__ = [
    "Labels",
    "Tracer",
    "Visit",
    "cost",
    "inside",
    "kept_sizes",
    "register_rule",
    "remember",
    "rule_for",
    "trace",
]

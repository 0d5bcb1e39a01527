"""Prune trained Keras models: remove whole neurons, so that the model is physically thinner."""

__version__ = "0.1.0"

from prune_keras import criteria, debias
from prune_keras.accounting import Cost
from prune_keras.exporting import export
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.pruning import prune
from prune_keras.report import Report
from prune_keras.rules import register_rule
from prune_keras.scoring import score
from prune_keras.selection import select
from prune_keras.surgery import shrink, shrink_in_place
from prune_keras.tracing import cost, trace

__all__ = [
    "Cost",
    "Graph",
    "Plan",
    "Report",
    "cost",
    "criteria",
    "debias",
    "export",
    "prune",
    "register_rule",
    "score",
    "select",
    "shrink",
    "shrink_in_place",
    "trace",
]

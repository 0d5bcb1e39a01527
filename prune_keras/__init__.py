"""Prune trained Keras models: remove whole neurons, so that the model is physically thinner."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_keras import callbacks, criteria, debias, frontier, models, plots, schedules
    from prune_keras.accounting import Cost
    from prune_keras.affine_fit import fit_affine
    from prune_keras.cheapening import cheapen
    from prune_keras.dependencies import Dependence, dependence
    from prune_keras.discriminating.options import DiscriminationAware
    from prune_keras.discriminating.recipe import discriminate
    from prune_keras.diversity import diversify
    from prune_keras.ensembling import NativeEnsemble
    from prune_keras.exporting import export
    from prune_keras.graph import Graph
    from prune_keras.normalizing import RangeBatchNormalization
    from prune_keras.plan import Plan
    from prune_keras.pruning import prune
    from prune_keras.quantizing.quantization import Quantization, calibrate
    from prune_keras.recipe import shrink_to
    from prune_keras.report import Report
    from prune_keras.scoring import score
    from prune_keras.selection import select
    from prune_keras.sensitivity_scan import sensitivity
    from prune_keras.sparsity import Sparsity, sparsify
    from prune_keras.surgery import shrink, shrink_in_place
    from prune_keras.timing import latency
    from prune_keras.tracing import cost, register_rule, trace
    from prune_keras.unfolding import unfold

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "Dependence",
    "DiscriminationAware",
    "Graph",
    "NativeEnsemble",
    "Plan",
    "Quantization",
    "RangeBatchNormalization",
    "Report",
    "Sparsity",
    "calibrate",
    "callbacks",
    "cheapen",
    "cost",
    "criteria",
    "debias",
    "dependence",
    "discriminate",
    "diversify",
    "export",
    "fit_affine",
    "frontier",
    "latency",
    "models",
    "plots",
    "prune",
    "register_rule",
    "schedules",
    "score",
    "select",
    "sensitivity",
    "shrink",
    "shrink_in_place",
    "shrink_to",
    "sparsify",
    "trace",
    "unfold",
]

_MODULES = {
    "Cost": "accounting",
    "Dependence": "dependencies",
    "DiscriminationAware": "discriminating.options",
    "Graph": "graph",
    "NativeEnsemble": "ensembling",
    "Plan": "plan",
    "Quantization": "quantizing.quantization",
    "RangeBatchNormalization": "normalizing",
    "Report": "report",
    "Sparsity": "sparsity",
    "calibrate": "quantizing.quantization",
    "cheapen": "cheapening",
    "cost": "tracing",
    "dependence": "dependencies",
    "discriminate": "discriminating.recipe",
    "diversify": "diversity",
    "export": "exporting",
    "fit_affine": "affine_fit",
    "latency": "timing",
    "prune": "pruning",
    "register_rule": "tracing",
    "score": "scoring",
    "select": "selection",
    "sensitivity": "sensitivity_scan",
    "shrink": "surgery",
    "shrink_in_place": "surgery",
    "shrink_to": "recipe",
    "sparsify": "sparsity",
    "trace": "tracing",
    "unfold": "unfolding",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `prune-keras --help` need not wait for a backend to load."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

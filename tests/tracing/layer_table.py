"""What pruning does with each layer and raw operation of Keras, as a table that traces tell.

`PYTHONPATH=tests/callbacks python tests/tracing/layer_table.py` writes docs/layers.md; a test tells
when that is to be done.
"""

import inspect
import re
from collections import defaultdict
from pathlib import Path

import keras
import matrix
from keras import layers
from layer_cases import CASES

import prune_keras
from prune_keras.tracing.rules import refused
from prune_keras.tracing.rules.registry import _RULES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "layers.md"
PRUNED, PASSED, KEPT = "pruned", "passed through", "kept"


def public_layers():
    """Return name -> class of all layers of this Keras."""
    found = {name: kind for name, kind in vars(layers).items() if inspect.isclass(kind)}
    return {name: kind for name, kind in found.items() if issubclass(kind, layers.Layer)}


def verdict(case, kind):
    """Return what pruning does with a layer, and what there is to say about it."""
    if case.make is None:
        return KEPT, case.says
    word, remarks = _traced(prune_keras.trace(case.model(kind)))
    return word, "; ".join([*remarks, *filter(None, [case.says])])


def _traced(graph):
    own = {
        path: producer.prunable.any()
        for path, producer in graph.producers.items()
        if re.match(r"layer\b", path)
    }
    notes = [note.removeprefix("layer ") for note in graph.notes]
    if any(own.values()):
        kinds = [path.partition(":")[2] or "units" for path, free in own.items() if free]
        return PRUNED, [", ".join(dict.fromkeys(kinds)), *notes]
    if graph.producers["before"].prunable.any():
        return PASSED, notes
    (reason,) = {fixed.reason for fixed in graph.fixed if fixed.path == "before"}
    return KEPT, [reason.removeprefix("layer ")]


def layer_table():
    """Return a row a layer; those of several ranks share one."""
    groups = defaultdict(list)
    for name, kind in sorted(public_layers().items()):
        stem = re.sub(r"[123]D", "", name)
        groups[stem, *verdict(CASES[name], kind)].append(name)
    rows = ["| layer | its channels | |", "|---|---|---|"]
    for (_, word, remark), names in groups.items():
        rows.append(f"| {', '.join(names)} | {word} | {remark} |")
    return "\n".join(rows)


def operation_table():
    """Return a row for each module of rules, and for each reason why operations keep channels."""
    groups = defaultdict(list)
    reasons = {kind: reason for reason, kinds in refused.KEPT.items() for kind in kinds}
    for kind, rule in _RULES.items():
        if not issubclass(kind, layers.Layer):
            first = inspect.getdoc(inspect.getmodule(rule)).splitlines()[0]
            what = reasons.get(kind) or first.removeprefix("Rules of ").rstrip(".")
            groups[KEPT if kind in reasons else PASSED, what].append(public_name(kind))
    rows = ["| operations | their channels | |", "|---|---|---|"]
    for (word, what), names in sorted(groups.items(), reverse=True):
        rows.append(f"| {', '.join(sorted(names))} | {word} | {what} |")
    return "\n".join(rows)


def public_name(kind):
    """Return the name in `keras.ops` of the function that makes a raw operation."""
    special = {"GetItem": "x[...]", "LayerNorm": "layer_normalization"}
    special |= {"BatchNorm": "batch_normalization", "RMSNorm": "rms_normalization"}
    special |= {"Mish": "activations.mish", "ReLU": "activations.relu"}
    if kind.__name__ in special:
        return special[kind.__name__]
    for module in ("", "nn.", "linalg.", "image."):
        room = getattr(keras.ops, module.rstrip(".")) if module else keras.ops
        for name in dir(room):
            if name.replace("_", "") == kind.__name__.lower():
                return f"{module}{name}"
    return kind.__name__


def document():
    """Return the page of the documentation with the tables as they are now."""
    headed = ["### Layers", layer_table(), "### Raw operations", operation_table()]
    return matrix.filled(DOCUMENT, "\n\n".join(headed))


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")

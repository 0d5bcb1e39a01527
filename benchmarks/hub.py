"""Cut half of the neurons of KerasHub's backbones at random; compare with the silenced original.

KerasHub brings the full TensorFlow, so it needs an environment of its own, from the checkout:

    python3 -m venv .venv-hub
    .venv-hub/bin/pip install keras-hub==0.32 -e ".[tests]"
    .venv-hub/bin/python benchmarks/hub.py results/keras_hub

Each backbone is cut twice: where it stands, as a model of KerasHub's layers, and unfolded into
Keras' own, which are saved and read by a process that cannot import KerasHub. Shares are of the
parameters: those in weights along which a prunable neuron lies. Differences are relative to the
largest output: from the original with zeros for all that was taken away, which must be rounding
errors only; from the untouched original, which must not; and from the file that is read back.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "conformance"))
import hub_backbones  # noqa: E402
from composites_checks import kept_entries, outputs_of, share_reached, silenced  # noqa: E402
from hub_checks import composite, is_plain, read_elsewhere  # noqa: E402

import prune_keras  # noqa: E402

SEED, FRACTION = 0, 0.5


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    known = ROOT / "results" / "keras_hub" / "before.csv"
    with open(known, newline="", encoding="utf-8") as file:
        before = {row["backbone"]: row["share"] for row in csv.DictReader(file)}
    rows = [row_of(name, before[name]) for name in hub_backbones.NAMES]
    with open(folder / "backbones.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, max(rows, key=len))
        writer.writeheader()
        writer.writerows(rows)


def row_of(name, before):
    """Build a backbone with a head, cut it both ways, and say what came of it."""
    row = {"backbone": name, "params": hub_backbones.with_head(name).count_params()}
    row["before"] = before
    for way in ("in place", "unfolded"):
        found = halved(name, composite(name, way == "unfolded"))
        row |= {f"{way}: {column}": value for column, value in found.items()}
    print(row, flush=True)
    return row


def halved(name, each):
    """Cut half of the neurons; return how far outputs are from what they are compared with."""
    x, model = hub_backbones.samples(name), each.build()
    graph = prune_keras.trace(model)
    row = {"share": f"{share_reached(each, graph, model):.3f}"}
    plan, original = half_of(graph), outputs_of(model, x)
    with silenced(model, kept_entries(each.build(), plan)):
        expected = outputs_of(model, x)
    prune_keras.shrink_in_place(model, plan)
    found = outputs_of(model, x)
    row |= {"params of half": model.count_params()}
    row |= {"from silenced": difference(found, expected)}
    row |= {"from original": difference(found, original)}
    if is_plain(model):
        row["read back"] = read_back(name, model, found)
    return row | {"fixed": "; ".join(sorted({fixed.reason for fixed in graph.fixed}))}


def half_of(graph):
    rng = np.random.default_rng(SEED)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    return prune_keras.select(graph, scores, fraction=FRACTION)


def difference(found, expected):
    """Return the largest difference of outputs, relative to the largest output."""
    pairs = zip(found, expected, strict=True)
    return f"{max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs):.1e}"


def read_back(name, thin, found):
    """Return the difference of the model that a process without KerasHub reads."""
    with tempfile.TemporaryDirectory() as folder:
        ((_, read),) = read_elsewhere({name: thin}, Path(folder)).values()
    return difference(read, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where backbones.csv is written")
    main(parser.parse_args().folder)

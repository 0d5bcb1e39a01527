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
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests" / "conformance"
sys.path.insert(0, str(TESTS))
import hub_backbones  # noqa: E402
from composites import Composite  # noqa: E402
from composites_checks import kept_entries, outputs_of, share_reached, silenced  # noqa: E402

import prune_keras  # noqa: E402

SEED, FRACTION = 0, 0.5


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "before.csv", newline="", encoding="utf-8") as file:
        before = {row["backbone"]: row["share"] for row in csv.DictReader(file)}
    rows = [row_of(name, before[name]) for name in hub_backbones.NAMES]
    with open(folder / "backbones.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def row_of(name, before):
    """Build a backbone with a head, cut it both ways, and say what came of it."""
    whole = Composite(name, lambda: hub_backbones.with_head(name), None)
    plain = Composite(name, lambda: prune_keras.unfold(whole.build(), flat=True), None)
    graphs = [prune_keras.trace(each.build()) for each in (whole, plain)]
    shares = [
        f"{share_reached(each, graph, each.build()):.3f}"
        for each, graph in zip((whole, plain), graphs, strict=True)
    ]
    row = {"backbone": name, "params": graphs[0].cost.params, "before": before}
    row |= dict(zip(("in place", "unfolded"), shares, strict=True))
    for way, each, graph in zip(("in place", "unfolded"), (whole, plain), graphs, strict=True):
        found = halved(name, each, graph)
        row |= {f"{way}, {column}": value for column, value in found.items()}
    row["fixed in place"] = "; ".join(sorted({fixed.reason for fixed in graphs[0].fixed}))
    row["fixed unfolded"] = "; ".join(sorted({fixed.reason for fixed in graphs[1].fixed}))
    print(row, flush=True)
    return row


def halved(name, composite, graph):
    """Cut half of the neurons; return how far outputs are from what they are compared with."""
    x, model = hub_backbones.samples(name), composite.build()
    plan = half_of(graph)
    kept, original = kept_entries(composite, plan), outputs_of(model, x)
    with silenced(model, kept):
        expected = outputs_of(model, x)
    prune_keras.shrink_in_place(model, plan)
    found = outputs_of(model, x)
    row = {"params of half": model.count_params()}
    row |= {"from silenced": difference(found, expected)}
    row |= {"from original": difference(found, original)}
    plain = all(type(each).__module__.startswith("keras.") for each in model._flatten_layers())
    return {**row, "read back": read_back(model, x, found)} if plain else row


def half_of(graph):
    rng = np.random.default_rng(SEED)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    return prune_keras.select(graph, scores, fraction=FRACTION)


def difference(found, expected):
    """Return the largest difference of outputs, relative to the largest output."""
    pairs = zip(found, expected, strict=True)
    return f"{max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs):.1e}"


def read_back(thin, x, found):
    """Return the difference of the model that a process without KerasHub reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thin.keras"
        thin.save(path)
        np.savez(path.with_suffix(".npz"), *keras.tree.flatten(x))
        command = [sys.executable, str(TESTS / "hub_reader.py"), str(path)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603, of this checkout
        read = [*np.load(path.with_suffix(".out.npz")).values()]
    return difference(read, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where backbones.csv is written")
    main(parser.parse_args().folder)

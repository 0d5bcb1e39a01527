"""Throughput of one network at widths of different multiples, and what its FLOPs promise.

    python benchmarks/rounding.py results/vgg16_cats_vs_dogs/seed0/dense.keras

The network is cut once to about the same FLOPs, with filters and units at multiples of 8 to 64, and
measured as `prune-keras cats-vs-dogs` measures. Without training: only speed is of interest here.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import measuring

import prune_keras
from prune_keras.models import records, speed

MULTIPLES = (8, 16, 32, 64)
TARGET = {"flops": 0.27}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dense", type=Path, help="a .keras file of a run")
    dense = parser.parse_args().dense
    with tempfile.TemporaryDirectory() as folder:
        files = {"dense": dense} | {each: cut(dense, each, Path(folder)) for each in MULTIPLES}
        whole, *rows = speed.compare(files)
    table = [{"multiple": row["network"]} | gained(whole, row) for row in rows]
    path = dense.parent.parent / "rounding.csv"
    records.write_table(path, table)
    measuring.write_settings(path, target=TARGET)


def cut(dense, multiple, folder):
    """Return the file of the network with widths at multiples of this number."""
    model = keras.models.load_model(dense, compile=False)
    thin, _ = prune_keras.prune(model, target=TARGET, criterion="l2", round_to=multiple)
    return prune_keras.export(thin, folder / f"{multiple}.keras")


def gained(whole, row):
    """Return the share of the FLOPs, and by how much each batch size got faster."""
    found = {"flops": row["flops"] / whole["flops"]}
    for size, (factor, share) in speed.gains(whole, row).items():
        found |= {f"factor_{size}": factor, f"of_promise_{size}": share}
    return found


if __name__ == "__main__":
    main()

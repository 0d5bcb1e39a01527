"""A ResNet-20 with half of its FLOPs after a cut and few epochs, beside Torch-Pruning on PyTorch.

    python benchmarks/few_epochs.py OURS THEIRS --data DIR --choose
    python benchmarks/few_epochs.py OURS THEIRS --data DIR

OURS and THEIRS are interpreters, networks, batches and training those of
`accuracy_against_torch_pruning.py`. Each way cuts once for a seed, which also says which training
images are scored and fitted on, and in which order and how augmented all are learnt from. From
there it learns for one epoch and, from the same cut, for five. `--choose` trains for one epoch at
several rates, with the first seed, and looks at validation images alone. Rows that are in the
table already are not made again.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch_side
from accuracy_against_torch_pruning import BATCH, check, dense, measured, prepare
from same_batches import SameBatches

SHARE = 0.5
SAMPLES = 1024  # training images that are scored and fitted on
RATES = (0.02, 0.005)
BEST = {"criterion": "obs", "scope": "optimal"}
MEAN = {"criterion": "mean(taylor, reconstruction)", "scope": "global"}
WAYS = {
    "prune_keras, obs, optimal": BEST,
    "torch_pruning": None,
    "prune_keras": MEAN,
    "prune_keras, fused weights": MEAN | {"fuse": "weights"},
    "prune_keras, obs, optimal, 4 steps": BEST | {"steps": 4},
}


def main(arguments):
    import searching

    name = "rates" if arguments.choose else "few_epochs"
    shared = {"batch": BATCH, "share": SHARE}
    shared |= {"versions": measured(arguments.theirs, {"side": "versions"}, __file__)}
    path = arguments.output / f"{name}.csv"
    table = searching.Table(path, ("seed", "way", "rate", "epochs"), **shared)
    with folder_of(arguments) as folder:
        data = searching.cifar10(arguments)
        padded = prepare(Path(folder), data, arguments.data)
        if not arguments.choose and not table.find(0, "dense", 0, 0):
            table.add({"seed": 0, "way": "dense", "rate": 0, "epochs": 0} | dense(padded, data))
        for key in keys(arguments):
            if not table.find(*key.values()):
                table.add(key | made(key, folder, arguments))


def folder_of(arguments):
    """Return a context of the folder for what both sides read and for networks that were cut."""
    if arguments.models is None:
        return tempfile.TemporaryDirectory()
    arguments.models.mkdir(parents=True, exist_ok=True)
    return contextlib.nullcontext(arguments.models)


def keys(arguments):
    """Yield what tells rows apart, in the order in which they are made."""
    for seed in arguments.seeds[:1] if arguments.choose else arguments.seeds:
        for epochs in (1,) if arguments.choose else arguments.epochs:
            for way in arguments.ways:
                for rate in arguments.rates or (RATES if arguments.choose else RATES[:1]):
                    yield {"seed": seed, "way": way, "rate": rate, "epochs": epochs}


def made(key, folder, arguments):
    """Return the row of one network, made in a process of its own."""
    ours = WAYS[key["way"]] is not None
    given = key | {"folder": str(folder), "side": "ours" if ours else "theirs"}
    given |= {"learning_rate": key["rate"]}
    found = measured(arguments.ours if ours else arguments.theirs, given, __file__)
    found |= {"samples": SAMPLES if ours else ""}
    if arguments.choose:
        found.pop("test_accuracy")
    return found


def side(given):
    """Return what one side makes of the files, in this process."""
    if given["side"] == "versions":
        return torch_side.versions()
    data = dict(np.load(f"{given['folder']}/data.npz"))
    batches = SameBatches(data["x_train"], data["y_train"], BATCH, given["seed"])
    begin = SAMPLES * given["seed"]
    samples = tuple(data[f"{each}_train"][begin : begin + SAMPLES] for each in "xy")
    if given["side"] == "ours":
        import keras_side

        way = WAYS[given["way"]]
        return keras_side.cut_and_tune(given, SHARE, way, samples, data, batches)
    held = dict(np.load(f"{given['folder']}/weights.npz"))
    return torch_side.prune_and_tune(given | {"steps": 1}, SHARE, held, data, batches, check)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--given"]:
        print(json.dumps(side(json.loads(sys.argv[2]))))
        sys.exit()
    import searching

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", help="an interpreter with prune_keras")
    parser.add_argument("theirs", help="an interpreter with torch-pruning")
    searching.add_arguments(parser, images=45_000)
    parser.set_defaults(output=searching.RESULTS.parent / "few_epochs")
    parser.add_argument("--models", type=Path, help="where cut networks are kept for the next run")
    parser.add_argument("--choose", action="store_true", help="compare rates on validation images")
    parser.add_argument("--rates", type=float, nargs="+")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    main(parser.parse_args())

"""Accuracy of a ResNet-20 with fewer FLOPs, beside Torch-Pruning on PyTorch.

    python benchmarks/accuracy_against_torch_pruning.py OURS THEIRS --data DIR

OURS and THEIRS are two interpreters: one with prune_keras, one with torch and torch-pruning
(`python -m venv`, `pip install torch torch-pruning`). Both start from the weights of
`cifar10_resnet20.keras`, with strided 1x1 convolutions for its padded shortcuts; that their logits
agree is checked before anything is cut. Both learn in float32 from the same batches by SGD with
Nesterov momentum 0.9, weight decay 5e-4 apart from the gradient and a rate that falls along half a
cosine. FLOPs are those of convolutions and dense layers, a share of what the padded network takes.
Rows that are in the table already are not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch_side
from resnet20_pair import arrays, keras_projected

BATCH = 128
SEED = 0
TARGETS = {"1/2": 1 / 2, "1/3": 1 / 3, "1/5": 1 / 5}
WAYS = {
    "prune_keras, one-shot": {"rounds": 1, "network": "projected"},
    "prune_keras, one-shot, taylor": {"rounds": 1, "network": "projected", "criterion": "taylor"},
    "prune_keras, progressive": {"rounds": 4, "network": "projected"},
    "prune_keras, progressive, padded": {"rounds": 4, "network": "padded"},
    "torch_pruning, one-shot": {"steps": 1},
    "torch_pruning, one-shot, recalibrated": {"steps": 1, "recalibrate": True},
    "torch_pruning, 400 steps": {"steps": 400},
}
TOLERANCE = 1e-3


def main(arguments):
    import searching

    shared = {"images": arguments.images, "epochs": arguments.epochs, "batch": BATCH}
    shared |= {"learning_rate": arguments.learning_rate}
    shared |= {"versions": measured(arguments.theirs, {"side": "versions"})}
    path = arguments.output / "torch_pruning.csv"
    table = searching.Table(path, ("seed", "target", "way"), **shared)
    with tempfile.TemporaryDirectory() as folder:
        data = searching.cifar10(arguments)
        padded = prepare(Path(folder), data, arguments.data)
        if not table.find(SEED, "1", "dense"):
            table.add({"seed": SEED, "target": "1", "way": "dense"} | dense(padded, data))
        for seed in arguments.seeds:
            for target in arguments.targets:
                for way in arguments.ways:
                    key = {"seed": seed, "target": target, "way": way}
                    if not table.find(*key.values()):
                        table.add(key | made(key, folder, arguments))


def made(key, folder, arguments):
    """Return the row of one way, made in a process of its own."""
    theirs = "steps" in WAYS[key["way"]]
    given = key | {"folder": folder, "side": "theirs" if theirs else "ours"}
    given |= {name: vars(arguments)[name] for name in ("epochs", "learning_rate")}
    return measured(arguments.theirs if theirs else arguments.ours, given)


def measured(interpreter, given, script=__file__):
    """Return the JSON of a script's last line; what it says meanwhile is shown."""
    command = [interpreter, script, "--given", json.dumps(given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout.strip().splitlines()[-1])


def prepare(folder, data, networks):
    """Write the images, the weights, the logits that both must give, and both Keras networks."""
    import keras

    import prune_keras

    padded = keras.models.load_model(networks / "cifar10_resnet20.keras", compile=False)
    held = arrays(padded)
    projected = keras_projected(held)
    logits = padded.predict(data.validation[0][:64], verbose=0)
    check(logits, projected.predict(data.validation[0][:64], verbose=0))
    padded.save(folder / "padded.keras")
    projected.save(folder / "projected.keras")
    parts = zip(("train", "validation", "test"), data, strict=True)
    pairs = {f"{'xy'[place]}_{part}": two[place] for part, two in parts for place in (0, 1)}
    np.savez(folder / "data.npz", **pairs)
    flops = prune_keras.cost(padded).flops
    np.savez(folder / "weights.npz", logits=logits, flops=flops, **held)
    return padded


def dense(model, data):
    """Return what the network is before anything is cut."""
    import prune_keras

    cost, found = prune_keras.cost(model), {}
    for part, (images, labels) in (("val", data.validation), ("test", data.test)):
        classes = model.predict(images, batch_size=500, verbose=0).argmax(axis=-1)
        found[f"{part}_accuracy"] = float((classes == labels).mean())
    cut = {"after_cut": "", "epochs": 0, "seconds": 0.0}
    return cut | found | {"params": cost.params, "flops": cost.flops}


def check(logits, found):
    """Raise unless two networks give the same logits."""
    apart = float(np.abs(logits - found).max())
    if apart > TOLERANCE:
        raise ValueError(f"Both networks must be equal. Received: logits that differ by {apart}.")
    print(f"logits differ by at most {apart:.1e}", file=sys.stderr)


def side(given):
    """Return what one side makes of the files, in this process."""
    from same_batches import SameBatches

    if given["side"] == "versions":
        return torch_side.versions()
    given, share = given | WAYS[given["way"]], TARGETS[given["target"]]
    data = dict(np.load(f"{given['folder']}/data.npz"))
    batches = SameBatches(data["x_train"], data["y_train"], BATCH, given["seed"])
    if given["side"] == "ours":
        import keras_side

        return keras_side.prune_and_tune(given, share, data, batches)
    held = dict(np.load(f"{given['folder']}/weights.npz"))
    return torch_side.prune_and_tune(given, share, held, data, batches, check)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--given"]:
        print(json.dumps(side(json.loads(sys.argv[2]))))
        sys.exit()
    import searching

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", help="an interpreter with prune_keras")
    parser.add_argument("theirs", help="an interpreter with torch-pruning")
    searching.add_arguments(parser, images=45_000)
    parser.set_defaults(seeds=[SEED])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    main(parser.parse_args())

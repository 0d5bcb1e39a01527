"""Time to trace and cut a network in place, beside Torch-Pruning on PyTorch.

    python benchmarks/against_torch_pruning.py OURS THEIRS

OURS and THEIRS are two interpreters: one with prune_keras, one with torch, torchvision and
torch-pruning (`python -m venv`, `pip install torch torchvision torch-pruning`). Half of the units
of every layer of a ResNet at 224 pixels go, lowest L2 norms first. Both sides prune in turns,
each time in a process of its own, in which a small network was pruned before.
"""

import argparse
import json
import os

import measuring

REPETITIONS = 5
NETWORKS = ("ResNet50", "ResNet152")
FRACTION = 0.5
SIDES = ("prune_keras", "torch_pruning")
# One thread each: where other processes run, two threads of PyTorch mostly wait for each other.
THREADS = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}


def main(interpreters):
    os.environ.update(THREADS)
    rows = []
    for network in NETWORKS:
        found = {side: [] for side in SIDES}
        for _ in range(REPETITIONS):
            for side in SIDES:
                found[side].append(measured(interpreters[side], side, network))
        medians = [{"what": side} | measuring.medians(found[side]) for side in SIDES]
        rows += [{"network": network} | median for median in medians]
    versions = {side: measured(interpreters[side], side, "versions") for side in SIDES}
    measuring.finish(
        "torch_pruning",
        rows,
        command="python benchmarks/against_torch_pruning.py OURS THEIRS",
        repetitions=REPETITIONS,
        fraction=FRACTION,
        threads=THREADS,
        versions=versions,
    )


def measured(interpreter, side, network):
    arguments = ("--side", side, "--network", network)
    return measuring.in_fresh_process(__file__, *arguments, interpreter=interpreter)


def prune_keras(network):
    """Return the seconds of each step with this package."""
    import keras

    import prune_keras

    if network == "versions":
        return {"keras": keras.__version__}

    def cut(model):
        trace, graph = measuring.seconds(lambda: prune_keras.trace(model))
        score, scores = measuring.seconds(lambda: prune_keras.score(model, "l2"))
        select, plan = measuring.seconds(
            lambda: prune_keras.select(graph, scores, fraction=FRACTION, scope="uniform")
        )
        shrink, _ = measuring.seconds(lambda: prune_keras.shrink_in_place(model, plan, graph))
        return {"graph": trace, "score, select": score + select, "cut": shrink}

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    cut(keras.Model(inputs, x))
    model = getattr(keras.applications, network)(weights=None)
    before = model.count_params()
    times = cut(model)
    return (
        times
        | {"graph and cut": times["graph"] + times["cut"]}
        | {"params left": model.count_params() / before}
    )


def torch_pruning(network):
    """Return the seconds of each step with Torch-Pruning; it scores and cuts in one."""
    import torch
    import torch_pruning as tp
    import torchvision
    from torch import nn

    if network == "versions":
        modules = (torch, torchvision, tp)
        return {module.__name__: module.__version__ for module in modules}

    def cut(model, size, last):
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        example = torch.zeros(1, 3, size, size)
        # Alone: its pruner builds the graph again, which is counted nowhere.
        graph, _ = measuring.seconds(
            lambda: tp.DependencyGraph().build_dependency(model, example_inputs=example)
        )
        pruner = tp.pruner.BasePruner(
            model, example, importance, pruning_ratio=FRACTION, ignored_layers=[last]
        )
        groups, found = measuring.seconds(lambda: list(pruner.step(interactive=True)))
        step, _ = measuring.seconds(lambda: [group.prune() for group in found])
        return {"graph": graph, "score, select": groups, "cut": step}

    pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *pooling, nn.Linear(8, 4))
    cut(small, 32, small[-1])
    model = getattr(torchvision.models, network.lower())().eval()
    before = sum(parameter.numel() for parameter in model.parameters())
    times = cut(model, 224, model.fc)
    left = sum(parameter.numel() for parameter in model.parameters())
    return times | {"graph and cut": times["graph"] + times["cut"]} | {"params left": left / before}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ours", nargs="?", help="an interpreter with prune_keras")
    parser.add_argument("theirs", nargs="?", help="an interpreter with torch-pruning")
    parser.add_argument("--side", choices=SIDES, help="measure it once, in this process")
    parser.add_argument("--network", help="what to prune then")
    given = parser.parse_args()
    if given.side:
        measure = prune_keras if given.side == "prune_keras" else torch_pruning
        print(json.dumps(measure(given.network)))
    else:
        main({"prune_keras": given.ours, "torch_pruning": given.theirs})

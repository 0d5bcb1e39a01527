"""What Torch-Pruning's cuts leave without training, beside those of `untrained.py`.

    python benchmarks/untrained_torch.py THEIRS --data DIR --models FOLDER

THEIRS is an interpreter with torch and torch-pruning. It cuts the stack of `untrained.py`, which
must be in FOLDER, and the ResNet-20 with strided 1x1 convolutions for its padded shortcuts, once
for each share of the FLOPs, by its group magnitude, globally. Batch normalization is measured anew
on 2,048 training images. Accuracies of the networks before the cut are those that Keras gives.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch_side

SHARES = (0.9, 0.7, 0.5, 0.4, 0.25)
CONVOLUTIONS, PLACES = ("conv1", "conv2", "conv3", "conv4"), 6


def main(arguments):
    import measuring
    import subjects
    import untrained_networks

    data, rows = subjects.cifar10(arguments), []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        np.savez(file, x_train=data.train[0][: torch_side.SAMPLES], **splits(data))
        for name in arguments.networks:
            model = untrained_networks.load(name, 0, arguments)[0]
            weights = Path(folder) / f"{name}.npz"
            np.savez(weights, **held(name, model, data))
            given = {"name": name, "weights": str(weights), "data": str(file)}
            command = [arguments.theirs, __file__, "--given", json.dumps(given)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
            rows += json.loads(done.stdout.strip().splitlines()[-1])
    today = {"date": datetime.date.today().isoformat()}
    today["processor"] = measuring.settings()["processor"]
    subjects.write(arguments.output / "torch_pruning.csv", [row | today for row in rows])


def splits(data):
    """Return the images and labels that accuracies are of."""
    pairs = {"validation": data.validation, "test": data.test}
    return {f"{'xy'[i]}_{part}": pairs[part][i] for part in pairs for i in (0, 1)}


def held(name, model, data):
    """Return the arrays of a Keras network, its FLOPs, and logits of the first images."""
    import keras
    from resnet20_pair import arrays

    import prune_keras

    images = data.validation[0][:64]
    found = {"flops": prune_keras.cost(model).flops}
    if name == "resnet20":
        return arrays(model) | found | {"logits": model.predict(images, verbose=0)}
    layer = model.get_layer("classes")
    hidden = keras.Model(model.inputs, layer.input).predict(images, verbose=0)
    kernel, bias = layer.get_weights()
    weights = {
        f"{layer.name}/{place}": weight
        for layer in model.layers
        for place, weight in enumerate(layer.get_weights())
    }
    return weights | found | {"logits": hidden @ kernel + bias}


def torch_stack(held):
    """Return the stack as a PyTorch module, of the arrays of the Keras model."""
    import torch
    from torch import nn

    def convolution(name, padding):
        kernel = torch.from_numpy(held[f"{name}/0"]).permute(3, 2, 0, 1).contiguous()
        module = nn.Conv2d(*kernel.shape[1::-1], 3, padding=padding)
        return fill(module, kernel, held[f"{name}/1"])

    def dense(name, kernel):
        return fill(nn.Linear(*kernel.shape), torch.from_numpy(kernel.T.copy()), held[f"{name}/1"])

    def fill(module, kernel, bias):
        module.weight.data.copy_(kernel)
        module.bias.data.copy_(torch.from_numpy(bias))
        return module

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            for place, name in enumerate(CONVOLUTIONS):
                setattr(self, name, convolution(name, 1 - place % 2))
            kernel = held["hidden/0"].reshape(PLACES, PLACES, -1, held["hidden/0"].shape[1])
            kernel = kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
            self.hidden = dense("hidden", kernel)  # channels come first here
            self.logits = dense("classes", held["classes/0"])

        def forward(self, pixels):
            x = pixels / 255
            for place, name in enumerate(CONVOLUTIONS):
                x = torch.relu(getattr(self, name)(x))
                x = nn.functional.max_pool2d(x, 2) if place % 2 else x
            return self.logits(torch.relu(self.hidden(x.flatten(1))))

    return Stack()


def cuts(given):
    """Return a row for each share of the FLOPs, in this process."""
    from accuracy_against_torch_pruning import check
    from resnet20_pair import torch_projected

    held, data = dict(np.load(given["weights"])), dict(np.load(given["data"]))
    model = (torch_projected if given["name"] == "resnet20" else torch_stack)(held).eval()
    check(held["logits"], torch_side.outputs(model, data["x_validation"][:64]))
    return [row(given["name"], model, share, float(held["flops"]), data) for share in SHARES]


def row(name, model, share, flops, data):
    thin = torch_side.cut(model, share * flops, 1)
    found = {"network": name, "flops": share, "left": torch_side.flops(thin) / flops}
    found["params"] = torch_side.params(thin) / torch_side.params(model)
    for key in ("", "recalibrated_"):
        if key:
            torch_side.recalibrate(thin, data["x_train"])
        for part in ("validation", "test"):
            found[f"{key}{part}"] = torch_side.accuracy(thin, data, part)
    print(found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--given"]:
        print(json.dumps(cuts(json.loads(sys.argv[2]))))
        sys.exit()
    import subjects

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("theirs", help="an interpreter with torch-pruning")
    subjects.add_arguments(parser)
    parser.add_argument("--models", type=Path, required=True, help="as in untrained.py")
    output = subjects.RESULTS.parent / "untrained"
    parser.set_defaults(output=output, networks=["resnet20", "stack"])
    main(parser.parse_args())

"""Torch-Pruning's side of `accuracy_against_torch_pruning.py`; runs without Keras."""

import copy
import math
import sys
import time

HALVINGS = 12
SAMPLES = 2048  # training images that batch normalization is measured on, where a way says so


def versions():
    import torch
    import torch_pruning

    return {module.__name__: module.__version__ for module in (torch, torch_pruning)}


def prune_and_tune(given, share, held, data, batches, check):
    """Return what Torch-Pruning and the same epochs make of the network.

    Args:
        given: seed, epochs, learning rate, `steps` in which its pruner cuts before training, and
            `recalibrate` if batch normalization is measured anew after it.
        share: of the FLOPs that may remain.
        held: weights, with the logits of the first validation images and the FLOPs of the padded
            network.
        data: the splits.
        batches: `SameBatches`.
        check: raises unless logits are equal.
    """
    import torch
    from resnet20_pair import torch_projected

    torch.manual_seed(given["seed"])
    model = torch_projected(held).eval()
    check(held["logits"], outputs(model, data["x_validation"][: len(held["logits"])]))
    begun = time.perf_counter()
    model = cut(model, share * float(held["flops"]), given["steps"])
    if given.get("recalibrate"):
        recalibrate(model, data["x_train"][:SAMPLES])
    seconds = time.perf_counter() - begun
    after_cut = accuracy(model, data, "validation")
    seconds += tune(model, given, data, batches)
    return {
        "after_cut": after_cut,
        "val_accuracy": accuracy(model, data, "validation"),
        "test_accuracy": accuracy(model, data, "test"),
        "params": params(model),
        "flops": flops(model),
        "epochs": given["epochs"],
        "seconds": seconds,
    }


def cut(model, budget, steps):
    """Return the network after one global cut that meets the budget.

    In one step, the ratio is found by halving; in many, as in the examples on CIFAR-10 that come
    with Torch-Pruning, steps towards a ratio of 1 are taken until the budget is met.
    """
    if steps > 1:
        pruner = pruner_of(model, 1.0, steps)
        while flops(model) > budget:
            pruner.step()
        return model
    low, high = 0.0, 1.0
    found = None
    for _ in range(HALVINGS):
        ratio = (low + high) / 2
        thin = copy.deepcopy(model)
        pruner_of(thin, ratio, 1).step()
        if flops(thin) <= budget:
            found, high = thin, ratio
        else:
            low = ratio
    return found


def recalibrate(model, images):
    """Measure the statistics of batch normalization anew, averaged over batches."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum, module.before = None, module.momentum
    model.train()
    outputs(model, images)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = module.before
    model.eval()


def pruner_of(model, ratio, steps):
    import torch
    import torch_pruning

    return torch_pruning.pruner.BasePruner(
        model,
        torch.zeros(1, 3, 32, 32),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        iterative_steps=steps,
        ignored_layers=[model.logits],
    )


def params(model):
    """Return the entries of all weights, moving statistics included, as Keras counts them."""
    held = {name: each for name, each in model.state_dict().items() if each.ndim}
    return sum(each.numel() for name, each in held.items() if name not in ("mean", "std"))


def flops(model):
    """Return two for each multiply-add of convolutions and dense layers, as prune_keras counts."""
    import torch
    from torch import nn

    total = 0

    def count(module, inputs, output):
        nonlocal total
        places = math.prod(output.shape[2:])
        total += 2 * module.weight.numel() * places

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return total


def tune(model, given, data, batches):
    """Train for all epochs; return the seconds that training took."""
    import torch

    rate, steps = given["learning_rate"], given["epochs"] * len(batches)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    seconds = 0.0
    for epoch in range(given["epochs"]):
        model.train()
        begun = time.perf_counter()
        for place in range(len(batches)):
            done = epoch * len(batches) + place
            step(model, optimizer, batches.batch(epoch, place), rate, done / steps)
        model.eval()
        reached = accuracy(model, data, "validation")
        seconds += time.perf_counter() - begun
        print(given["way"], epoch + 1, reached, file=sys.stderr, flush=True)
    return seconds


def step(model, optimizer, batch, rate, done):
    """Learn from one batch; weight decay is apart from the gradient, as in Keras."""
    import torch

    now = rate * (1 + math.cos(math.pi * done)) / 2
    optimizer.param_groups[0]["lr"] = now
    images, labels = batch
    optimizer.zero_grad()
    targets = torch.from_numpy(labels).long()
    torch.nn.functional.cross_entropy(model(pixels(images)), targets).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 - 5e-4 * now)
    optimizer.step()


def pixels(images):
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def outputs(model, images):
    import torch

    with torch.no_grad():
        places = range(0, len(images), 500)
        return torch.cat([model(pixels(images[i : i + 500])) for i in places]).numpy()


def accuracy(model, data, part):
    return float((outputs(model, data[f"x_{part}"]).argmax(1) == data[f"y_{part}"]).mean())

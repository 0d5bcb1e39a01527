"""What four cheap additions to a cut leave: right after it, and of fading after some epochs.

    python benchmarks/extras.py --data DIR --models FOLDER

Each row is one cut by `obs` with `optimal`, and the accuracy of what is left on validation images.

- `variance`: after the repair each response is scaled to the variance, and with a bias moved to the
  mean, that it had in the dense network; but where batch normalization follows, which takes any
  scale back once it is measured anew.
- `layer norm`: what removed channels of a stream say to the mean and the variance of a
  LayerNormalization is kept as a constant, in its gamma, beta and epsilon.
- `swaps`: neurons are exchanged within families as long as the slopes of batches' losses by all
  gates that close sum to less.
- `fading`: what reads doomed neurons shrinks to nothing over some steps of training, and `at once`,
  fused, is trained for as many steps in all.

Rows that are in the table are not made again.
"""

import argparse
import dataclasses
import datetime
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables
import untrained_networks
import untrained_transformer
from first_cut import repaired

import prune_keras
from prune_keras import _backend
from prune_keras.graph import Setting
from prune_keras.models import digits
from prune_keras.repair import Repair, recalibrate
from prune_keras.samples.batches import Samples
from prune_keras.selection.blocks import Block
from prune_keras.selection.choice import _plan
from prune_keras.surgery import kept_neurons

NETWORKS = {"digits": ("0.5", "0.1"), "transformer": ("0.5",), "resnet20": ("0.5",)}
REPAIRS = ("none", "sequential")
SAMPLES = {"resnet20": 256}  # images that scores and repair look at; else all training images
JUDGED = 2000  # validation images at most
FADED = 8  # images a batch whose slopes are told apart for swaps
EPOCHS, STEPS = 3, (8, 32)  # of training where neurons fade, and in how many steps they do
KEYS = ("network", "flops", "extra", "repair")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--models", type=Path, required=True, help="where networks are kept")
    parser.set_defaults(output=subjects.RESULTS.parent / "untrained", networks=[*NETWORKS])
    arguments = parser.parse_args()
    path = arguments.output / "extras.csv"
    rows = tables.read(path)
    for name in arguments.networks:
        known = {tuple(row[key] for key in KEYS) for row in rows}
        wanted = [key for key in keys(name) if key not in known]
        if not wanted:
            continue
        case = Case(name, arguments)
        for key in wanted:
            _, share, extra, repair = key
            row = dict(zip(KEYS, key, strict=True)) | {"images": len(case.pair[0])}
            row["accuracy"] = case.accuracy(case.way(extra)(share, extra, repair))
            rows.append(row | {"date": datetime.date.today().isoformat()})
            rows[-1]["processor"] = measuring.settings()["processor"]
            print(rows[-1], flush=True)
            subjects.write(path, rows)


def keys(name):
    """Yield the rows of a network."""
    yield name, "1", "none", "none"
    for share in NETWORKS[name]:
        for extra in ("none", "variance", "swaps", *(["layer norm"] * (name == "transformer"))):
            for repair in REPAIRS if (name, extra) != ("resnet20", "variance") else REPAIRS[1:]:
                yield name, share, extra, repair
        if name != "resnet20":  # too long
            for extra in ("at once", *(f"fading in {steps}" for steps in STEPS)):
                yield name, share, extra, "weights" if extra == "at once" else "none"


class Case:
    """A trained network, its data, and what is known of it by now."""

    def __init__(self, name, arguments):
        if name == "transformer":
            data = untrained_transformer.sequences(digits.load_data(0))
            self.model, validation = untrained_transformer.trained(data, 0), data[1]
            train = data[0]
        else:
            self.model, data = untrained_networks.load(name, 0, arguments)
            train, validation = data.train, data.validation
        self.pair = subjects.first(train, SAMPLES.get(name, len(train[0])))
        self.validation = subjects.first(validation, JUDGED)
        self.samples = Samples.of(self.pair, 256)
        self.graph = prune_keras.trace(self.model)
        self.scores = prune_keras.score(self.model, "obs", self.pair, data_batch_size=256)
        self.plans = {}

    def accuracy(self, thin):
        thin.compile(loss=self.model.loss, metrics=["accuracy"])
        return subjects.accuracy(thin, self.validation)

    def plan(self, share):
        if share not in self.plans:
            chosen = {"scope": "optimal", "debias": "none", "running": True}
            target = {"flops": float(share)}
            self.plans[share] = prune_keras.select(self.graph, self.scores, target, **chosen)
        return self.plans[share]

    def way(self, extra):
        ways = {"variance": self.matched, "swaps": self.swapped, "layer norm": self.compensated}
        return ways.get(extra, self.plain if extra == "none" else self.trained)

    def plain(self, share, extra, repair):
        if share == "1":
            return self.model
        return repaired(self.model, self.graph, self.plan(share), self.samples, repair)

    def matched(self, share, extra, repair):
        thin = self.plain(share, extra, repair)
        match_variances(self.model, thin, self.plan(share).kept, self.pair[0])
        return thin

    def swapped(self, share, extra, repair):
        slopes = slopes_of(self.model, self.graph, self.pair)
        plan = swap(self.graph, self.plan(share), slopes)
        return repaired(self.model, self.graph, plan, self.samples, repair)

    def compensated(self, share, extra, repair):
        plan = self.plan(share)
        kept = kept_neurons(self.graph, plan)
        constants = constants_of(self.model, self.graph, kept, self.pair[0])
        graph = with_constants(self.model, self.graph, constants)
        fuse = None if repair == "none" else repair
        fit = Repair.of(self.model, graph, kept, self.samples, fuse)
        thin = prune_keras.shrink(self.model, plan)
        for name, (root, shift, epsilon) in constants.items():
            layer = thin.get_layer(name)
            layer.epsilon = epsilon
            layer.gamma.assign(layer.gamma * root)
            if repair == "none":  # a fit finds the biases that go with it
                layer.beta.assign(layer.beta - layer.gamma * shift)
        fit.apply(thin)
        return thin

    def trained(self, share, extra, repair):
        """Cut at once with fused weights, or after fading; train for as many steps either way."""
        keras.utils.set_random_seed(0)
        plan, steps = self.plan(share), 0 if extra == "at once" else int(extra.split()[-1])
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        if not steps:
            model = repaired(self.model, self.graph, plan, self.samples, repair)
        fading = Fading(plan, steps) if steps else keras.callbacks.Callback()
        model.compile(keras.optimizers.Adam(5e-4), self.model.loss)
        rest = {"batch_size": 32, "verbose": 0}
        if steps:
            first = subjects.first(self.pair, 32 * steps)
            model.fit(*first, callbacks=[fading], **rest)
            model = prune_keras.shrink(model, plan)
            recalibrate(model, self.samples)
        model.compile(keras.optimizers.Adam(5e-4), self.model.loss)
        batches = -(-len(self.pair[0]) // 32) * EPOCHS - steps
        data = tuple(np.concatenate([part] * EPOCHS)[: 32 * batches] for part in self.pair)
        model.fit(*data, **rest)
        return model


def match_variances(model, thin, kept, x):
    """Scale responses to the variances that they have in the dense network, layer by layer."""
    for layer in thin.layers:
        if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D) or is_normalized(layer):
            continue
        dense = model.get_layer(layer.name)
        before, now = moments(model, dense, x), moments(thin, layer, x)
        stays = kept.get(layer.name, slice(None))
        before = [each[stays] for each in before]
        scale = np.sqrt(before[1] / np.maximum(now[1], 1e-12)).clip(0.1, 10)
        layer.kernel.assign(layer.kernel * scale)
        if layer.use_bias:
            layer.bias.assign(before[0] + scale * (keras.ops.convert_to_numpy(layer.bias) - now[0]))


def is_normalized(layer):
    """Tell whether batch normalization follows, which takes any scale back once measured anew."""
    behind = [node.operation for node in layer._outbound_nodes]
    return any(isinstance(each, keras.layers.BatchNormalization) for each in behind)


def moments(model, layer, x):
    """Return mean and variance of the responses of a layer before its activation, by channel."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        read = keras.Model(model.inputs, layer.input)
        parts = [layer(read(x[begin : begin + 256])) for begin in range(0, len(x), 256)]
    finally:
        layer.activation = activation
    found = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
    found = found.reshape(-1, found.shape[-1])
    return found.mean(axis=0), found.var(axis=0)


def slopes_of(model, graph, pair):
    """Return `(batches, neurons)`, slopes of the loss by a gate on all that reads a neuron."""
    slots = [(w.variable, axis, w.axes[axis]) for w in graph.weights for axis in w.reads]
    variables = list({id(variable): variable for variable, *_ in slots}.values())
    size = 1 + max(int(neurons.max()) for *_, neurons in slots)
    found = []
    for begin in range(0, len(pair[0]), FADED):
        x, y = (part[begin : begin + FADED] for part in pair)

        def loss(x=x, y=y):
            return model.compute_loss(x=x, y=y, y_pred=model(x, training=False))

        slopes = _backend.variable_gradients(loss, variables, model.variables)
        products = {
            id(v): keras.ops.convert_to_numpy(v.value * slope)
            for v, slope in zip(variables, slopes, strict=True)
        }
        row = np.zeros(size)
        for variable, axis, neurons in slots:
            others = tuple(a for a in range(len(variable.shape)) if a != axis)
            np.add.at(row, neurons, products[id(variable)].sum(axis=others))
        found.append(row)
    return np.array(found)


def swap(graph, plan, slopes):
    """Exchange neurons within families as long as `|sum of slopes that go|^2` falls."""
    kept = kept_neurons(graph, plan)
    total = sum(slopes[:, n] for f in graph.families for n in f.neurons if not kept[n])
    for _ in range(100):
        best = (0.0, None, None)
        for family in graph.families:
            stays, goes = (family.neurons[kept[family.neurons] == is_kept] for is_kept in (1, 0))
            if not len(stays) or not len(goes):
                continue
            change = slopes[:, stays][:, :, None] - slopes[:, goes][:, None, :]
            gain = 2 * np.einsum("b,bij->ij", total, change) + np.square(change).sum(axis=0)
            i, j = np.unravel_index(gain.argmin(), gain.shape)
            if gain[i, j] < best[0]:
                best = gain[i, j], stays[i], goes[j]
        if best[1] is None:
            break
        kept[best[1]], kept[best[2]] = False, True
        total = total + slopes[:, best[1]] - slopes[:, best[2]]
    gone = [np.flatnonzero(~kept[f.neurons]) for f in graph.families]
    return _plan(graph, [Block(i, tuple(each.tolist()), ()) for i, each in enumerate(gone)])


def constants_of(model, graph, kept, x):
    """Return name -> factor of gamma, shift of the mean, and epsilon, of each LayerNormalization.

    With `c` of `C` channels left, whose mean is `m` and variance `v`, and sums `R` and `S` of what
    removed ones and their squares are on average, the dense variance is about
    `c v / C + K`, `K = (c m^2 + S) / C - ((c m + R) / C)^2`, so that dividing by its root is
    dividing by that of `v + C (K + epsilon) / c`, times the root of `C / c`.
    """
    found = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.LayerNormalization):
            continue
        stays = kept[neurons_of(graph, layer)]
        read = keras.Model(model.inputs, layer.input)
        rows = keras.ops.convert_to_numpy(read(x)).reshape(-1, len(stays))
        whole, left = len(stays), int(stays.sum())
        means, squares = rows.mean(axis=0), np.square(rows).mean(axis=0)
        mean = means[stays].mean()
        shifted = (left * mean + means[~stays].sum()) / whole
        rest = (left * mean**2 + squares[~stays].sum()) / whole - shifted**2
        epsilon = float(whole / left * (max(rest, 0.0) + layer.epsilon))
        inverse = (1 / np.sqrt(rows[:, stays].var(axis=1) + epsilon)).mean()
        found[layer.name] = (whole / left) ** 0.5, (shifted - mean) * inverse, epsilon
    return found


def neurons_of(graph, layer):
    return next(w.axes[0] for w in graph.weights if w.variable is layer.gamma)


def with_constants(model, graph, constants):
    """Return a graph whose thin model has these settings, for a fit that looks at it."""
    settings, weights = list(graph.settings), list(graph.weights)
    for name, (root, _, epsilon) in constants.items():
        layer = model.get_layer(name)
        weight = next(w for w in graph.weights if w.variable is layer.gamma)
        neurons = weight.axes[0]
        settings.append(Setting(layer, "epsilon", neurons, lambda kept, e=epsilon: e))
        scaled = dataclasses.replace(weight, scale=(neurons, lambda kept, r=root: r))
        weights[weights.index(weight)] = scaled
    return dataclasses.replace(graph, settings=tuple(settings), weights=tuple(weights))


class Fading(keras.callbacks.Callback):
    """Let what reads doomed neurons shrink by `(T - t - 1) / (T - t)` after step `t` of `T`."""

    def __init__(self, plan, steps):
        super().__init__()
        self.plan, self.steps = plan, steps

    def on_train_begin(self, logs=None):
        graph = prune_keras.trace(self.model)
        kept = kept_neurons(graph, self.plan)
        self.slots = [
            (w.variable, axis, ~kept[w.axes[axis]]) for w in graph.weights for axis in w.reads
        ]

    def on_train_batch_end(self, batch, logs=None):
        factor = (self.steps - batch - 1) / (self.steps - batch) if batch < self.steps else 0.0
        for variable, axis, goes in self.slots:
            shape = [-1 if a == axis else 1 for a in range(len(variable.shape))]
            variable.assign(variable * np.where(goes, factor, 1.0).reshape(shape))


if __name__ == "__main__":
    main()

"""Reports on networks that were never built, of any number of layers, under any names."""

import numpy as np

from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.graph import Fixed
from prune_keras.plan import Plan
from prune_keras.report import Report
from prune_keras.reporting.parts import Coupled, Cut, Distribution, Layer, Origin, Training
from prune_keras.reporting.spread import quantiles

HOSTILE = (
    "<script>alert(1)</script>",
    "\"onload='x",
    "a&amp;b]]>",
    "$x_1$ \\frac",
    "\x1b[31mred\x00\u202e",
    "http://example.com/x.png",
    "深い層",
    'url(#a) id="b" xlink:href="#c"',
    "layer" * 40,
)
CHARTS = ("frontier", "curves", "widths", "architecture", "scores", "seconds")


def report(number, rounds=6, name="layer{}_conv", monitor="val_accuracy"):
    """Return a report on so many layers; `name` is a pattern, or a list of names that repeats."""
    draw = np.random.default_rng(number)
    layers, widths, kept = [], {}, {}
    for place in range(number):
        width = 8 + 2 * place
        left = int(draw.integers(1, width + 1))
        path = name.format(place) if isinstance(name, str) else f"{name[place % len(name)]}{place}"
        layers.append(Layer(path, "Conv2D", width, left, (len(layers) - 1,) if layers else ()))
        widths[path], kept[path] = width, range(left)
        if place % 4 == 3:
            layers.append(Layer(f"add{place}", "Add", 0, 0, (len(layers) - 4, len(layers) - 1)))
    points = tuple(_point(n, rounds) for n in range(rounds + 1))
    return Report(
        next(iter(widths)),
        Plan(kept, widths),
        points[0].cost,
        points[-1].cost,
        tuple(Fixed(path, 3, f"of {path}") for path in widths),
        notes=tuple(widths),
        frontier=points,
        scores=next(iter(widths)),
        seconds={"score": 2.0, **dict.fromkeys(widths, 1.0)} if number < 12 else {"score": 2.0},
        layers=tuple(layers),
        families=(Coupled("all", tuple(widths), 8, 4),),
        distributions=tuple(_distribution(each, draw) for each in layers if each.units),
        training=_training(points, monitor),
        origin=Origin(f"prune({next(iter(widths))})", {"processor": next(iter(widths))}),
    )


def _point(number, rounds):
    share = 1 - 0.7 * number / rounds
    cost = Cost(int(1e6 * share), int(1e8 * share), 100 - number, int(4e6 * share))
    file = f"/models/round-{number:03d}.keras" if number % 2 else None
    return Point(number, number % 3 != 2, 0.9 - 0.01 * number, cost, {}, file, 3.0 * share)


def _distribution(layer, draw):
    scores = np.exp(draw.normal(size=40))
    removed = layer.units - layer.left
    return Distribution(
        layer.path, layer.units, removed, quantiles(1000 * scores), quantiles(scores)
    )


def _training(points, monitor):
    epochs = tuple({monitor: p.metric, "flops": p.cost.flops, "loss": 0.1} for p in points)
    cuts = (Cut(p.number, float(p.number), p.number + 1.0, p.kept, 0.9, 0.8) for p in points[1:])
    return Training(monitor, "max", 0.84, epochs, tuple(cuts))

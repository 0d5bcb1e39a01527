"""What a training step costs beside a plain one: dropout, penalties, teachers, eight bits.

    OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 python benchmarks/step_cost.py

A small ResNet-20 on random images, since only time is measured. Ways take turns; in each turn every
one trains for so many steps, the first few of which, which compile, are left out. The figure is the
median, over the turns, of a way's median step as a multiple of the plain one in the same turn, in
seconds of the processor, which other work of the machine hardly moves.
"""

import argparse
import statistics
import time
from pathlib import Path

import keras
import measuring
import numpy as np

from prune_keras.callbacks import (
    Distillation,
    Factors,
    GroupPenalty,
    QuantizationAware,
    ScaleSparsity,
    SensitivityRegularization,
    TargetedDropout,
    Teacher,
)
from prune_keras.models import networks

RESULTS = measuring.RESULTS
BATCH, WARM = 128, 5
WAYS = {
    "plain": lambda model, x: [],
    "TargetedDropout, unit": lambda model, x: [TargetedDropout(0.5, 0.5)],
    "TargetedDropout, weight": lambda model, x: [TargetedDropout(0.5, 0.5, "weight")],
    "ScaleSparsity": lambda model, x: [ScaleSparsity(1e-4)],
    "GroupPenalty": lambda model, x: [GroupPenalty(1e-4)],
    "SensitivityRegularization": lambda model, x: [
        SensitivityRegularization(1e-3, "specific", refresh_steps=10)
    ],
    "Teacher, logits": lambda model, x: [Distillation(Teacher(model))],
    "Teacher, features": lambda model, x: [Distillation(Teacher(model, logits=0.0, features=1.0))],
    "Teacher, attention": lambda model, x: [
        Distillation(Teacher(model, logits=0.0, attention=1e3))
    ],
    "Teacher, all terms": lambda model, x: [
        Distillation(Teacher(model, logits=0.9, features=1.0, attention=3e3))
    ],
    "Teacher, factors": lambda model, x: [
        Distillation(Teacher(model, factors=Factors(x, epochs=1)))
    ],
    "Teacher, logits stored": lambda model, x: [Distillation(Teacher(model, store=True))],
    "QuantizationAware": lambda model, x: [QuantizationAware(x)],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="that are timed, in each turn")
    parser.add_argument("--filters", type=int, nargs=3, default=[16, 32, 64])
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--name", default="step_cost", help="of the table")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    ways = dict.fromkeys(["plain", *given.ways])
    turns = [{name: step(name, given) for name in ways} for _ in range(given.turns)]
    rows = [
        {
            "way": name,
            "times a plain step": statistics.median(turn[name] / turn["plain"] for turn in turns),
            "plain, seconds": statistics.median(turn["plain"] for turn in turns),
        }
        for name in ways
    ]
    path = given.output / f"{given.name}.csv"
    for line in measuring.write_table(path, rows):
        print("  ".join(line))
    with_ = {"turns": given.turns, "steps": given.steps, "filters": given.filters}
    print(measuring.write_settings(path, batch=BATCH, **with_))


def step(name, given):
    """Return the median processor seconds of a training step."""
    keras.utils.set_random_seed(measuring.SEED)
    count = BATCH * (WARM + given.steps)
    rng = np.random.default_rng(measuring.SEED)
    x = rng.integers(0, 256, (count, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, count)
    model, teacher = (networks.resnet(20, filters=given.filters) for _ in range(2))
    model.compile("sgd", "sparse_categorical_crossentropy")
    clock = Clock()
    callbacks = [*WAYS[name](teacher, x[:BATCH]), clock]
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)
    return statistics.median(np.diff(clock.times)[WARM:])


class Clock(keras.callbacks.Callback):
    """Notes the processor's seconds as each batch begins; `times` are these."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_begin(self, batch, logs=None):
        self.times.append(time.process_time())


if __name__ == "__main__":
    main()

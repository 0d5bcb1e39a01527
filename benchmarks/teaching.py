"""What does a teacher add, term by term; what do cheaper blocks lose; what is left in eight bits?

    python benchmarks/teaching.py terms --data DIR [--stack FILE]
    python benchmarks/teaching.py blocks --data DIR
    python benchmarks/teaching.py recipe --data DIR [--stack FILE] [--vgg16 FILE]
    python benchmarks/teaching.py factors --data DIR
    python benchmarks/teaching.py ensemble --data DIR
    python benchmarks/teaching.py repairs --data DIR

`DIR` holds `cifar10.npz` and `cifar10_resnet20.keras`, and for a VGG-16 `cats_vs_dogs`; FILE is a
trained stack, or `dense.keras` of a transfer, of which the recipe alone is made. Each row is
appended to `results/teaching/PART.csv` as it is done; a command that is started again goes on with
the rows that are missing, so that a table can be made in pieces: `--seeds 1 --subjects resnet20`.
All that is chosen is chosen by validation images; the test images are looked at once for each row,
at its end. `--images` takes a part of the training images.
"""

import argparse
import csv
import functools
import time
from pathlib import Path

import keras
import numpy as np
from subjects import FUSED

import prune_keras
from prune_keras.callbacks import Distillation, Factors, ProgressivePruning, Teacher
from prune_keras.models import cifar10, photos, vgg16_transfer
from prune_keras.models.images import Batches, read_npz, split
from prune_keras.models.settings import compile_model
from prune_keras.quantizing.litert import Interpreted
from prune_keras.schedules import Geometric

RESULTS = Path(__file__).resolve().parent.parent / "results" / "teaching"
SEEDS = (0, 1, 2)
SUBJECTS = ("resnet20", "stack")
PHOTOS = "vgg16"
EPOCHS = 5
ROUNDS = 3
SETTINGS = {name: cifar10.settings(name) for name in SUBJECTS}
SETTINGS[PHOTOS] = vgg16_transfer.settings()
TERMS = {
    "none": None,
    "logits": {"logits": 0.9},
    "half logits": {"logits": 0.5},
    "features": {"logits": 0.0, "features": 1.0},
    "attention": {"logits": 0.0, "attention": 3000.0},
    "logits, features": {"logits": 0.9, "features": 1.0},
    "logits, attention": {"logits": 0.9, "attention": 3000.0},
    "half logits, attention": {"logits": 0.5, "attention": 3000.0},
    "all": {"logits": 0.9, "features": 1.0, "attention": 3000.0},
}
FACTORS = {"factors": 0.0, "logits, factors": 0.9}  # share that logits take over
BRANCHED = {"one cut": False, "one cut, ensemble": True}
RAMP = 0.5  # of all steps, until branches fully learn from their ensemble
REPAIRS = {
    "fused": {},
    "fitted anew": {"fuse": "sequential"},
    "obs, optimal, fitted anew": {"criterion": "obs", "scope": "optimal", "fuse": "sequential"},
}
TAUGHT = "the same, taught"  # as the last one, by all terms
REPAIRS[TAUGHT] = REPAIRS["obs, optimal, fitted anew"]
FLOPS = (0.5, 0.25)
BLOCKS = ("G(2)", "G(8)", "G(N)", "B(2)", "BG(2,8)")
WAYS = {"labels": None, "logits": {"logits": 0.9}, "attention": TERMS["attention"]}
PRUNED = "logits, pruned"  # in place of a block, to as many FLOPs
WAYS[PRUNED] = WAYS["logits"]


def main():
    given = arguments()
    data = functools.cache(functools.partial(data_of, given))
    files = {"resnet20": given.data / "cifar10_resnet20.keras", "stack": given.stack}
    files[PHOTOS] = given.vgg16
    subjects = {name: files[name] for name in given.subjects if files[name] is not None}
    file = given.output / f"{given.part}.csv"
    done = rows_of(file)
    for case in CASES[given.part](subjects, given):
        key = {name: str(value) for name, value in case.items() if name != "file"}
        if any(key.items() <= row.items() for row in done):
            continue
        keras.utils.set_random_seed(case["seed"])
        model = keras.models.load_model(case["file"], compile=False)
        size = model.input_shape[1] if case["subject"] == PHOTOS else None
        for row in MADE[given.part](model, case, data(size), given):
            append(file, key | row)


def data_of(given, size):
    """Return the splits of CIFAR-10, or of photos of a size, with a part of what is learnt from."""
    if size is None:
        data = split(*read_npz(given.data / "cifar10.npz"))
    else:
        data = photos.load_data(given.data / "cats_vs_dogs", size)
    return data._replace(train=tuple(each[: given.images] for each in data.train))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=tuple(CASES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stack", type=Path)
    parser.add_argument("--vgg16", type=Path, help="of a transfer, for the recipe")
    parser.add_argument("--images", type=int, help="training images; all of them if left out")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    of = (*SUBJECTS, PHOTOS)
    parser.add_argument("--subjects", nargs="+", choices=of, default=of)
    parser.add_argument("--flops", type=float, nargs="+", choices=FLOPS, default=FLOPS)
    parser.add_argument("--terms", nargs="+", choices=tuple(TERMS), default=tuple(TERMS))
    parser.add_argument("--blocks", nargs="+", choices=BLOCKS, default=BLOCKS)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for rows and models")
    return parser.parse_args()


def cases_of_terms(subjects, given):
    for seed in given.seeds:
        for subject, flops in (("resnet20", 0.25), ("stack", 0.25), ("resnet20", 0.5)):
            for terms in given.terms if subject in subjects and flops in given.flops else ():
                yield case_of(subjects, subject, given, seed) | {"flops": flops, "terms": terms}


def cases_of_factors(subjects, given, terms=FACTORS, subject="resnet20"):
    for seed in given.seeds:
        for flops in given.flops if subject in subjects else ():
            for each in terms:
                yield case_of(subjects, subject, given, seed) | {"flops": flops, "terms": each}


def cases_of_ensemble(subjects, given):
    yield from cases_of_factors(subjects, given, BRANCHED)


def cases_of_repairs(subjects, given):
    for subject in SUBJECTS:
        yield from cases_of_factors(subjects, given, REPAIRS, subject)


def cases_of_blocks(subjects, given):
    for seed in given.seeds:
        for block in given.blocks:
            for way in given.ways if "resnet20" in subjects else ():
                yield case_of(subjects, "resnet20", given, seed) | {"block": block, "way": way}


def cases_of_recipe(subjects, given):
    for seed in given.seeds:
        for subject in subjects:
            yield case_of(subjects, subject, given, seed)


def case_of(subjects, subject, given, seed):
    case = {"subject": subject, "file": subjects[subject], "seed": seed}
    return case | {"epochs": given.epochs, "images": given.images or "all"}


def taught(model, case, data, given):
    """Prune one network with one choice of terms."""
    terms = TERMS[case["terms"]]
    teacher = None if terms is None else Teacher("start", **terms)
    yield from pruned(model, teacher, case, data, given)


def transferred(model, case, data, given):
    """Prune one network that learns the factors of what it was."""
    teacher = Teacher("start", logits=FACTORS[case["terms"]], factors=Factors(data.train[0]))
    yield from pruned(model, teacher, case, data, given)


def branched(model, case, data, given):
    """Cut one network once, and fine-tune it as it is or as a branch of three."""
    few, target = tuple(each[:2048] for each in data.train), {"flops": case["flops"]}
    thin, _ = prune_keras.prune(model, target=target, data=few)
    if not BRANCHED[case["terms"]]:
        yield fitted(thin, [], case, data, given)
        return
    images = batches(case, data)
    steps = given.epochs * len(images)
    compiled(thin, case, steps)
    ensemble = prune_keras.NativeEnsemble(thin, ramp_steps=int(RAMP * steps))
    ensemble.compile(thin.optimizer, thin.loss, metrics=["accuracy"])
    history, seconds = timed(ensemble, images, [], data, given)
    kept = ensemble.branch()
    kept.compile(loss=thin.loss, metrics=["accuracy"])
    yield row_of(kept, history["val_branch_1_accuracy"], seconds, data)


def repaired(model, case, data, given):
    """Prune one network, and repair it in one way after each cut."""
    teacher = Teacher("start", **TERMS["all"]) if case["terms"] == TAUGHT else None
    yield from pruned(model, teacher, case, data, given, **REPAIRS[case["terms"]])


def pruned(model, teacher, case, data, given, **options):
    pruning = ProgressivePruning(
        target={"flops": case["flops"]},
        schedule=Geometric(ROUNDS),
        teacher=teacher,
        data=tuple(each[:2048] for each in data.train),
        verbose=0,
        **FUSED | options,
    )
    yield fitted(model, [pruning], case, data, given)


def cheaper(model, case, data, given):
    """Put cheap blocks into a network, or prune it to as many FLOPs; it learns in one way."""
    small = prune_keras.cheapen(model, case["block"], data=data.train[0][:1024].astype("float32"))
    terms = WAYS[case["way"]]
    if case["way"] == PRUNED:
        flops = prune_keras.cost(small).flops / prune_keras.cost(model).flops
        yield from pruned(model, Teacher("start", **terms), case | {"flops": flops}, data, given)
        return
    callbacks = [] if terms is None else [Distillation(Teacher(model, **terms))]
    yield fitted(small, callbacks, case, data, given)


def fitted(model, callbacks, case, data, given):
    images = batches(case, data)
    compiled(model, case, given.epochs * len(images))
    history, seconds = timed(model, images, callbacks, data, given)
    return row_of(model, history["val_accuracy"], seconds, data)


def batches(case, data):
    size = SETTINGS[case["subject"]].batch_size
    return Batches(*data.train, batch_size=size, seed=case["seed"])


def compiled(model, case, steps):
    """Compile as runs of `prune-keras cifar10` train such a network."""
    settings = SETTINGS[case["subject"]]
    return compile_model(model, settings, settings.learning_rate, steps)


def timed(model, images, callbacks, data, given):
    begun = time.perf_counter()
    history = model.fit(
        images,
        validation_data=data.validation,
        validation_batch_size=500,
        epochs=given.epochs,
        callbacks=callbacks,
        verbose=2,
    ).history
    return history, time.perf_counter() - begun


def row_of(model, validation, seconds, data):
    cost = prune_keras.cost(model)
    test = model.evaluate(*data.test, batch_size=500, verbose=0, return_dict=True)
    return {
        "validation": round(validation[-1], 4),
        "test": round(test["accuracy"], 4),
        "params": cost.params,
        "flops_left": cost.flops,
        "seconds": round(seconds, 1),
    }


def small(model, case, data, given):
    """Run the whole recipe on one network; a row for each stage."""
    epochs = given.epochs + 1  # the last one in eight bits
    compiled(model, case, epochs * (len(data.train[1]) // 64))
    folder = given.output / f"{case['subject']}_{case['seed']}"
    floats = [(x.astype("float32"), y) for x, y in (data.train, data.validation, data.test)]
    shrunk = prune_keras.shrink_to(
        model, {"flops": 0.5}, *floats[:2], folder, epochs=given.epochs, int8=True, verbose=2
    )
    x, y = (each[:2000] for each in floats[2])
    for stage in shrunk.stages:
        given_by = classes(Interpreted((folder / stage.file).read_bytes())(x))
        yield {
            "stage": stage.name,
            "validation": round(stage.accuracy, 4),
            "test": round(float(np.mean(given_by == y)), 4),
            "bytes": stage.bytes,
            "milliseconds": round(stage.milliseconds, 4),
        }


def classes(probabilities):
    is_one = probabilities.shape[-1] == 1
    return probabilities[:, 0] > 0.5 if is_one else probabilities.argmax(-1)


def rows_of(file):
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as held:
        return [*csv.DictReader(held)]


def append(file, row):
    """Add a row to a table that is made with the first one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as held:
        writer = csv.DictWriter(held, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


CASES = {
    "terms": cases_of_terms,
    "blocks": cases_of_blocks,
    "recipe": cases_of_recipe,
    "factors": cases_of_factors,
    "ensemble": cases_of_ensemble,
    "repairs": cases_of_repairs,
}
MADE = {
    "terms": taught,
    "blocks": cheaper,
    "recipe": small,
    "factors": transferred,
    "ensemble": branched,
    "repairs": repaired,
}

if __name__ == "__main__":
    main()

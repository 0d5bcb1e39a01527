"""Does any of many networks that chance builds break a promise?

    python benchmarks/generated.py --graphs 10000

Each network, of up to a hundred choices among layers, shapes and branches, in float32 or float64,
is cut by chance, and must give what it gives with the same neurons silenced; of the other promises,
which the tests check on fewer networks, each network in turn goes through one. A row for each
promise: networks that it was checked on, those that it says nothing about (there is nothing to
remove, say), and failures, which are printed with the numbers that build the network. The state of
optimizers is compared in float64 only: a gradient that is zero but for rounding, as that of a bias
in front of a batch normalization is, has no digits in float32 that two networks could share.
`--first` asks for other networks, and `--go-on` takes up a run that was stopped, from what its
table holds.
"""

import argparse
import csv
import dataclasses
import json
import sys
import time
import traceback
from pathlib import Path

import measuring

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "reliability"
CHUNK = 200  # networks a process, so that what Keras remembers of models is given back
CUT = 0.3, 0.5, 0.8
LENGTH = 100
OUTCOMES = "checked", "nothing to check", "failures"


def main(graphs, first, table, goes_on):
    begun, end = time.perf_counter(), first + graphs
    reached, totals = stored(table) if goes_on else (first, {})
    for start in range(reached, end, CHUNK):
        many = min(CHUNK, end - start)
        found, told = measuring.in_fresh_process(__file__, "--in-process", start, many)
        print(*told, sep="\n", end="\n" if told else "")
        for promise, counts in found.items():
            of = totals.setdefault(promise, dict.fromkeys(counts, 0))
            totals[promise] = {name: of[name] + counts[name] for name in counts}
        measuring.write_table(table, [{"promise": name, **of} for name, of in totals.items()])
        measuring.write_settings(table, first=first, next=start + many)
        print(start + many, round(time.perf_counter() - begun), flush=True)
    failed = sum(counts["failures"] for counts in totals.values())
    print(f"{end - first} networks, {failed} failures")
    raise SystemExit(bool(failed))


def stored(table):
    """Return the number of the first network that is not in a table, and what the table counts."""
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = {row["promise"]: {name: int(row[name]) for name in OUTCOMES} for row in rows}
    return json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))["next"], counts


def checked(first, many):
    """Check the promises on networks by number; return counts by promise, and what failed."""
    sys.path.insert(0, str(ROOT / "tests" / "conformance"))
    import promises
    import promises_in_training

    others = {
        "costs are foreseen": (promises.check_costs_are_foreseen, ("cut",)),
        "plans compose": (promises.check_plans_compose, ("cut", "other cut")),
        "nothing cut, nothing changed": (promises.check_cutting_nothing_changes_nothing, ()),
        "neurons change places": (promises.check_neurons_can_change_places, ("seed",)),
        "names and configs survive": (
            promises.check_what_a_model_is_known_by_survives,
            ("cut", "seed"),
        ),
        "the model is as it was": (promises.check_the_model_is_as_it_was, ("cut",)),
        "a cut is taken back": (promises.check_a_cut_can_be_taken_back, ("cut",)),
        "the optimizer's state is kept": (
            promises_in_training.check_step_after_cut,
            ("cut", "optimizer"),
        ),
    }
    always = {"removed equals silenced": (promises.check_removed_is_silenced, ("cut",))}
    counts = {name: dict.fromkeys(OUTCOMES, 0) for name in always | others}
    told = []
    for number in range(first, first + many):
        network, given = drawn(number)
        turn = number // 2 % len(others)  # so that each is drawn in both float types
        for name, (check, needs) in [*always.items(), [*others.items()][turn]]:
            if check is promises_in_training.check_step_after_cut:
                network = dataclasses.replace(network, floatx="float64")
            counts[name][outcome(check, network, [given[each] for each in needs], told)] += 1
    return counts, told


def drawn(number):
    """Return the network of a number, and what its checks are called with."""
    import numpy as np
    import promises_in_training
    from networks import Recipe

    rng = np.random.default_rng(number)
    numbers = tuple(rng.integers(0, 2**16, LENGTH).tolist())
    network = Recipe(numbers, ("float32", "float64")[number % 2], noise=False)
    cuts = [(int(rng.integers(1000)), float(rng.choice(CUT))) for _ in range(2)]
    optimizer = rng.choice(sorted(promises_in_training.OPTIMIZERS))
    given = {"cut": cuts[0], "other cut": cuts[1], "seed": int(rng.integers(1000))}
    return network, given | {"optimizer": optimizer}


def outcome(check, network, given, told):
    """Check one promise on one network, and name what came of it; add to `told` what failed."""
    from promises import NothingToCheck

    try:
        check(network, *given)
    except NothingToCheck:
        return "nothing to check"
    except Exception:
        told.append(f"{check.__name__} {given} {network}\n{traceback.format_exc()}")
        return "failures"
    return "checked"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--go-on", action="store_true", help="take up a run that was stopped")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--in-process", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(checked(*arguments.in_process)))
    else:
        table = arguments.results / "generated.csv"
        main(arguments.graphs, arguments.first, table, arguments.go_on)

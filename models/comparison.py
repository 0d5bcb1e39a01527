"""The comparison: ways to prune the same network, at equal epochs and equal FLOPs.

Global progressive pruning beside its rivals: layer by layer, uniformly, at random; and criteria
that look at photos beside those that look at weights, over the rounds.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from prune_keras import atomic
from prune_keras.models import fingerprints, photos, records, vgg16_transfer
from prune_keras.models.images import Data
from prune_keras.models.records import Row

WAYS = {
    "global, taylor": {"scope": "global", "criterion": "taylor"},
    "global, l2": {"scope": "global", "criterion": "l2", "debias": "mean"},
    "layerwise, taylor": {"scope": "layerwise", "criterion": "taylor", "debias": "none"},
    "uniform, taylor": {"scope": "uniform", "criterion": "taylor", "debias": "none"},
    "uniform, random": {"scope": "uniform", "criterion": "random", "debias": "none"},
}
LAYERS = 14  # of VGG-16 that can be cut, one a round where `scope` is "layerwise"
DENSE = ("head.csv", "dense.csv", "dense.json", "dense.keras")  # the network last


def run(
    output: str | Path,
    flops: float = 0.4,
    ways: Collection[str] | None = None,
    pruning: dict[str, Any] | None = None,
    overwrite: bool = False,
    **arguments: Any,
) -> list[Row]:
    """Prune one dense network in several ways; a way that is done already is not done again.

    Args:
        output: folder; each way gets a folder of its own in it, and `comparison.csv` and
            `comparison_rounds.csv` are written anew after each.
        flops: share of the FLOPs that may remain, for all ways.
        ways: names of `WAYS`. Defaults to all.
        pruning: arguments of `ProgressivePruning` that all ways share.
        overwrite: see `prune_keras.models.runs.run`.
        **arguments: those of `prune_keras.models.vgg16_transfer.run`. Layer by layer there are
            several rounds an epoch, so that every layer has its turn.

    Returns:
        The rows of `comparison.csv`, one a way and one for the dense network.

    Raises:
        ValueError: if there is no such way, or its folder holds the networks of another run.
    """
    output, names = Path(output), _known(ways or WAYS)
    size = arguments.get("image_size", 128)
    data = arguments.get("data")
    arguments["data"] = data if isinstance(data, Data) else photos.load_data(data, size)
    shared = (pruning or {}) | {"target": {"flops": flops}, "max_drop": None}
    rows: list[Row] = []
    rounds: list[Row] = []
    first = output / names[0].replace(", ", "-")
    _begin(output, first)
    for name in names:
        folder = output / name.replace(", ", "-")
        _share_dense(first, folder, overwrite)
        chosen = shared | WAYS[name] | _pace(WAYS[name], flops, arguments)
        result = vgg16_transfer.run(
            folder, pruning=chosen, measure=False, overwrite=overwrite, **arguments
        )
        dense, *_, pruned = result.rows
        rows = [{"way": "dense"} | dense, *rows[1:], {"way": name} | pruned | _kept(folder)]
        rounds += [{"way": name} | row for row in _rounds(folder, dense)]
        records.write_table(output / "comparison.csv", rows)
        records.write_table(output / "comparison_rounds.csv", rounds)
    return rows


def _known(names: Collection[str]) -> list[str]:
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise ValueError(
            f"The ways must be among {'; '.join(WAYS)}. Received: {unknown}. Choose some of these."
        )
    return list(names)


def _pace(way: dict[str, str], flops: float, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what brings a way that cuts a layer a round to the target in the same epochs.

    The FLOPs of a convolution fall with its filters and with those before it, so that all layers
    lose a share by which the square of what is left is a little below the target.
    """
    if way["scope"] != "layerwise":
        return {}
    decisive = ("epochs", "batch_size")
    chosen = vgg16_transfer.settings(**{k: v for k, v in arguments.items() if k in decisive})
    steps = -(-len(arguments["data"].train[1]) // chosen.batch_size)
    rounds_an_epoch = -(-LAYERS // (chosen.epochs - chosen.fine_tune_epochs))
    every = max(1, steps // rounds_an_epoch)
    share = 1 - 0.95 * flops**0.5
    return {"batches_per_round": every, "max_epochs_per_round": None, "fraction": share}


def _begin(output: Path, folder: Path) -> None:
    """Give the first way the dense network that another one has trained, if it has none."""
    made = next(output.glob("*/dense.keras"), None)
    if made is not None and not (folder / "dense.keras").exists():
        _copy(made.parent, folder)


def _share_dense(first: Path, folder: Path, overwrite: bool) -> None:
    """Give a way the dense network of the first one.

    Raises:
        ValueError: if it has another one, which is not to be overwritten.
    """
    shared, own = (fingerprints.of_file(each / "dense.keras") for each in (first, folder))
    if own not in (None, shared) and not overwrite:
        raise ValueError(
            f"All ways must begin with one dense network. Received: '{folder}' with another one "
            f"than '{first}'. Choose another folder, or have it replaced (overwrite=True, "
            "--overwrite)."
        )
    if shared not in (None, own):
        _copy(first, folder)


def _copy(made: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in DENSE:
        if (made / name).exists():  # without epochs of the head it has no log
            atomic.write_bytes(folder / name, (made / name).read_bytes())


def _kept(folder: Path) -> dict[str, float]:
    """Return which share of the units of convolutions and of Dense layers is left."""
    widths = records.read_table(folder / "widths.csv")
    parts: dict[str, list[dict[str, str]]] = {"convolutions": [], "dense": []}
    for row in widths:
        parts["convolutions" if "conv" in row["layer"] else "dense"].append(row)
    return {
        f"{part}_kept": sum(int(r["after"]) for r in rows) / sum(int(r["before"]) for r in rows)
        for part, rows in parts.items()
    }


def _rounds(folder: Path, dense: Row) -> list[Row]:
    """Return what each round left, and its accuracy before, right after the cut, and in the end."""
    return [
        {
            "round": row["number"],
            "flops": row["after"]["flops"] / dense["flops"],
            "params": row["after"]["params"] / dense["params"],
            "before": row["metric_before"],
            "after_cut": row["metric_cut"],
            "after_fine_tuning": row["metric"],
        }
        for row in records.read_json(folder / "rounds.json")
    ]

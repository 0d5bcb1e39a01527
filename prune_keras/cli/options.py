"""Options that several commands share, and how their texts are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

ModelFile = Annotated[Path, typer.Argument(help="A .keras or .h5 file.", metavar="MODEL")]
Seed = Annotated[int, typer.Option(help="Seeds weights, order of the images, and ties.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for everything it writes.")]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Delete and make anew what the folder holds of other data, weights or options.",
    ),
]


def _check_drop(drop: float | None) -> float | None:
    if drop is not None and not 0 <= drop < 1:
        raise typer.BadParameter(f"must be a share, 0.01 for one point. Received: {drop}.")
    return drop


MaxDrop = Annotated[
    float | None,
    typer.Option(help="Validation accuracy that may be lost, e.g. 0.01.", callback=_check_drop),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="METRIC=NUMBER",
        help="What may remain: a share, as params=0.5, flops=0.5 or neurons=0.5, or an amount, as "
        "params=120000; repeat for several.",
    ),
]
Criterion = Annotated[
    str,
    typer.Option(
        help="auto, l1, l2, random, or from data: apoz, reconstruction, taylor; "
        "see prune_keras.criteria."
    ),
]
Fuse = Annotated[
    str,
    typer.Option(help="What takes over for what is cut: auto, weights, bias, sequential or none."),
]
Debias = Annotated[
    str, typer.Option(help="Makes layers comparable: auto, none, mean, l2, zscore or rank.")
]
Scope = Annotated[str, typer.Option(help="auto, global, per_cost, optimal, layerwise or uniform.")]
Fraction = Annotated[float, typer.Option(help="Share of the neurons that one round removes.")]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:NUMBER",
        help="Instead of a fraction: geometric:5 or cubic:5 for five rounds to the target, "
        "constant:0.1 for a tenth of the rest each round, or one-shot.",
    ),
]
BatchesPerRound = Annotated[
    int | None, typer.Option(help="Cut every so many batches, not every so many epochs.")
]
KeepRounds = Annotated[
    bool, typer.Option("--keep-rounds", help="Keep the network of every round, in rounds/.")
]
Samples = Annotated[
    Path | None,
    typer.Option(help="An .npz file with x_train, and y_train for a model with a loss."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
InputShape = Annotated[
    str | None,
    typer.Option(help="Sizes of one input without the batch, e.g. 224,224,3, if unknown."),
]


def parse_targets(texts: Sequence[str] | None) -> dict[str, float] | None:
    """Return `{metric: share or amount}` of texts such as `"params=0.5"`; `None` for none.

    Raises:
        ValueError: if a text is not of this form, or a metric is named twice.

    Example:

    >>> parse_targets(["params=0.5", "flops=120000"])
    {'params': 0.5, 'flops': 120000}
    """
    if not texts:
        return None
    try:
        pairs = [(metric, _number(most)) for metric, most in (text.split("=") for text in texts)]
    except ValueError as error:
        raise ValueError(
            "A target must be a metric and the share or amount of it that may remain. "
            f"Received: --target {' --target '.join(texts)}. Write, say, --target params=0.5."
        ) from error
    if len(dict(pairs)) < len(pairs):
        raise ValueError(
            "Each metric must have one target. "
            f"Received: --target {' --target '.join(texts)}. Leave one of its targets out."
        )
    return dict(pairs)


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def parse_fuse(text: str) -> str | None:
    """Return None for `"none"`, and other texts as they are."""
    return None if text == "none" else text


def parse_schedule(text: str | None) -> dict[str, Any] | None:
    """Return the config of a schedule in a text such as `"geometric:5"`; `None` for `None`.

    Raises:
        ValueError: if the text is not of this form.

    Example:

    >>> parse_schedule("cubic:10"), parse_schedule("constant:0.2")
    ({'name': 'cubic', 'rounds': 10}, {'name': 'constant', 'fraction': 0.2})
    """
    if text is None:
        return None
    name, _, number = text.partition(":")
    try:
        if name == "one-shot" and not number:
            return {"name": name}
        if name == "constant":
            return {"name": name, "fraction": float(number)}
        if name in ("geometric", "cubic"):
            return {"name": name, "rounds": int(number)}
    except ValueError:
        pass
    raise ValueError(
        "A schedule must be constant with a fraction, geometric or cubic with a number of rounds, "
        f"or one-shot. Received: --schedule {text}. Write, say, --schedule geometric:5."
    )


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Return the tuple of sizes in a text such as `"224,224,3"`; `None` for `None`.

    Raises:
        ValueError: if a size is no whole number.
    """
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise ValueError(
            "The input shape must be whole numbers between commas. "
            f"Received: --input-shape {text}. Write, say, --input-shape 224,224,3."
        ) from error

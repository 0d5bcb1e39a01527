"""Options that several commands share, and how their texts are read."""

from pathlib import Path
from typing import Annotated

import typer

ModelFile = Annotated[Path, typer.Argument(help="A .keras or .h5 file.", metavar="MODEL")]
Seed = Annotated[int, typer.Option(help="Seeds weights, order of the images, and ties.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for everything it writes.")]
MaxDrop = Annotated[
    float | None, typer.Option(help="Validation accuracy that may be lost, e.g. 0.01.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="METRIC=SHARE",
        help="Share that may remain: params=0.5, flops=0.5 or neurons=0.5; repeat for several.",
    ),
]
Criterion = Annotated[
    str, typer.Option(help="l1, l2, random, or from data: apoz, mean_activation, taylor.")
]
Debias = Annotated[str, typer.Option(help="Makes layers comparable: none, mean, l2, zscore, rank.")]
Scope = Annotated[str, typer.Option(help="global, layerwise or uniform.")]
Fraction = Annotated[float, typer.Option(help="Share of the neurons that one round removes.")]
InputShape = Annotated[
    str | None,
    typer.Option(help="Sizes of one input without the batch, e.g. 224,224,3, if unknown."),
]


def parse_targets(texts):
    """Return `{metric: share}` of texts such as `"params=0.5"`; `None` if there are none.

    Raises:
        ValueError: if a text is not of this form.

    Example:

    >>> parse_targets(["params=0.5", "flops=0.25"])
    {'params': 0.5, 'flops': 0.25}
    """
    if not texts:
        return None
    try:
        pairs = (text.split("=") for text in texts)
        return {metric: float(share) for metric, share in pairs}
    except ValueError as error:
        raise ValueError(
            "A target must be a metric and the share of it that may remain. "
            f"Received: --target {' --target '.join(texts)}. Write, say, --target params=0.5."
        ) from error


def parse_shape(text):
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

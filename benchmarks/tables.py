"""What the scripts share that make tables: rows that were measured, as text, into a README."""

import csv

import numpy as np
from scipy import stats


def read(path):
    """Return the rows of a CSV file as dictionaries of strings; none if it is not there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fill(readme, tables):
    """Write tables between the comments that are there for each of them."""
    text = readme.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    readme.write_text(text, encoding="utf-8")


def markdown(heads, lines):
    """Return a table in Markdown; all cells are texts."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percent(share, digits):
    """Return a share in percent, without the sign of it."""
    return f"{100 * float(share):.{digits}f}"


def points(share):
    """Return a difference of shares in points, with its sign."""
    return f"{100 * float(share):+.1f}"


def between(low, high):
    """Return an interval of differences of shares in points."""
    return f"{points(low)} to {points(high)}"


def interval(apart):
    """Return the mean of differences with their 95 % interval, Student's t; `None` if it is one."""
    middle = float(np.mean(apart))
    if len(apart) == 1:
        return middle, None
    half = stats.t.ppf(0.975, len(apart) - 1) * np.std(apart, ddof=1) / len(apart) ** 0.5
    return middle, (middle - half, middle + half)


def with_interval(apart):
    """Return the mean of differences of shares in points, with its 95 % interval if it has one."""
    middle, reach = interval(apart)
    return points(middle) + ("" if reach is None else f" ({between(*reach)})")

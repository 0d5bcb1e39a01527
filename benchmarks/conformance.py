"""Check all networks of keras.applications, and write what was found as a table.

    python benchmarks/conformance.py            # those that the table lacks
    python benchmarks/conformance.py VGG16      # these again

Each network has a process of its own, and its row is written when it is done.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

import measuring
import tables

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "applications"
TABLE = RESULTS / "applications.csv"
HEAD = (
    *("network", "parameters", "reached", "traced"),
    *("float64", "float32", "rounding", ".keras", ".h5"),
)
sys.path.append(str(ROOT / "tests" / "conformance"))

import applications  # noqa: E402
import applications_measured as measurements  # noqa: E402


def main(names):
    rows = {row["network"]: row for row in tables.read(TABLE) if row["network"] not in names}
    for name in names or [name for name in applications.NAMES if name not in rows]:
        try:
            found = measuring.in_fresh_process(__file__, "--here", name)
        except RuntimeError as error:
            print(f"{name}: {error}", flush=True)
            continue
        print(f"{name}: {found['broken'] or 'all holds'}, {found['seconds']:.0f} s", flush=True)
        rows[name] = found
        write([rows[name] for name in applications.NAMES if name in rows])
    missing = [name for name in applications.NAMES if name not in rows]
    broken = [name for name, row in rows.items() if row["broken"]]
    if missing or broken:
        raise SystemExit(f"Without a row: {missing}. With broken promises: {broken}.")


def measure(name):
    """Return the row of one network, with the promises that it breaks."""
    row = measurements.measured(name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return row | {"peak GB": peak, "broken": "; ".join(measurements.shortcomings(row))}


def write(rows):
    """Write all rows beside the settings, and a part of their columns to the README."""
    measuring.write_table(TABLE, rows)
    measuring.write_settings(TABLE, command="python benchmarks/conformance.py")
    tables.fill(RESULTS / "README.md", {"table": tables.markdown(HEAD, [*map(line, rows)])})


def line(row):
    """Return the README's line of a network; errors are the largest over the three cuts."""
    kinds = ("float64", "float32", "rounding")
    return [
        row["network"],
        f"{float(row['params']) / 1e6:.1f} M",
        f"{100 * float(row['params reached']):.2f} %",
        f"{float(row['trace seconds']):.2f} s",
        *(f"{max(float(row[f'{kind} {cut}']) for cut in measurements.CUTS):.0e}" for kind in kinds),
        row[".keras"],
        row[".h5"],
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks to check again; those that lack a row")
    parser.add_argument("--here", help="check this one, in this process")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.here)))
    else:
        main(given.names)

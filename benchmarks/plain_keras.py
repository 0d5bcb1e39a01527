"""Check that exported networks predict the same in plain Keras, where there is no prune_keras.

    python benchmarks/plain_keras.py FOLDER... --data cats_vs_dogs

Each folder is one that `prune-keras cats-vs-dogs` wrote. A process that cannot import prune_keras
loads the .h5 file and predicts 100 test photos; the .keras file does so here. Both do it as they
were exported, and converted to float32. `plain_keras.csv` beside the folders says how far apart the
predictions are.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import measuring
import numpy as np

import prune_keras
from prune_keras.models import photos, precision, records

PHOTOS = 100
BOUNDS = {"float32": 1e-5, "mixed_bfloat16": 1e-2, "mixed_float16": 1e-2}
# A name that is None in sys.modules cannot be imported.
PLAIN = """
import sys
sys.modules["prune_keras"] = None
import keras, numpy as np
file, pixels, outputs = sys.argv[1:]
model = keras.models.load_model(file, compile=False)
np.save(outputs, model.predict(np.load(pixels), batch_size=50, verbose=0))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="the photos; see prune-keras cats-vs-dogs")
    given = parser.parse_args()
    rows = [row for folder in given.folders for row in compared(folder, given.data)]
    records.write_table(given.folders[0].parent / "plain_keras.csv", rows)
    settings = measuring.settings() | {"photos": PHOTOS, "bounds": BOUNDS}
    records.write_json(given.folders[0].parent / "plain_keras.json", settings)
    broken = [row for row in rows if row["difference"] > BOUNDS[row["precision"]]]
    if broken:
        raise SystemExit(f"The .h5 file predicts something else: {broken}.")


def compared(folder, data):
    """Yield a row for the network as it was exported, and one for it in float32."""
    exported = records.read_json(folder / "settings.json")["precision"]
    for chosen in dict.fromkeys((exported, "float32")):
        model = keras.models.load_model(folder / "pruned.keras", compile=False)
        pixels = photos.load_data(data, model.input_shape[1]).test[0][:PHOTOS]
        with tempfile.TemporaryDirectory() as scratch:
            file = folder / "pruned.h5"
            if chosen != exported:
                precision.convert(model, chosen)
                file = prune_keras.export(model, Path(scratch) / "pruned.h5")
            outputs = plainly(file, pixels.astype("float32"), Path(scratch))
        expected = model.predict(pixels.astype("float32"), batch_size=50, verbose=0)
        apart = float(np.abs(outputs - expected).max())
        row = {"network": folder.name, "precision": chosen, "photos": len(pixels)}
        yield row | {"difference": apart, "bound": BOUNDS[chosen]}


def plainly(file, pixels, scratch):
    """Return what a process without prune_keras predicts with a file."""
    paths = scratch / "pixels.npy", scratch / "outputs.npy"
    np.save(paths[0], pixels)
    command = [sys.executable, "-c", PLAIN, str(Path(file).resolve()), *map(str, paths)]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=scratch, env=bare)  # noqa: S603
    return np.load(paths[1])


if __name__ == "__main__":
    main()

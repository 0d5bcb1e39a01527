"""The notebooks run from first to last cell, at small size, and are stored without outputs."""

import json
import textwrap
from pathlib import Path

import keras
import numpy as np
import page_examples
import pytest
from generated_photos import write_photos

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# What stands for the cell of parameters: sizes, and data that would have to be fetched.
SMALL = {
    "cifar10": """
        IMAGES, EPOCHS, PRUNING_EPOCHS, MAX_DROP = 200, 1, 2, 1.0
        import keras, numpy as np
        drawn = lambda n: (np.random.randint(0, 256, (n, 32, 32, 3)), np.arange(n)[:, None] % 10)
        keras.datasets.cifar10.load_data = lambda: (drawn(200), drawn(50))
        """,
    "vgg16_transfer": """
        PHOTOS, SIZE, WEIGHTS, HEAD_EPOCHS, EPOCHS, BATCH = "photos", 32, None, 1, 2, 8
        TARGET, ROUND_TO = {"params": 0.8}, 8
        """,
    "your_own_model": """
        MODEL, SAMPLES, MONITOR = "model.keras", "samples.npz", "accuracy"
        TARGET, EPOCHS, MAX_DROP = {"flops": 0.5}, 3, 1.0
        """,
}


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_hold_no_outputs_and_one_cell_of_parameters(name):
    cells = code_cells(NOTEBOOKS[name])
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert [cell["metadata"].get("tags", []) for cell in cells].count(["parameters"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run(name, tmp_path, monkeypatch):
    nbclient, nbformat = (pytest.importorskip(each) for each in ("nbclient", "nbformat"))
    monkeypatch.chdir(tmp_path)
    names = page_examples.world(monkeypatch)
    np.savez("samples.npz", **{k: v for k, v in names.items() if k[:2] in ("x_", "y_")})
    write_photos(tmp_path / "photos")
    keras.utils.clear_session()
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = textwrap.dedent(SMALL[name])
    here = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=here).execute()

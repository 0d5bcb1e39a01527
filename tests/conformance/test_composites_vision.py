"""Layers of layers and models with a `call` of their own that look at pictures."""

import subprocess
import sys
from pathlib import Path

import composites_checks as checks
import composites_maps
import composites_mobile
import composites_patches
import composites_trained
import composites_windows
import keras
import pytest

MODULES = (
    composites_windows,
    composites_patches,
    composites_mobile,
    composites_maps,
    composites_trained,
)
COMPOSITES = [composite for module in MODULES for composite in module.TABLE]
each = pytest.mark.parametrize("composite", COMPOSITES, ids=str)
FITTED = ("vit", "mobilenet v2", "unet", "gan", "vae", "siamese")
each_fitted = pytest.mark.parametrize(
    "composite", [one for one in COMPOSITES if one.name in FITTED], ids=str
)
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own formats"
)
EXPORTED = ("swin", "convnext", "deeplab")


@each
def test_what_can_be_reached_is(composite):
    checks.check_what_can_be_reached_is(composite)


@each
def test_what_is_fixed_has_a_true_reason(composite):
    checks.check_what_is_fixed_has_a_true_reason(composite)


@each
@pytest.mark.parametrize("cut", [(0, 0.4), (1, 0.7)], ids=["less", "more"])
def test_removed_is_silenced(composite, cut):
    checks.check_removed_is_silenced(composite, cut)


@each_fitted
def test_a_fit_with_cuts(composite):
    checks.check_a_fit_with_cuts(composite)


def test_thin_ones_are_read_back_without_the_classes(tmp_path):
    """All of them in one process that has imported nothing but Keras and what compares."""
    paths = [str(checks.saved(composite, tmp_path)) for composite in COMPOSITES]
    code = (
        "import sys, pathlib, composites_checks as checks;"
        "checks.check_reads_back([*map(pathlib.Path, sys.argv[1:])])"
    )
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, *paths], cwd=here, check=True)


@needs_tensorflow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("way", checks.WAYS_OUT)
def test_every_file_agrees(name, way, tmp_path):
    composite = next(one for one in COMPOSITES if one.name == name)
    checks.check_a_way_out(composite, way, tmp_path)

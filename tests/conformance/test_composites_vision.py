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

# Layers of these drop masks, as people's do, and Keras says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*was passed an input with a mask")

MODULES = (
    composites_windows,
    composites_patches,
    composites_mobile,
    composites_maps,
    composites_trained,
)
COMPOSITES = [composite for module in MODULES for composite in module.TABLE]
each = pytest.mark.parametrize("composite", COMPOSITES, ids=str)
each_way = pytest.mark.parametrize("way", checks.WAYS)
FITTED = ("mobilenet v2", "gan", "vae", "siamese", "pixelcnn that writes its kernel")
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own formats"
)
EXPORTED = ("vit", "mobilenet v2", "deeplab")
thorough = pytest.mark.slow


@pytest.mark.repeats(6)
@each
@each_way
def test_all_but_what_is_fixed_by_nature_can_be_pruned(composite, way):
    checks.check_what_can_be_reached_is(composite, way)


@pytest.mark.repeats(3)
@each
@each_way
def test_removed_is_silenced(composite, way):
    checks.check_removed_is_silenced(composite, (0, 0.4), way)


@thorough
@each
@each_way
def test_removed_is_silenced_where_most_goes(composite, way):
    checks.check_removed_is_silenced(composite, (1, 0.7), way)


@pytest.mark.repeats(2)
@pytest.mark.parametrize("composite", [one for one in COMPOSITES if one.name in FITTED], ids=str)
def test_a_fit_with_cuts(composite):
    checks.check_a_fit_with_cuts(composite)


@thorough
@each
def test_every_fit_with_cuts(composite):
    checks.check_a_fit_with_cuts(composite)


def test_thin_ones_are_read_back_without_the_classes(tmp_path):
    quick = [one for one in COMPOSITES if one.name in EXPORTED]
    _check_read_back(quick, tmp_path)


@thorough
def test_all_thin_ones_are_read_back_without_the_classes(tmp_path):
    # A layer that draws numbers in training stays of its class, which a file needs.
    _check_read_back([one for one in COMPOSITES if not one.noise], tmp_path)


def _check_read_back(composites, tmp_path):
    """Read all of them in one process that has imported nothing but Keras and what compares."""
    paths = [str(checks.saved(composite, tmp_path)) for composite in composites]
    code = (
        "import sys, pathlib, composites_checks as checks;"
        "checks.check_reads_back([*map(pathlib.Path, sys.argv[1:])])"
    )
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, *paths], cwd=here, check=True)


@pytest.mark.repeats(2)
@needs_tensorflow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("way", checks.WAYS_OUT)
def test_every_file_agrees(name, way, tmp_path):
    composite = next(one for one in COMPOSITES if one.name == name)
    checks.check_a_way_out(composite, way, tmp_path)

"""Models of text, tables and signals, of layers made of layers or with a `call` of their own."""

import subprocess
import sys
from pathlib import Path

import composites_cached
import composites_checks as checks
import composites_decoders
import composites_signals
import composites_tables
import composites_translators
import numpy as np
import pytest
from promises import random_plan

import prune_keras

# Layers of these drop masks, as people's do, and Keras says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*was passed an input with a mask")

FILES = (
    composites_cached,
    composites_decoders,
    composites_signals,
    composites_tables,
    composites_translators,
)
COMPOSITES = {each.name: each for file in FILES for each in file.TABLE}
FITTED = ("nerf", "dense vae", pytest.param("tied gpt", marks=pytest.mark.slow))
# What is not seen through yet; a test that passes all the same says so.
UNSEEN: dict[tuple[str, str], str] = {}
# They draw numbers in training or add losses in a layer, which therefore stays what it is.
CLOSED = {"dense vae", "vector quantizer"}
thorough = pytest.mark.slow


def each_way(unseen):
    """Return a mark for all composites, in place and unfolded; some are known to fail."""
    return pytest.mark.parametrize(
        ("composite", "way"),
        [
            pytest.param(
                composite,
                way,
                id=f"{name}-{way}",
                marks=pytest.mark.xfail(reason=unseen[name, way], strict=True)
                if (name, way) in unseen
                else (),
            )
            for name, composite in COMPOSITES.items()
            for way in checks.WAYS
        ],
    )


@pytest.mark.repeats(3)
@each_way(UNSEEN)
def test_what_can_be_reached_is(composite, way):
    checks.check_what_can_be_reached_is(composite, way)
    checks.check_what_is_fixed_has_a_true_reason(composite, way)


@pytest.mark.repeats(3)
@each_way(UNSEEN)
def test_removed_is_silenced(composite, way):
    checks.check_removed_is_silenced(composite, (0, 0.5), way)


@thorough
@each_way(UNSEEN)
def test_removed_is_silenced_where_more_goes(composite, way):
    checks.check_removed_is_silenced(composite, (1, 0.6), way)


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_with_cuts(name):
    checks.check_a_fit_with_cuts(COMPOSITES[name])


OPEN = [n for n in COMPOSITES if (n, "unfolded") not in UNSEEN and n not in CLOSED]


@pytest.mark.parametrize("names", [OPEN[:1], pytest.param(OPEN[1:], marks=thorough)], ids=len)
def test_files_are_read_back_without_the_classes(names, tmp_path):
    """All of them in one process that has imported nothing but Keras and what compares."""
    paths = [checks.saved(COMPOSITES[name], tmp_path) for name in names]
    code = (
        "import sys, pathlib, composites_checks as checks;"
        "checks.check_reads_back([*map(pathlib.Path, sys.argv[1:])])"
    )
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], cwd=here, check=True)


def test_a_thin_decoder_writes_with_its_cache_what_it_would_without():
    (composite,) = composites_cached.TABLE
    model = composite.build()
    prune_keras.shrink_in_place(model, random_plan(model, (0, 0.4)))
    prompt = composite.data(2)[0][:, :3]
    written = model.generate(prompt)
    assert written.shape == (2, composites_cached.LENGTH)
    for end in range(3, composites_cached.LENGTH):
        (logits,) = checks.outputs_of(model, written[:, :end])
        np.testing.assert_array_equal(logits[:, -1].argmax(-1), written[:, end])

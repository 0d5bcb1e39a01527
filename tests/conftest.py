"""What every test starts from: a fixed seed, no window, and real data only where it was given."""

import functools
import gc
import itertools
import os
import signal
from pathlib import Path

# Read when matplotlib and TensorFlow are first imported, here and in subprocesses.
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Each core has a test process, and what these compute is small: more threads wait for each other.
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "1")

import hypothesis  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from keras.src.backend.common.global_state import get_global_attribute  # noqa: E402

# A first example traces and compiles, which says nothing of how slow the next ones are.
hypothesis.settings.register_profile(
    "prune_keras",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("prune_keras")


# What libraries hold stays for good: it need not be looked through each time that something is.
gc.collect()
gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave to the slow tests what repeats: of `repeats(n)`, all but n cases, spread evenly."""
    cases = {}
    for item in items:
        if item.get_closest_marker("repeats") is not None:
            cases.setdefault((item.path, item.originalname), []).append(item)
    for found in cases.values():
        quick = found[0].get_closest_marker("repeats").args[0]
        kept = {round((place + 0.5) * len(found) / quick - 0.5) for place in range(quick)}
        for place, item in enumerate(found):
            if place not in kept and len(found) > quick:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Leave files that have an `xdist_group` to one process each, which makes what they share.

    pytest-xdist 3.8 does not see these groups with pytest 9.2.
    """
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    @functools.cache
    def shares(file):
        return "xdist_group" in (config.rootpath / file).read_text(encoding="utf-8")

    class Together(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return file if shares(file) else super()._split_scope(nodeid)

    return Together(config, log)


@pytest.fixture(autouse=True)
def free(finished=itertools.count(1)):  # noqa: B008, one for all tests
    """Free the models of tests, which are cycles: each cut looks at all models that live."""
    yield
    if next(finished) % 16 == 0:
        gc.collect()


@pytest.fixture(autouse=True)
def seed(request):
    """Seed Python, NumPy, the backend and the generators of a test file before each test.

    What a test draws is then the same whichever tests ran before it.
    """
    keras.utils.set_random_seed(0)
    for value in vars(request.module).values():
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(autouse=True)
def no_scope_left():
    """Fail a test that leaves Keras in a name scope: paths of the next one would begin with it."""
    yield
    left = get_global_attribute("name_scope_stack") or []
    names = [scope.name for scope in left]
    left.clear()
    assert not names


@pytest.fixture
def default_handler():
    """Let SIGINT interrupt; a process that runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def real_data():
    """Return the folder that `$PRUNE_KERAS_DATA` names, or skip the test."""
    folder = os.environ.get("PRUNE_KERAS_DATA")
    if not folder:
        pytest.skip("needs real data: set PRUNE_KERAS_DATA to the folder that holds it")
    return Path(folder)

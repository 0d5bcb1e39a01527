"""What the seconds of a round went into, where a user reads it."""

import json

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, fit

from prune_keras.rounds.stopwatch import Stopwatch, summed

BEFORE_THE_CUT = ("score", "choose", "fuse", "cut", "recalibrate")


def test_phases_add_up_to_what_a_cut_took(tmp_path):
    pruning = callback(data=(SAMPLES, LABELS), log_dir=tmp_path)
    fit(dense_model(), pruning, epochs=2)
    for done in pruning.rounds:
        assert set(done.phases) == {*BEFORE_THE_CUT, "judge"}
        assert min(done.phases.values()) >= 0
        spent = sum(done.phases[phase] for phase in BEFORE_THE_CUT)
        assert 0.5 * done.seconds < spent <= done.seconds
    stored = json.loads((tmp_path / "rounds.json").read_text())
    assert [each["phases"] for each in stored] == [done.phases for done in pruning.rounds]


def test_the_report_tells_the_sum_over_rounds():
    pruning = callback()
    fit(dense_model(), pruning, epochs=3)
    expected = summed(done.phases for done in pruning.rounds)
    assert pruning.report.seconds == expected and len(pruning.rounds) > 1
    assert f"seconds of rounds: score {expected['score']:.1f}, " in str(pruning.report)
    assert pruning.report.to_dict()["seconds"] == expected


def test_a_report_without_rounds_tells_no_seconds():
    pruning = callback(max_drop=0.5)
    fit(dense_model(), pruning, epochs=1)
    assert pruning.report.seconds == {} and "seconds" not in str(pruning.report)


def test_a_phase_that_comes_again_goes_on_and_one_that_fails_counts_no_time():
    watch = Stopwatch()
    for _ in range(2):
        with watch.phase("cut"):
            keras.ops.convert_to_numpy(np.zeros(3))
    once = watch.seconds["cut"]
    with pytest.raises(KeyError), watch.phase("cut"):
        raise KeyError
    assert list(watch.seconds) == ["cut"] and watch.seconds["cut"] == once

"""What a fit tells of rounds: in the report, on the screen, to TensorBoard, through the logs."""

import io
import re

import keras
import numpy as np
import pytest
from fits import SAMPLES, callback, dense_model, drive, fit, judged
from matplotlib.image import imread
from rich.console import Console

from prune_keras.callbacks import board, display
from prune_keras.callbacks.display import Display
from prune_keras.report import Report
from prune_keras.samples import batches


def events(folder):
    """Return tag -> step -> array of what lies in a folder."""
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    arrays = pytest.importorskip("tensorboard.util.tensor_util")
    found = {}
    for file in folder.glob("events.*"):
        for event in loading.EventFileLoader(str(file)).Load():
            for each in event.summary.value:
                value = arrays.make_ndarray(each.tensor)
                found.setdefault(each.tag, {})[event.step] = value
    return found


def test_the_report_holds_the_fit(tmp_path):
    pruning = judged()
    drive(pruning, dense_model(), [0.9, 0.7, 0.9])
    report = pruning.report
    told = report.training
    assert [each["val_accuracy"] for each in told.epochs] == [0.9, 0.7, 0.9]
    assert (told.monitor, told.mode, told.bound) == ("val_accuracy", "max", pytest.approx(0.8))
    assert [(c.number, c.at, c.ended, c.kept) for c in told.cuts] == [
        (1, 0.0, 1.0, True),
        (2, 1.0, 2.0, False),
        (3, 2.0, 3.0, True),
    ]
    assert [each["neurons"] for each in told.epochs] == [18, 14, report.after.neurons]
    assert report.metric == (0.9, 0.9)
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report


def test_epochs_are_counted_on_in_a_second_fit_and_anew_for_another_model():
    pruning, model = judged(), dense_model()
    drive(pruning, model, [0.9])
    drive(pruning, model, [0.9, 0.9])
    training = pruning.report.training
    assert len(training.epochs) == 3 and [c.at for c in training.cuts] == [0.0, 1.0, 2.0]
    drive(pruning, dense_model(), [0.9])
    assert len(pruning.report.training.epochs) == 1


def test_a_cut_within_an_epoch_stands_there():
    pruning = callback(batches_per_round=1, target={"neurons": 0.5})
    fit(dense_model(), pruning, epochs=2)
    cuts = pruning.report.training.cuts
    assert [c.at for c in cuts] == [0.0, 0.5, 1.0] and {c.ended for c in cuts} == {1.0, 2.0}


def test_the_call_can_be_made_again():
    pruning = judged(data=SAMPLES, criterion="l1", fraction=0.3, exclude=str.isdigit)
    drive(pruning, dense_model(), [0.9])
    assert pruning.report.origin.call == (
        "model.fit(..., epochs=1, callbacks=[ProgressivePruning(fraction=0.3, criterion='l1', "
        "max_drop=0.1, baseline=0.9, min_fraction=0.05, data=..., exclude=isdigit, verbose=0)])"
    )
    assert pruning.report.origin.environment["keras"] == keras.__version__


def test_scores_are_told_as_the_first_cut_was_chosen():
    pruning = judged()
    drive(pruning, dense_model(), [0.9, 0.9])
    first, told = pruning.rounds[0], pruning.report.distributions
    assert sum(each.neurons for each in told) == first.before.neurons
    assert sum(each.removed for each in told) == first.before.neurons - first.after.neurons


def test_lines_stand_between_the_bars(capsys):
    fit(dense_model(), callback(verbose=1), epochs=4, verbose=1)
    shown = [line.split("\r")[-1] for line in capsys.readouterr().out.split("\n")]
    lines = [re.sub(r"\x1b\[[0-9;]*m|\x08+", "", line) for line in shown]
    for number in (1, 2, 3):
        (place,) = (n for n, line in enumerate(lines) if line.startswith(f"Round {number}:"))
        assert "val_loss" in lines[place - 1]
        assert number == 3 or lines[place + 1].startswith("Epoch")


def test_a_file_holds_lines_only(capsys):
    fit(dense_model(), callback(verbose=1), epochs=3)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "scoring" not in out
    assert [line.split(":")[0] for line in out.split("\n")] == [
        "",
        "Scores",
        "Round 1",
        "Round 2",
        "Round 3",
        "",
    ]


def test_the_table_of_widths_follows_on_request(capsys):
    pruning = judged(verbose=2)
    drive(pruning, dense_model(), [0.9])
    lines = capsys.readouterr().out.split("\n")
    after = pruning.rounds[0].widths
    for path, width in {"hidden0": 16, "hidden1": 8}.items():
        (row,) = (line for line in lines if path in line)
        assert row.split()[1::2][:3] == [path, str(width), str(after[path])]


class Screen(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def on_a_terminal(monkeypatch, verbose=1):
    clock, stream = Clock(), Screen()
    monkeypatch.setattr(display, "time", clock)
    return Display(verbose, Console(file=stream, force_terminal=True, width=80)), clock, stream


def test_a_terminal_shows_the_phase_and_what_is_left_of_it(monkeypatch):
    shown, clock, stream = on_a_terminal(monkeypatch)
    with shown.phase("score"):
        assert "scoring" in stream.getvalue()
        clock.now = 10.0
        assert shown._line().plain == "scoring, 10 s"
    with shown.phase("score"):
        clock.now = 13.0
        assert shown._line().plain == "scoring, about 7 s left"
    with shown.phase("fuse"):
        assert shown._line().plain == "repairing, 0 s"
    assert stream.getvalue().endswith("\x1b[2K")  # the line is gone


def test_what_is_left_of_a_first_pass_goes_by_its_batches(monkeypatch):
    shown, clock, _ = on_a_terminal(monkeypatch)
    with shown.phase("score"):
        for number, _ in enumerate(batches(np.arange(8.0), 2)):
            clock.now = 3.0 * number
            told = shown._line().plain
    assert told == "scoring, batch 4 of 4, 9 s, about 3 s left of this pass"


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_shows_no_phase_whatever_the_environment_says(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    stream = io.StringIO()
    with Display(1, Console(file=stream)).phase("score"):
        assert stream.getvalue() == ""


def test_silence_shows_no_phase(monkeypatch):
    shown, _, stream = on_a_terminal(monkeypatch, verbose=0)
    with shown.phase("score"):
        assert stream.getvalue() == ""


def test_rounds_lie_beside_what_tensorboard_was_told(tmp_path):
    pytest.importorskip("tensorflow")  # with which Keras writes
    pruning = judged(data=SAMPLES, criterion="mean_activation")
    board_of_keras = keras.callbacks.TensorBoard(tmp_path / "logs")
    fit(dense_model(), board_of_keras, pruning, epochs=2)
    found = events(tmp_path / "logs" / "pruning")
    for n, done in enumerate(pruning.rounds, 1):
        assert found["params"][n] == done.after.params
        assert found["kept"][n] == done.kept
        assert found["val_accuracy"][n] == pytest.approx(done.metric)
        assert found["val_accuracy after the cut"][n] == pytest.approx(done.metric_cut)
        assert found["seconds/score"][n] == pytest.approx(done.phases["score"])
        sums = [found[f"scores/hidden{k}"][n][:, 2].sum() for k in (0, 1)]
        assert sum(sums) == pytest.approx(done.before.neurons)
        width, height, file = found["widths"][n]
        assert imread(io.BytesIO(file)).shape[:2] == (int(height), int(width))


def test_rounds_have_a_folder_of_their_own_on_request(tmp_path):
    pruning = callback(tensorboard=tmp_path / "own")
    fit(dense_model(), pruning, epochs=2)
    assert [*events(tmp_path / "own")["params"]] == [1, 2]


def test_nothing_is_written_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(dense_model(), callback(), epochs=2)
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_is_none_is_refused():
    with pytest.raises(ValueError, match="`tensorboard` must be a folder.*tensorboard=True"):
        callback(tensorboard=True)


def test_where_tensorboard_is_missing_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "_is_installed", lambda: False)
    with pytest.raises(ValueError, match="must be installed.*pip install tensorboard"):
        callback(tensorboard=tmp_path)
    assert board.folder_of(None, [keras.callbacks.TensorBoard(tmp_path)]) is None


def test_logs_alone_tell_of_rounds():
    seen = []
    noting = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(dict(logs)))
    pruning = judged(baseline=0.2, max_drop=1.0)
    fit(dense_model(), pruning, noting, epochs=3)
    assert [each["round"] for each in seen] == [1, 2, 3]
    assert [each["rolled_back"] for each in seen] == [0, 0, 0]
    spent = [each["pruning_seconds"] for each in seen]
    assert spent == sorted(spent) and spent[-1] == sum(each.seconds for each in pruning.rounds)

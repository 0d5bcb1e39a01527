"""Rounds within an epoch, and rounds that choose for themselves how to score and to fuse."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, conv_model, fit, judged, state_of
from scripted import Script, assert_sliced, sliced
from ways import LEVELS, small_model


def states_at_batches(model, states):
    """Return a callback that notes the model's state as an epoch, and each batch of it, begins."""

    class Notes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            states[epoch, 0] = state_of(model)

        def on_train_batch_begin(self, batch, logs=None):
            if hasattr(model, "jax_state_sync"):
                model.jax_state_sync()
            if batch:
                states[self.epoch, batch] = state_of(model)

    return Notes()


def test_rounds_of_batches_are_cut_and_undone():
    model, pruning, before, after = small_model(), judged(batches_per_round=2), {}, {}
    listed = [states_at_batches(model, before), pruning, states_at_batches(model, after)]
    script = Script(pruning.monitor, LEVELS)
    fit(model, script, *listed, batch_size=6)
    rounds = pruning.rounds
    assert [(r.epoch, r.batch) for r in rounds] == [(e, b) for e in range(3) for b in (0, 2)]
    assert [r.kept for r in rounds] == [True, True, False, False, True, True]
    undone = before[1, 0]
    for done in rounds:
        at = done.epoch, done.batch
        base = undone if at == (2, 0) else before[at]
        assert_sliced(base, after[at], done.plan, measured=False)
        assert done.after.neurons < done.before.neurons


@pytest.mark.parametrize(
    ("data", "scores"),
    [
        (IMAGES, "reconstruction, fused weights"),
        ((IMAGES, LABELS), "mean(taylor, reconstruction), fused weights"),
    ],
)
def test_what_is_fused_is_undone_with_its_round(data, scores, capsys):
    model, pruning, before, after = conv_model(), judged(data=data, verbose=1), {}, {}
    listed = [states_at_batches(model, before), pruning, states_at_batches(model, after)]
    fit(model, Script(pruning.monitor, LEVELS), *listed)
    assert [done.kept for done in pruning.rounds] == [True, False, True]
    assert pruning.report.scores == scores
    assert f"\nScores: {scores}\n" in capsys.readouterr().out
    first, *readers = (model.get_layer(name).kernel.path for name in ("conv", "hidden", "classes"))
    for done, base in zip(pruning.rounds, (before[0, 0], before[1, 0], before[1, 0]), strict=True):
        cut = after[done.epoch, 0]
        assert done.metric_cut is not None
        # A fused kernel is no slice; what reads nothing that is cut is one.
        slices = [np.allclose(cut[p], sliced(p, base[p], done.plan)) for p in readers]
        assert not all(slices)
        np.testing.assert_array_equal(cut[first], sliced(first, base[first], done.plan))

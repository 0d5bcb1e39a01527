"""A fit that ends in an error of another callback: the model is at its last good state at once."""

import pytest
from exits import ERRORS, SCORES, WAYS, Clock, Failing, Good, assert_good, fit, model_of, pruning_of
from fits import LABELS, SAMPLES

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_train_end",
)


@pytest.mark.repeats(10)
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_hook_leaves_the_last_good_state(hook, place, tmp_path):
    turn = HOOKS.index(hook) + (place == "behind")
    way, error = WAYS[turn % len(WAYS)], ERRORS[turn // 2 % len(ERRORS)]
    model, clock = model_of(), Clock()
    good = Good(model, bounded=way != "unbounded")
    pruning, failing = pruning_of(way, log_dir=tmp_path), Failing(hook, error, clock)
    pair = [pruning, good]
    listed = [failing, *pair] if place == "before" else [*pair, failing]
    with pytest.raises(error, match="on purpose"):
        fit(model, clock, *listed, validation_data=(SAMPLES[:12], LABELS[:12]))
    if (hook, place) == ("on_train_begin", "before"):
        assert not pruning.rounds
        return
    assert pruning.rounds or hook == "on_train_begin"
    assert_good(model, pruning, good.state, tmp_path)


def test_without_an_error_the_scores_are_those_of_the_tests():
    model, pruning = model_of(), pruning_of("epochs")
    fit(model, Clock(), pruning)
    assert [done.kept for done in pruning.rounds] == [score > 0.5 for score in SCORES]

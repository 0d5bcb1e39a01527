"""A model with open sizes has no FLOPs, which leaves the rest of a run's tables and pictures."""

from prune_keras.models import records


def test_what_is_not_known_is_not_drawn(tmp_path):
    row = {"phase": "prune", "val_accuracy": 0.5, "neurons": 7, "params": 9, "flops": ""}
    history = [row | {"epoch": 1}, row | {"epoch": 2}]
    records.write_run(tmp_path, [{"network": "dense"}], [{"pair": "one"}], history)
    assert (tmp_path / "history.png").exists()

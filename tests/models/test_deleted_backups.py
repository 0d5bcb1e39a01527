"""What is deleted of a folder of backups is what runs wrote there."""

import numpy as np

from prune_keras import backups


def test_other_files_of_the_folder_stay(tmp_path):
    folder = backups.Store(tmp_path / "backup", 1)
    folder.write({}, {"weights": np.zeros(3)})
    folder.write_start({"weights": np.zeros(3)})
    (tmp_path / "backup" / "fit-notes.txt").write_text("mine")
    assert len(backups.written(tmp_path / "backup")) == 2
    backups.delete(tmp_path / "backup")
    assert [each.name for each in (tmp_path / "backup").iterdir()] == ["fit-notes.txt"]
    (tmp_path / "backup" / "fit-notes.txt").unlink()
    backups.delete(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_there_may_be_no_folder(tmp_path):
    backups.delete(tmp_path / "none")

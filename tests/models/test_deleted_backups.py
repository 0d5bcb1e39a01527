"""What is deleted of a folder of backups is what runs wrote there."""

import numpy as np

from prune_keras import atomic, backups


def test_other_files_of_the_folder_stay(tmp_path):
    folder = backups.Store(tmp_path / "backup", 1)
    folder.write({}, {"weights": np.zeros(3)})
    folder.write_start({"weights": np.zeros(3)})
    (tmp_path / "backup" / f".fit-1-000002.7{atomic.PARTIAL}").touch()  # of a killed process
    mine = [tmp_path / "backup" / name for name in ("fit-notes.txt", "start-1-mine.npz")]
    for file in mine:
        file.touch()
    assert len(backups.written(tmp_path / "backup")) == 3
    backups.delete(tmp_path / "backup")
    assert sorted((tmp_path / "backup").iterdir()) == mine
    for file in mine:
        file.unlink()
    backups.delete(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_there_may_be_no_folder(tmp_path):
    backups.delete(tmp_path / "none")

"""`--overwrite` of the commands that go on with a folder; nothing is overwritten unasked."""

import importlib

import pytest
from typer.testing import CliRunner

from prune_keras.cli import app, console

COMMANDS = {
    "demo": "digits",
    "cifar10": "cifar10",
    "cats-vs-dogs": "vgg16_transfer",
    "compare": "comparison",
}


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_run_is_told_whether_to_overwrite(command, asked, monkeypatch, tmp_path):
    module, seen = importlib.import_module(f"prune_keras.models.{COMMANDS[command]}"), []

    def run(output, overwrite=None, **_):
        seen.append((output, overwrite))
        return []

    monkeypatch.setattr(module, "run", run)
    for name in ("show_run", "show_table"):
        monkeypatch.setattr(console, name, lambda *_: None)
    arguments = [command, "--output", str(tmp_path), *(["--overwrite"] if asked else [])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert seen == [(tmp_path, asked)]

"""Commands as a user runs them, in this process."""

from typer.testing import CliRunner

from prune_keras import cli


def call(*arguments):
    """Run a command and return its result; what is no message for the user raises here."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments):
    """Run a command that must succeed, and return what it prints."""
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout

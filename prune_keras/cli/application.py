"""The application that commands add themselves to, and how they end when something is wrong."""

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from prune_keras.cli import console

app = typer.Typer(
    help="Make trained Keras models physically thinner, neuron by neuron. Commands end with 0, "
    "with 1 if they could not do what was asked, with 2 if they were asked for what cannot be.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_Debug = Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
_COMMON = {"debug": _Debug, "quiet": _Quiet}

Command = Callable[..., None]
AnyCommand = TypeVar("AnyCommand", bound=Command)

_NO_BACKEND = (
    "Install a backend for Keras: pip install 'prune-keras[cpu]', or set KERAS_BACKEND to the one "
    "that is there."
)


def command(example: str, resumes: bool = False) -> Callable[[AnyCommand], AnyCommand]:
    """Add a command, which ends in one line if something is wrong.

    Args:
        example: how it is called, for its help.
        resumes: whether a second call goes on after what the first one finished.
    """

    def added(function: AnyCommand) -> AnyCommand:
        ending = functools.partial(_ending, function, resumes)
        app.command(epilog=f"Example: {example}")(_with_common_options(function, ending))
        return function

    return added


def _with_common_options(function: Command, ending: Callable[[bool, tuple, dict], None]) -> Command:
    """Return what takes the options of a command and those that all of them have."""

    @functools.wraps(function)
    def wrapped(*args: Any, debug: bool, quiet: bool, **kwargs: Any) -> None:
        # TensorFlow reads it when it is first imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _silence() if quiet else contextlib.nullcontext():
            ending(debug, args, kwargs)

    own = inspect.signature(function)
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in _COMMON.items()
    ]
    signature = own.replace(parameters=[*own.parameters.values(), *common])
    wrapped.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
    wrapped.__annotations__ = function.__annotations__ | _COMMON
    return wrapped


def _ending(function: Command, resumes: bool, debug: bool, args: tuple, kwargs: dict) -> None:
    """Run a command; end in one line, and with the code that its error asks for."""
    try:
        function(*args, **kwargs)
    except KeyboardInterrupt:
        _fail("Interrupted." + (" The same command goes on from here." if resumes else ""), 1)
    except Exception as error:
        if debug or isinstance(error, (typer.Exit, typer.Abort, typer.BadParameter)):
            raise
        _fail(f"Error: {_told(error)}", 2 if isinstance(error, _ASKED_WRONGLY) else 1)


def _told(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in _BACKENDS:
        return f"{error}. {_NO_BACKEND}"
    if isinstance(error, (ValueError, OSError, ModuleNotFoundError)):
        return str(error)
    return f"{type(error).__name__}: {error} (call again with --debug to see where it arose)"


_BACKENDS = ("tensorflow", "jax", "torch", "keras")
_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_ASKED_WRONGLY = (ValueError, PermissionError, *_PATHS)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _fail(message: str, code: int) -> NoReturn:
    console.complain(" ".join(message.split()))
    raise typer.Exit(code)

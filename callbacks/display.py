"""Display: what a fit shows of rounds, between the lines of Keras' bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from prune_keras.reporting.words import width_table
from prune_keras.samples.batches import watched
from prune_keras.text import printable

SAID = {
    "score": "scoring",
    "choose": "choosing",
    "fuse": "repairing",
    "cut": "cutting",
    "recalibrate": "measuring batch normalization",
    "judge": "judging",
}


class Display:
    """Lines that wait for the end of an epoch's bar, and the phase of a round as it runs.

    A phase is shown on a terminal only, on a line that is gone once the phase is over.

    Args:
        verbose: 0 for nothing, 1 for a line a round, 2 for the table of widths with each.
        console: where to print. Defaults to None: standard output.
    """

    def __init__(self, verbose: int, console: Console | None = None) -> None:
        self._verbose, self._console = verbose, console or Console(highlight=False)
        self._waiting: list[str] = []
        self._took: dict[str, float] = {}
        self._phase, self._begun, self._batch = "", 0.0, ""
        self._pass_begun, self._done = 0.0, 0.0

    def say(self, line: str) -> None:
        """Print a line once no bar is shown."""
        self._waiting += [line] if self._verbose else []

    def widths(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Print a table of widths below it, where that is asked for."""
        if self._verbose > 1 and after:
            table = Console(width=100, no_color=True, highlight=False, markup=False, emoji=False)
            with table.capture() as captured:
                table.print(width_table({p: (before[p], after[p]) for p in after if p in before}))
            self._waiting.append(captured.get().rstrip())

    def flush(self) -> None:
        """Print what waits; the bar of the last epoch has come to its end."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            print(each, flush=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show that a phase runs, for how long still as far as one can tell."""
        begun = time.perf_counter()
        with self._live(name) if self._shows else contextlib.nullcontext():
            yield
        self._took[name] = time.perf_counter() - begun

    @property
    def _shows(self) -> bool:
        """Whether somebody looks; a variable of the environment may say so of a file, too."""
        console = self._console
        on_screen = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
        return bool(self._verbose and on_screen)

    @contextlib.contextmanager
    def _live(self, name: str) -> Iterator[None]:
        self._phase, self._batch, self._done = SAID.get(name, printable(name)), "", 0.0
        self._begun, self._before = time.perf_counter(), self._took.get(name)
        live = Live(
            get_renderable=self._line,
            console=self._console,
            transient=True,
            refresh_per_second=2,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with watched(self._tick), live:
            live.refresh()
            yield

    def _tick(self, batch: int, batches: float | None) -> None:
        """Take note of a batch that is to be read, the first of a pass being 1."""
        if batch == 1:
            self._pass_begun = time.perf_counter()
        of = "" if batches is None else f" of {batches:.0f}"
        self._batch, self._done = f", batch {batch}{of}", (batch - 1) / batches if batches else 0.0

    def _line(self) -> Text:
        now = time.perf_counter()
        return Text(f"{self._phase}{self._batch}, {self._left(now)}", overflow="ellipsis")

    def _left(self, now: float) -> str:
        """Tell the seconds left, by the phase of the last round, or by what this pass has done."""
        passed = now - self._begun
        if self._before is not None and self._before > passed:
            return f"about {self._before - passed:.0f} s left"
        if self._done:
            of_pass = (now - self._pass_begun) * (1 / self._done - 1)
            return f"{passed:.0f} s, about {of_pass:.0f} s left of this pass"
        return f"{passed:.0f} s"

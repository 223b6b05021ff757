"""Progress on stderr: finished steps as lines, the step at hand live on a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import click

from codeferry_cli.terminal.output import wrap_line
from codeferry_contracts.escaping import coloured, harmless

if TYPE_CHECKING:
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

_MOST_BARS = 20  # at once on the screen


class OutputLine(Protocol):
    """A line an instance printed; ``redrawn``: a progress bar has drawn it over itself."""

    @property
    def instance(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def redrawn(self) -> bool: ...


L = TypeVar("L", bound=OutputLine)


class Throttle(Generic[L]):
    """Lets a progress bar through at most once in ``interval`` seconds for each instance.

    Every other line passes at once, after how the bar before it was left.
    """

    def __init__(
        self, interval: float = 1.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._held: dict[str, L] = {}
        self._shown: dict[str, float] = {}

    def of(self, line: L) -> Iterator[L]:
        """What is to be shown now that ``line`` has come."""
        held = self._held.pop(line.instance, None)
        if not line.redrawn:
            yield from filter(None, (held,))
            yield line
        elif self._clock() - self._shown.get(line.instance, -math.inf) >= self._interval:
            self._shown[line.instance] = self._clock()
            yield line
        else:
            self._held[line.instance] = line

    def rest(self) -> Iterator[L]:
        """What was held back and is now the end."""
        yield from self._held.values()
        self._held.clear()


class PlainProgress:
    """A line per step, for logs and pipes; of a progress bar one a second.

    A step is announced with ``now`` as it goes on, and closed with ``line``.
    """

    def __init__(self) -> None:
        self._mark: object = None
        self._throttle = Throttle[OutputLine]()
        self._bare = False

    def line(self, text: str) -> None:
        """Print something that happened and stays on the screen."""
        click.echo(harmless(text), err=True)

    def output(self, line: OutputLine, colour: str) -> None:
        """Print a line of an instance; ``colour`` is the instance's."""
        for shown in self._throttle.of(line):
            self._print(shown, colour)

    def bare(self, line: OutputLine) -> None:
        """Print a line that is all there is to stdout: a command's own output."""
        self._bare = True
        for shown in self._throttle.of(line):
            self._print(shown, "")

    def _print(self, line: OutputLine, colour: str) -> None:
        if self._bare:
            click.echo(coloured(line.text))
            return
        who = click.style(f"{line.instance} |", fg=colour or None)
        click.echo(f"{who} {coloured(line.text)}", err=True)

    def now(self, text: str, mark: object) -> None:
        """Show what is happening; ``mark`` changes when it is worth a line of its own."""
        if mark != self._mark:
            self._mark = mark
            self.line(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._throttle.rest():
            self._print(line, "")


class LiveProgress:
    """The step at hand behind a spinner at the bottom, below it what progress bars say now.

    Finished lines stay above; a bar is one when something else of its instance follows.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        self._now = ""
        self._bars: dict[str, Text] = {}

    def line(self, text: str) -> None:
        for part in wrap_line(harmless(text), self._console.width):
            self._console.print(part, markup=False, emoji=False, soft_wrap=True)

    def output(self, line: OutputLine, colour: str) -> None:
        from rich.text import Text

        shown = Text.assemble((harmless(f"{line.instance} |"), colour), " ", _text(line))
        if line.redrawn and self._live:
            self._bars[line.instance] = shown
            self._draw()
        else:
            self._finish_bar(line.instance)
            self._console.print(shown, soft_wrap=True)

    def bare(self, line: OutputLine) -> None:
        if not sys.stdout.isatty():
            click.echo(coloured(line.text))
        elif line.redrawn and self._live:
            self._bars[line.instance] = _text(line)
            self._draw()
        else:
            self._finish_bar(line.instance)
            self._console.print(_text(line), soft_wrap=True)

    def now(self, text: str, mark: object) -> None:
        if self._live is None:
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("dots")
            # Stdout stays stdout: what is printed to it is not for this console.
            self._live = Live(
                self._spinner, console=self._console, transient=True, redirect_stdout=False
            )
            self._live.start()
        self._now = text
        self._draw()

    def _draw(self) -> None:
        from rich.text import Text

        if self._spinner:
            lines = [Text(harmless(self._now)), *list(self._bars.values())[-_MOST_BARS:]]
            for bar in lines:
                bar.no_wrap = True  # a line that wraps is not drawn over in whole
                bar.truncate(max(1, self._console.width - 4), overflow="ellipsis")
            self._spinner.update(text=Text("\n").join(lines))

    def _finish_bar(self, instance: str) -> None:
        """A bar is over: how it was left stays on the screen."""
        bar = self._bars.pop(instance, None)
        if bar:
            self._console.print(bar, soft_wrap=True)
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for instance in list(self._bars):
            self._finish_bar(instance)
        if self._live is not None:
            self._live.stop()
            self._live = None


Progress = PlainProgress | LiveProgress


def progress() -> Progress:
    """Live on a terminal that can do it, plain lines anywhere else."""
    if sys.stderr.isatty() and not _dumb():
        return LiveProgress()
    return PlainProgress()


def _text(line: OutputLine) -> Text:
    from rich.text import Text

    return Text.from_ansi(coloured(line.text))


def _dumb() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_dumb_terminal

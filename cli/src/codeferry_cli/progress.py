"""Progress on stderr: finished steps as lines, the step at hand live on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from codeferry_contracts.escaping import harmless

if TYPE_CHECKING:
    from rich.status import Status


class Progress(Protocol):
    """A step is announced with ``now`` as it goes on, and closed with ``line``."""

    def line(self, text: str) -> None:
        """Something that happened and stays on the screen."""

    def output(self, who: str, colour: str, text: str) -> None:
        """A line that ``who`` printed, elsewhere."""

    def now(self, text: str, mark: object) -> None:
        """What is happening; ``mark`` changes when it is worth a line of its own."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def progress() -> Progress:
    """Live on a terminal that can do it, plain lines anywhere else."""
    if sys.stderr.isatty() and not _dumb():
        return LiveProgress()
    return PlainProgress()


class PlainProgress:
    """A line per step, for logs and pipes."""

    def __init__(self) -> None:
        self._mark: object = None

    def line(self, text: str) -> None:
        click.echo(harmless(text), err=True)

    def output(self, who: str, colour: str, text: str) -> None:
        self.line(f"{who} | {text}")

    def now(self, text: str, mark: object) -> None:
        if mark != self._mark:
            self._mark = mark
            self.line(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put right on the screen."""


class LiveProgress:
    """The step at hand behind a spinner at the bottom, finished lines above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None

    def line(self, text: str) -> None:
        self._console.print(harmless(text), markup=False, emoji=False)

    def output(self, who: str, colour: str, text: str) -> None:
        from rich.text import Text

        line = Text.assemble((harmless(f"{who} |"), colour), " ", harmless(text))
        self._console.print(line, soft_wrap=True)

    def now(self, text: str, mark: object) -> None:
        from rich.text import Text

        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(Text(harmless(text)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _dumb() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_dumb_terminal

"""Output of a run's command, shown while the run is followed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from codeferry_cli.runs.logs import LogTail
from codeferry_cli.views.report_view import MOST_ROWS

if TYPE_CHECKING:
    from codeferry_cli.terminal.progress import Progress

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_magenta")


class Colours:
    """A colour for each instance, the same one every time."""

    def __init__(self) -> None:
        self._chosen: dict[str, str] = {}
        self._next = itertools.cycle(_COLOURS)

    def of(self, instance: str) -> str:
        if instance not in self._chosen:
            self._chosen[instance] = next(self._next)
        return self._chosen[instance]


class LiveOutput:
    """Tells ``progress`` each new line, with its instance before it.

    ``wanted`` None means: unless there are too many instances. What cannot be shown is
    said once; the run goes on all the same. ``bare`` is that the lines themselves go to stdout,
    whoever printed them; None means: those of a single instance.
    """

    def __init__(
        self,
        tail: LogTail,
        progress: Progress,
        *,
        wanted: bool | None,
        bare: bool | None,
        later: str,
    ) -> None:
        self._tail = tail
        self._progress = progress
        self._wanted = wanted
        self._bare = bare
        self._later = later
        self._colours = Colours()

    @property
    def shown(self) -> bool:
        """Whether anybody wants to see it, and can."""
        return self._wanted is not False

    @property
    def has_stdout(self) -> bool:
        """Whether stdout has what the command printed, and so should have nothing else."""
        return bool(self._bare) and self.shown

    def show_news(self, *, ended: bool = False) -> None:
        """What one command has printed since; once the run has ``ended``, what all have."""
        from botocore.exceptions import BotoCoreError, ClientError

        if self._wanted is False:
            return
        try:
            self._tail.look_for_commands()
            if self._bare is None:
                self._bare = self._tail.planned_instances() == 1
            if self._wanted is None and not self._bare and len(self._tail.instances) > MOST_ROWS:
                self._stop(f"The output of {len(self._tail.instances):,} instances is not shown")
                return
            self._show(ended=ended)
        except (BotoCoreError, ClientError) as error:
            self._stop(f"The output cannot be shown: {error}")

    def _show(self, *, ended: bool) -> None:
        for page in self._tail.rest() if ended else self._tail.fresh():
            for line in page:
                if self._bare:
                    self._progress.bare(line)
                else:
                    self._progress.output(line, self._colours.of(line.instance))

    def _stop(self, why: str) -> None:
        self._wanted = False
        self._progress.line(f"{why}. See it: {self._later}")

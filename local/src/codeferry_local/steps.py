"""Showing the supervisor's steps as they happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class StepPrinter:
    """Prints one line per finished step; on a terminal also the one under way."""

    console: Console

    def __call__(self, line: dict[str, Any]) -> None:
        if "step" in line and self.console.is_terminal:
            self.console.print(f"  … {line['step']}", end="\r", style="dim")
        if "done" in line:
            self.console.print(f"  [green]✓[/green] {line['done']} [dim]{line['seconds']} s[/dim]")

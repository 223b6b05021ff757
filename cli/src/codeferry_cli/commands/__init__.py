"""The `ferry` command group. Subcommands are imported when they are called."""

from __future__ import annotations

from codeferry_cli.commands.group import ferry

__all__ = ["ferry"]

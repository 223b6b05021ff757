"""Tables: fitted to a terminal without breaking an id, or as CSV. Functions of values, no I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import click

from codeferry_contracts.escaping import one_line

_GAP = "  "
_CUT = "…"
_NARROWEST = 8  # of a name that is cut: what is left of it still tells it from others


@dataclass(frozen=True)
class Column:
    """``head`` is what people read above it; a column without one stands close to the next.

    Where there is no room ``short`` is how many of the first characters are enough (such as of
    a release, which is accepted so), then what ``shrinks`` is cut in the middle, and then the
    column that ``drops`` first, the one with the highest number, is left out; 0 never is, and
    is cut only when there is nothing left to leave out. A cell that none of this is true for is
    never cut. ``key`` is the head in CSV, by default
    ``head``; a column with neither is not in it.
    """

    head: str
    drops: int = 0
    shrinks: bool = False
    short: int = 0
    key: str = ""


class Cell(NamedTuple):
    """A text for people with its colour, and the value that CSV holds."""

    shown: str
    value: str
    colour: str = ""


Row = Sequence[str | Cell]


def to_lines(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """The table, at most ``width`` cells wide as far as ids allow; None is without bound."""
    cells = [[_cell(part) for part in row] for row in rows]
    kept, widths = _fitted(columns, cells, width)
    lines = [_line(columns, kept, widths, [Cell(c.head, "") for c in columns], bold=True)]
    return [*lines, *(_line(columns, kept, widths, row) for row in cells)]


def to_csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """All columns of all rows in full, with a line of heads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kept = [number for number, column in enumerate(columns) if column.key or column.head]
    writer.writerow(columns[number].key or columns[number].head for number in kept)
    for row in rows:
        writer.writerow(one_line(_cell(row[number]).value) for number in kept)
    return text.getvalue()


def cut_middle(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells: its beginning and its end."""
    if _width(text) <= width:
        return text
    head, tail = text, text
    while _width(head) > width // 2:
        head = head[:-1]
    while _width(tail) > width - _width(head) - 1:
        tail = tail[1:]
    return f"{head}{_CUT}{tail}"


def _cell(part: str | Cell) -> Cell:
    cell = part if isinstance(part, Cell) else Cell(part, part)
    return cell._replace(shown=one_line(cell.shown))


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> tuple[list[int], dict[int, int]]:
    """The columns there is room for, each with its width; one that is empty needs no room."""
    kept = [n for n in range(len(columns)) if not rows or any(row[n].shown for row in rows)]
    while True:
        widths = {n: _natural(columns[n], [row[n] for row in rows]) for n in kept}
        if width is None or _total(columns, widths) <= width:
            return kept, widths
        for number in kept:
            if columns[number].short:
                needed = max(columns[number].short, len(columns[number].head))
                widths[number] = min(widths[number], needed)
        droppable = [number for number in kept if columns[number].drops]
        _shrink(columns, widths, width, droppable or kept)
        if _total(columns, widths) <= width or not droppable:
            return kept, widths
        kept.remove(max(droppable, key=lambda number: columns[number].drops))


def _shrink(
    columns: Sequence[Column], widths: dict[int, int], width: int, among: Sequence[int]
) -> None:
    """Take from the widest of those that shrinks until it fits or none can give."""
    while _total(columns, widths) > width:
        able = [n for n in among if columns[n].shrinks and widths[n] > _NARROWEST]
        if not able:
            return
        widths[max(able, key=lambda number: widths[number])] -= 1


def _natural(column: Column, cells: Sequence[Cell]) -> int:
    return max([_width(column.head), *(_width(cell.shown) for cell in cells)])


def _total(columns: Sequence[Column], widths: dict[int, int]) -> int:
    gaps = sum(len(_gap(columns[number])) for number in list(widths)[:-1])
    return sum(widths.values()) + gaps


def _gap(column: Column) -> str:
    return _GAP if column.head else " "


def _line(
    columns: Sequence[Column],
    kept: Sequence[int],
    widths: dict[int, int],
    row: Sequence[Cell],
    *,
    bold: bool = False,
) -> str:
    parts = []
    for number in kept:
        column, cell = columns[number], row[number]
        shown = cell.shown
        if _width(shown) > widths[number]:
            shown = cut_middle(shown, widths[number]) if column.shrinks else _cut_id(column, shown)
        last = number == kept[-1]
        padding = "" if last else " " * (widths[number] - _width(shown)) + _gap(column)
        styled = click.style(shown, fg=cell.colour or None, bold=bold or None)
        parts.append((styled if shown and (bold or cell.colour) else shown) + padding)
    return "".join(parts).rstrip()


def _cut_id(column: Column, shown: str) -> str:
    return shown[: column.short] if column.short else shown


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

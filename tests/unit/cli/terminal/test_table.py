"""Tables, fitted to terminals of different widths, and as CSV."""

from __future__ import annotations

import csv
import io

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_cli.commands.runs import _COLUMNS as RUNS
from codeferry_cli.terminal.output import wrap_line
from codeferry_cli.terminal.table import Cell, Column, cut_middle, to_csv, to_lines
from codeferry_cli.views.report_view import COLUMNS as INSTANCES

RUN = "20261129-195904-train-dbde38dd"
INSTANCE = "i-0a88a7e4b57bc5252"
RELEASE = "b015f7af66ecea078e39"
LONG = "trainer-with-a-long-name-of-europe-7"

RUN_ROW = (
    RUN,
    Cell("✓", "", "green"),
    "succeeded",
    LONG,
    LONG,
    "somebody@laptop",
    "workflow",
    Cell("2026-11-29 19:59:04 UTC", "2026-11-29T19:59:04+00:00"),
    Cell("3 min 5 s", "185.000"),
)
INSTANCE_ROW = (
    Cell("✗", "failed", "red"),
    INSTANCE,
    LONG,
    "health failed, returned",
    RELEASE,
    Cell("1,018", "1018"),
    Cell("0.1", "0.1"),
)


def plain(columns, row, width):
    return [click.unstyle(line) for line in to_lines(columns, [row], width)]


@pytest.mark.parametrize("width", [120, 80, 60, 40])
@pytest.mark.parametrize(
    ("columns", "row", "ident"), [(RUNS, RUN_ROW, RUN), (INSTANCES, INSTANCE_ROW, INSTANCE)]
)
def test_a_row_keeps_to_the_terminal_and_its_id_is_whole(columns, row, ident, width) -> None:
    """At every width one line a row, with the id as it has to be typed."""
    lines = plain(columns, row, width)
    assert len(lines) == 2
    assert max(map(len, lines)) <= width
    assert ident in lines[1].split()


def test_at_80_columns_what_an_id_says_itself_is_left_out() -> None:
    """Start and project are in the run's id; target, status and duration are not."""
    heads = plain(RUNS, RUN_ROW, 80)[0].split()
    assert heads == ["run", "status", "target", "project", "took"]


def test_at_80_columns_a_release_is_shortened_and_a_name_cut_in_its_middle() -> None:
    """To the twelve digits that are accepted back, and to a beginning and an end."""
    _, row = plain(INSTANCES, INSTANCE_ROW, 80)
    assert f"  {RELEASE[:12]}" in row
    assert RELEASE not in row
    assert "traine…ope-7" in row or ("tra" in row and "…" in row and "-7" in row)


def test_where_there_is_room_nothing_is_cut() -> None:
    """A pipe has no width: `grep` finds the whole of everything."""
    assert all(part in plain(INSTANCES, INSTANCE_ROW, None)[1] for part in (LONG, RELEASE))


def test_an_id_wider_than_the_terminal_is_printed_whole() -> None:
    """The terminal wraps it; a broken one could not be typed."""
    assert plain((Column("run"),), ("r" * 90,), 40)[1] == "r" * 90


def test_an_empty_column_takes_no_room() -> None:
    """Runs that are all without a target leave that column out."""
    assert plain((Column("run"), Column("target", drops=1)), ("r", ""), None) == ["run", "r"]


def test_marks_have_their_colour_and_the_heads_are_bold() -> None:
    """What a terminal without colours gets is the same less these."""
    head, row = to_lines(INSTANCES, [INSTANCE_ROW], 120)
    assert click.style("✗", fg="red") in row
    assert click.style("instance", bold=True) in head


def test_csv_has_every_column_in_full() -> None:
    """Values for programs: words, whole releases, plain numbers, times with their zone."""
    (row,) = csv.DictReader(io.StringIO(to_csv(INSTANCES, [INSTANCE_ROW])))
    assert row == {
        "status": "failed",
        "instance": INSTANCE,
        "name": LONG,
        "result": "health failed, returned",
        "release": RELEASE,
        "files": "1018",
        "seconds": "0.1",
    }


@given(st.text(max_size=60), st.integers(3, 40))
def test_what_is_cut_keeps_its_beginning_and_end(text: str, width: int) -> None:
    """Never wider than asked, and never cut where there is room."""
    from rich.cells import cell_len

    cut = cut_middle(text, width)
    assert cell_len(cut) <= max(width, 0)
    assert cut == text if cell_len(text) <= width else "…" in cut


def test_a_name_cannot_act_on_the_terminal_nor_break_a_row() -> None:
    """A cell is one line of harmless text."""
    lines = plain((Column("name"),), ("a\x1b[2J\nb",), 80)
    assert lines[1] == "a\\x1b[2J\\nb"


def test_a_line_wraps_between_words_and_a_command_not_at_all() -> None:
    """An id stays whole, and what is pasted is one command."""
    assert wrap_line("Verified: 18 files, digest b015f7af66ec on 3/3 instances", 40) == [
        "Verified: 18 files, digest b015f7af66ec",
        "  on 3/3 instances",
    ]
    assert wrap_line(RUN * 3, 40) == [RUN * 3]
    command = f"Look again: ferry status {RUN} --stage local"
    assert wrap_line(command, 40) == [command]

"""The ledger in DynamoDB."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from codeferry_lambdas.aws import clients
from codeferry_lambdas.runs.ledger import Ledger, Upload


def test_reserve_once(ledger: Ledger) -> None:
    """The first to reserve a batch gets nothing back, the second what the first left."""
    assert ledger.reserve("r", 0) is None
    ledger.set_command("r", 0, "c-1")
    again = ledger.reserve("r", 0)
    assert again is not None
    assert (again.number, again.command_id) == (0, "c-1")
    assert abs(again.reserved_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_batches_of_one_run(ledger: Ledger) -> None:
    """A run's batches are its own, in order, with what became of each."""
    for number in (2, 0, 1):
        ledger.reserve("r", number)
    ledger.reserve("other", 0)
    ledger.close("r")
    ledger.set_collected("r", 1, failed=3, ended=True)
    ledger.set_skipped("r", 2)
    found = list(ledger.batches("r"))
    assert [(b.number, b.failed, b.ended, b.skipped) for b in found] == [
        (0, None, False, False),
        (1, 3, True, False),
        (2, None, False, True),
    ]


def test_collected_without_reservation(ledger: Ledger) -> None:
    """A batch whose dispatch never got as far as a reservation can be collected."""
    ledger.set_collected("r", 0, failed=2, ended=False)
    (found,) = ledger.batches("r")
    assert found.failed == 2


def test_tokens(ledger: Ledger) -> None:
    """The last token under a command counts; unknown and forgotten commands have none."""
    ledger.set_token("c", "old")
    ledger.set_token("c", "new")
    assert ledger.token("c") == "new"
    ledger.forget_token("c")
    ledger.forget_token("c")
    assert ledger.token("c") is None


def test_closed(ledger: Ledger) -> None:
    """A run is open until it is closed, and stays closed."""
    assert not ledger.is_closed("r")
    ledger.close("r")
    ledger.close("r")
    assert ledger.is_closed("r")


def test_uploads_only_advance(ledger: Ledger) -> None:
    """A version older than one that was planned is refused; the same one again is not."""
    older, newer = (
        Upload("2026-01-01T00:00:00+00:00", "a"),
        Upload("2026-01-02T00:00:00+00:00", "b"),
    )
    assert ledger.advance("inbox/a/b.tar.gz", newer) is None
    assert ledger.advance("inbox/a/b.tar.gz", newer) is None
    assert ledger.advance("inbox/a/b.tar.gz", older) == newer
    assert ledger.advance("inbox/a/c.tar.gz", older) is None
    assert ledger.newest("inbox/a/b.tar.gz") == newer
    assert ledger.newest("inbox/a/d.tar.gz") is None


def test_of_one_second_the_first_stays_until_replaced(ledger: Ledger) -> None:
    """S3's times cannot order two uploads of one second, so neither replaces the other unasked."""
    one, two = Upload("2026-01-01T00:00:00+00:00", "b"), Upload("2026-01-01T00:00:00+00:00", "a")
    assert ledger.advance("k", one) is None
    assert ledger.advance("k", two) == one
    assert ledger.replace("k", one, two)
    assert not ledger.replace("k", one, two)
    assert ledger.newest("k") == two


def test_everything_expires(ledger: Ledger) -> None:
    """Every item has a time to live, so that the table does not grow for ever."""
    ledger.reserve("r", 0)
    ledger.set_collected("r", 1, failed=0, ended=True)
    ledger.close("r")
    ledger.set_token("c", "t")
    ledger.advance("k", Upload("2026-01-01T00:00:00+00:00", "a"))
    items = clients.table("runs").scan()["Items"]
    assert len(items) == 5
    assert all(float(str(item["expires_at"])) > time.time() for item in items)

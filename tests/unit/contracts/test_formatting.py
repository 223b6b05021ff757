"""Numbers as people read them."""

from __future__ import annotations

import pytest

from codeferry_contracts import formatting


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (4_100_000, "4.1 MB"),
        (999_960, "1.0 MB"),
        (3_000_000_000, "3.0 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_sizes_are_decimal_with_one_digit(count: int, text: str) -> None:
    """A size changes its unit where it would need a fourth digit."""
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "0.4 s"), (59.9, "59.9 s"), (65, "1 min 5 s"), (7384, "2 h 3 min")],
)
def test_durations_drop_what_does_not_matter(value: float, text: str) -> None:
    """Seconds have tenths, minutes have seconds, hours have minutes."""
    assert formatting.seconds(value) == text


def test_one_is_not_plural() -> None:
    """Counts agree with their noun and have thousands separators."""
    assert formatting.counted(1, "file") == "1 file"
    assert formatting.counted(2113, "file") == "2,113 files"

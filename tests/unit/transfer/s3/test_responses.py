"""The headers of responses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_transfer.s3.responses import moment_of


@given(st.datetimes(datetime(1970, 1, 2), datetime(2400, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants them so
def test_a_date_is_what_the_standard_library_reads(moment: datetime) -> None:
    """HTTP's dates are read as email's are."""
    text = format_datetime(moment, usegmt=True)
    assert moment_of(text) == parsedate_to_datetime(text).timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "Thu, 01 Foo 2032 00:00:00 GMT"])
def test_what_is_no_date_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert moment_of(text) == 0

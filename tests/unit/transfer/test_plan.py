"""Plans of transfers: pure functions over sorted streams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_transfer.errors import LocationInvalid
from codeferry_transfer.location import Location, parse_location
from codeferry_transfer.parts import MIB, part_bytes, part_count, possible_parts, span
from codeferry_transfer.plan import (
    Entry,
    Rules,
    Verb,
    checked,
    copy_all,
    synchronise,
    unfit_as_file,
    unfit_as_key,
)
from codeferry_transfer.selection import Selection
from codeferry_transfer.workers import FIRST, ConcurrencyLimit

sides = st.dictionaries(
    st.text("ab/-.é", min_size=1, max_size=4).filter(lambda path: not path.endswith("/")),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)


def entries(side: dict[str, tuple[int, int]]) -> list[Entry]:
    return [Entry(path, size, float(when)) for path, (size, when) in sorted(side.items())]


@given(sides, sides, st.booleans())
def test_a_plan_makes_one_side_like_the_other(
    source: dict[str, tuple[int, int]], there: dict[str, tuple[int, int]], delete: bool
) -> None:
    """Each path gets exactly one action, the one its two entries call for."""
    plan = list(synchronise(entries(source), entries(there), Rules(delete=delete)))
    done = {action.path: action.verb for action in plan}
    assert len(done) == len(plan)
    for path, (size, when) in source.items():
        old = there.get(path)
        differs = old is None or old[0] != size or when > old[1]
        assert done.pop(path) is (Verb.COPY if differs else Verb.SKIP)
    assert set(done) == (set(there) - set(source) if delete else set())
    assert set(done.values()) <= {Verb.DELETE}


def test_deletions_come_after_everything_else() -> None:
    """Nothing is to be deleted before both listings are known to the end."""
    plan = list(synchronise([Entry("z", 1, 0)], [Entry("a", 1, 0)], Rules(delete=True)))
    assert [action.verb for action in plan] == [Verb.COPY, Verb.DELETE]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_listing_that_fails_half_way_deletes_nothing(side: str) -> None:
    """An exception of either side comes through before any deletion."""

    def failing() -> Iterator[Entry]:
        yield Entry("b", 1, 0)
        raise ConnectionError

    whole = [Entry("a", 1, 0), Entry("b", 1, 0), Entry("c", 1, 0)]
    source, there = (failing(), whole) if side == "source" else (whole[1:], failing())
    plan = synchronise(source, there, Rules(delete=True))
    with pytest.raises(ConnectionError):
        assert all(action.verb is not Verb.DELETE for action in plan)


def test_content_is_compared_where_sizes_are_equal() -> None:
    """With content, time decides nothing and an equal size only that reading is needed."""
    plan = synchronise(
        [Entry("a", 1, 9), Entry("b", 1, 0)], [Entry("a", 1, 0), Entry("b", 2, 0)], Rules(True)
    )
    assert [action.verb for action in plan] == [Verb.COMPARE, Verb.COPY]
    assert [a.verb for a in copy_all([Entry("a", 1, 0)], content=True)] == [Verb.COMPARE]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../x", "'..'"),
        ("a/../../x", "'..'"),
        ("a/./x", "'.'"),
        ("/etc/passwd", "absolute"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("a\0b", "NUL"),
        (".ferry-download/x", "reserved"),
        ("é" * 128, "255"),
        ("a/b.txt", ""),
        ("..a/...", ""),
    ],
)
def test_keys_that_cannot_be_files_are_refused_with_the_reason(path: str, reason: str) -> None:
    """Nothing leads out of the destination, and the reason can be told."""
    found = unfit_as_file()(path)
    assert (reason in found) if reason else found == ""


def test_a_key_that_is_a_file_and_a_directory_is_refused_as_a_directory() -> None:
    """`a` is carried, what is below it is refused, also with others sorted between."""
    paths = ["a", "a-b", "a.c", "a/x", "a/y/z", "a0", "b"]
    plan = checked(copy_all(Entry(path, 1, 0) for path in paths), unfit_as_file())
    refused = [action.path for action in plan if action.verb is Verb.REFUSE]
    assert refused == ["a/x", "a/y/z"]


def test_files_that_cannot_be_keys_are_refused() -> None:
    """A key is UTF-8 and at most 1,024 bytes, with its prefix."""
    unfit = unfit_as_key("prefix/")
    assert "UTF-8" in unfit("\udcff")
    assert "1,024" in unfit("é" * 510)
    assert unfit("é" * 508) == ""


@pytest.mark.parametrize(
    ("include", "exclude", "meant"),
    [
        ((), (), ["a.txt", "d/a.txt", "d/b.bin", "data2/x"]),
        (("*.txt",), (), ["a.txt", "d/a.txt"]),
        ((), ("d/",), ["a.txt", "data2/x"]),
        (("*.txt",), ("d/",), ["a.txt"]),
        (("d/*",), ("*.bin", "a.txt"), ["d/a.txt"]),
        ((), ("d",), ["a.txt", "data2/x"]),
        ((), ("./d", "/a.txt", "data2/./x"), []),
        (("d",), (".//d/*.bin",), ["d/a.txt"]),
        ((), (".",), []),
        ((), ("",), ["a.txt", "d/a.txt", "d/b.bin", "data2/x"]),
        ((), ("?",), ["a.txt", "data2/x"]),
    ],
)
def test_selection(include: tuple[str, ...], exclude: tuple[str, ...], meant: list[str]) -> None:
    """Included, or nothing is, and not excluded; a directory is not what begins like it."""
    selects = Selection(include, exclude)
    assert [p for p in ("a.txt", "d/a.txt", "d/b.bin", "data2/x") if selects(p)] == meant


@pytest.mark.parametrize(
    ("include", "exclude", "entered"),
    [
        ((), ("d",), False),
        ((), ("d/",), False),
        ((), ("d/*",), False),
        ((), ("d*",), False),
        ((), ("d?",), True),
        ((), ("d/x*", "d/y"), True),
        ((), ("*.bin",), True),
        (("d",), (), True),
        (("d/x/y",), (), True),
        (("*.bin",), (), True),
        (("d?",), (), True),
        (("data", "e/*"), (), False),
    ],
)
def test_a_directory_is_entered_if_something_in_it_may_be_meant(
    include: tuple[str, ...], exclude: tuple[str, ...], entered: bool
) -> None:
    """Not where all below is excluded, nor where nothing can be included."""
    assert Selection(include, exclude).enters("d/") is entered


def test_a_pattern_that_has_fitted_is_not_told_of() -> None:
    """Files, what stands for a directory, and directories that are passed over all count."""
    selects = Selection(("a*", "none"), ("./b", "c/", "c/x", "d", "e"))
    for path in ("a1", "b"):
        selects(path)
    selects.concerns("d")
    selects.enters("c/")
    assert selects.unmatched == ["--include 'none'", "--exclude 'e'"]


def test_locations() -> None:
    """Buckets and access points with keys; anything else says what a location looks like."""
    assert parse_location("s3://bucket") == Location("bucket", "")
    assert parse_location("s3://bucket/a/b") == Location("bucket", "a/b")
    point = "arn:aws:s3:eu-west-1:111122223333:accesspoint/mine"
    assert parse_location(f"s3://{point}/a/b") == Location(point, "a/b")
    assert Location("b", "data").directory.path == "data/"
    assert Location("b").directory.path == ""
    for wrong in ("bucket/a", "s3://", "s3://a_very$bad/x", "s3://arn:aws:sns:x/y"):
        with pytest.raises(LocationInvalid) as caught:
            parse_location(wrong)
        assert "s3://bucket/path" in caught.value.hint


@given(st.integers(8 * MIB + 1, 5 << 40))
def test_parts_cover_the_object_within_the_limits_of_s3(size: int) -> None:
    """At most 10,000 parts of at most 5 GiB, whose spans end where the object does."""
    part = part_bytes(size)
    count = part_count(size, part)
    assert count <= 10_000
    assert 5 * MIB <= part <= 5 << 30
    offset, length = span(count, size, part)
    assert offset + length == size
    assert 0 < length <= part
    assert part in possible_parts(size, f"abc=-{count}")


def test_workers_are_doubled_as_long_as_it_pays() -> None:
    """Where each is waiting they grow to the most; where twice as many do the same they stay."""
    far, near = ConcurrencyLimit(64), ConcurrencyLimit(64)
    done_far = done_near = 0
    for second in range(1, 12):
        done_far, done_near = done_far + far.workers * 10, done_near + 1000
        far.observe(done_far, float(second))
        near.observe(done_near, float(second))
    assert far.workers == 64
    assert near.workers in (FIRST, 2 * FIRST), "a try now and then is part of it"
    assert ConcurrencyLimit(1).workers == 1


def test_few_works_are_no_rate() -> None:
    """Large objects end seldom: what is judged is as many as there are workers, or a second."""
    limit = ConcurrencyLimit(64)
    for tenth in range(1, 10):
        limit.observe(tenth // 5, tenth / 10)
    assert limit.workers == FIRST
    limit.observe(2, 1.2)
    assert limit.workers == 2 * FIRST

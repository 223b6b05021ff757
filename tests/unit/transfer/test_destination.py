"""The directory downloads go to: never outside, never half, nothing left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from codeferry_transfer.destination import Destination
from codeferry_transfer.errors import FileUnfit


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def land(root: Path, path: str, content: bytes = b"new") -> Exception | None:
    """One small file through a destination of its own; what it was told."""
    told: list[Any] = []
    destination = Destination(str(root))
    destination.settle(destination.store(content, 1_700_000_000.0), path, len(content), told.append)
    destination.settle_all()
    destination.close()
    assert len(told) == 1
    error: Exception | None = told[0]
    return error


def test_a_file_arrives_in_new_directories_with_its_time(tmp_path: Path) -> None:
    """Directories are made, the time is the object's, and nothing else is left."""
    assert land(tmp_path / "to", "a/b/c.txt") is None
    arrived = tmp_path / "to" / "a" / "b" / "c.txt"
    assert arrived.read_bytes() == b"new"
    assert arrived.stat().st_mtime == 1_700_000_000
    assert names(tmp_path / "to") == ["a"]


@pytest.mark.parametrize("path", ["link/f", "inner/link/f"])
def test_links_below_the_destination_are_not_followed(tmp_path: Path, path: str) -> None:
    """A directory that is a link is refused by name, and nothing is written behind it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "to" / Path(path).parent
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    error = land(tmp_path / "to", path)
    assert isinstance(error, FileUnfit)
    assert str(Path(path).parent) in error.message
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """Only a regular file gives way; a link would be somebody's, and its target too."""
    target, place = tmp_path / "target", tmp_path / "to" / "f"
    target.write_bytes(b"kept")
    place.parent.mkdir()
    {
        "link": lambda: place.symlink_to(target),
        "directory": place.mkdir,
        "fifo": lambda: os.mkfifo(place),
    }[kind]()
    before = place.lstat().st_ino
    assert isinstance(land(tmp_path / "to", "f"), FileUnfit)
    assert place.lstat().st_ino == before
    assert target.read_bytes() == b"kept"


def test_the_destination_itself_may_be_a_link(tmp_path: Path) -> None:
    """Where the user points is where it goes."""
    (tmp_path / "real").mkdir()
    (tmp_path / "to").symlink_to(tmp_path / "real")
    assert land(tmp_path / "to", "f") is None
    assert (tmp_path / "real" / "f").read_bytes() == b"new"


def test_two_processes_have_a_staging_directory_each(tmp_path: Path) -> None:
    """The second takes another one; both are gone afterwards."""
    first, second = Destination(str(tmp_path)), Destination(str(tmp_path))
    assert len(names(tmp_path)) == 2
    first.close()
    second.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".ferry-download", ".ferry-download-0f"])
@pytest.mark.parametrize("whose", ["another user's", "open to others", "a link", "a file"])
def test_a_staging_directory_that_is_not_this_users_alone_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, whose: str
) -> None:
    """In a shared directory any name may be taken: it decides nothing, and is left as it is."""
    theirs = tmp_path / name
    if whose == "a link":
        theirs.symlink_to(tmp_path.parent)
    elif whose == "a file":
        theirs.write_bytes(b"theirs")
    else:
        theirs.mkdir(mode=0o700)
        (theirs / "7.new").write_bytes(b"theirs")
    if whose == "open to others":
        theirs.chmod(0o777)
    if whose == "another user's":
        user = os.geteuid()
        monkeypatch.setattr("codeferry_transfer.destination.os.geteuid", lambda: user + 1)
    before = [path.lstat() for path in (theirs, theirs / "7.new") if path.exists()]
    assert land(tmp_path, "f") is None
    assert sorted(names(tmp_path)) == [name, "f"]
    assert [path.lstat() for path in (theirs, theirs / "7.new") if path.exists()] == before


def test_a_new_staging_directory_has_a_name_nobody_can_foresee(tmp_path: Path) -> None:
    """And only its owner gets into it."""
    landings = [Destination(str(tmp_path)), Destination(str(tmp_path))]
    first, second = tmp_path.iterdir()
    assert {len(first.name), len(second.name)} == {len(".ferry-download-") + 16}
    assert first.stat().st_mode & 0o777 == 0o700
    for destination in landings:
        destination.close()


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444, 0o4711])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    """But not the right to run as its owner, which other bytes were given."""
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "f").chmod(mode)
    assert land(tmp_path, "f") is None
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == mode & 0o777


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, mask: int) -> None:
    """As any program makes it."""
    before = os.umask(mask)
    try:
        land(tmp_path, "f")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner_where_that_is_allowed(tmp_path: Path) -> None:
    """Or who could read a private file could no longer."""
    (tmp_path / "f").write_bytes(b"old")
    os.chown(tmp_path / "f", 12345, 54321)
    (tmp_path / "f").chmod(0o600)
    assert land(tmp_path, "f") is None
    status = (tmp_path / "f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 54321, 0o600)


def test_a_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """Small files it left behind are nothing to go on with."""
    stale = tmp_path / ".ferry-download"
    stale.mkdir()
    (stale / "7.new").write_bytes(b"half")
    assert land(tmp_path, "f") is None
    assert names(tmp_path) == ["f"]


def test_many_files_are_settled_together(tmp_path: Path) -> None:
    """More than a group of them arrive whole, whatever directory they go to."""
    destination = Destination(str(tmp_path))
    told: list[Exception | None] = []
    for number in range(600):
        name = destination.store(str(number).encode(), 0.0)
        destination.settle(name, f"d{number % 7}/{number}", 3, told.append)
    destination.settle_all()
    destination.close()
    assert told == [None] * 600
    assert all((tmp_path / f"d{n % 7}" / f"{n}").read_text() == str(n) for n in range(600))

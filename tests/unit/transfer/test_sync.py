"""Whole trees up and down: what is left out stays, what is in the way goes, in that order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from codeferry_transfer import transfers
from codeferry_transfer.errors import FileUnfit, SourceEmpty
from codeferry_transfer.location import Location
from codeferry_transfer.plan import Verb
from codeferry_transfer.s3 import S3
from codeferry_transfer.summary import Summary
from codeferry_transfer.transfers import Options
from codeferry_transfer.tree import Scan
from tests.proxy.rules import Rule, Status
from tests.proxy.server import FaultProxy

DELETE = Options(delete=True)
LARGE = b"x" * (9 << 20)


def plant(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1, 1))
    return root


def tree_of(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


class Place:
    """A prefix of a bucket, transfers between it and a directory, and what the last one left."""

    def __init__(self, s3: S3, client: Any, bucket: str) -> None:
        self.s3, self.client, self.bucket = s3, client, bucket
        self.at = Location(bucket, "p")

    def put(self, **objects: bytes) -> None:
        for key, content in objects.items():
            self.client.put_object(Bucket=self.bucket, Key=f"p/{key}", Body=content)

    def drop(self, *keys: str) -> None:
        for key in keys:
            self.client.delete_object(Bucket=self.bucket, Key=f"p/{key}")

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix="p/").get("Contents", ())
        return [each["Key"].removeprefix("p/") for each in found]

    def up(self, source: Path, options: Options = DELETE) -> Summary:
        return transfers.sync_up(self.s3, source, self.at, options).run()

    def down(self, to: Path, options: Options = DELETE) -> Summary:
        return transfers.sync_down(self.s3, self.at, to, options).run()


@pytest.fixture
def place(s3_client: S3, client: Any, bucket: str) -> Place:
    return Place(s3_client, client, bucket)


def unreadable(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: OSError = PermissionError(13, "Permission denied"),  # noqa: B008 - never changed
) -> list[str]:
    """Directories of that name cannot be listed, by root neither; what was tried."""
    tried: list[str] = []
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if str(path).endswith(f"/{name}"):
            tried.append(str(path))
            raise error
        return scandir(path)

    monkeypatch.setattr("codeferry_transfer.tree.os.scandir", denied)
    return tried


@pytest.mark.parametrize("pattern", ["./keep/*", "keep", "/keep/*", "keep/", ".//keep/n"])
def test_what_is_excluded_is_neither_deleted_nor_uploaded(
    place: Place, tmp_path: Path, pattern: str
) -> None:
    """Down, a file that only the destination has; up, one that only the source has."""
    place.put(a=b"1")
    to = plant(tmp_path / "to", {"keep/n": b"mine", "extra": b""})
    options = Options(delete=True, exclude=(pattern,))
    assert place.down(to, options).deleted == 1
    assert tree_of(to) == {"a": b"1", "keep/n": b"mine"}
    place.up(to, options)
    assert place.names() == ["a"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_with_delete_a_pattern_that_fits_nothing_is_an_error(
    place: Place, tmp_path: Path, direction: str
) -> None:
    """A slip in it may be what would lose something: nothing is deleted, in a plan neither."""
    place.put(a=b"1", there=b"")
    here = plant(tmp_path / "here", {"a": b"1", "here": b""})
    options = Options(delete=True, exclude=("kepe/*",))
    summary = getattr(place, direction)(here, options)
    assert [(each.code, each.path) for each in summary.failures] == [
        ("pattern_unmatched", "--exclude 'kepe/*'")
    ]
    assert (summary.deleted, summary.spared) == (0, 1)
    sync = transfers.sync_up(place.s3, here, place.at, options)
    assert Verb.DELETE not in [action.verb for action in sync.plan()]
    assert sync.summary.failures


def test_without_delete_a_pattern_that_fits_nothing_is_a_warning(
    place: Place, tmp_path: Path
) -> None:
    """It is said, and everything else is done; what fits a directory that is not entered is not."""
    source = plant(tmp_path / "s", {"a": b"1", "keep/n": b""})
    options = Options(exclude=("kepe", "keep", "keep/n"), include=("a", "keep"))
    summary = transfers.upload_tree(place.s3, source, place.at, options).run()
    assert summary.warnings == [("--exclude 'kepe'", "it fits nothing")]
    assert place.names() == ["a"]


def test_one_file_that_is_excluded_is_not_uploaded(place: Place, tmp_path: Path) -> None:
    """Patterns count for a file that was named, too."""
    plant(tmp_path, {"secret.key": b"1"})
    one = transfers.upload_file(
        place.s3, tmp_path / "secret.key", place.at, Options(exclude=("*.key",))
    )
    with pytest.raises(SourceEmpty):
        one.run()


@pytest.mark.parametrize("kind", ["link to a directory", "dangling link", "pipe", "unfinished"])
def test_nothing_is_deleted_at_or_below_what_is_left_out(
    place: Place, tmp_path: Path, kind: str
) -> None:
    """What the source was not looked at for may be there: it is kept, and the plan says why."""
    source = plant(tmp_path / "s", {"a": b"1"})
    name = ".ferry-download-1" if kind == "unfinished" else "d"
    {
        "link to a directory": lambda: (source / name).symlink_to(tmp_path),
        "dangling link": lambda: (source / name).symlink_to("nowhere"),
        "pipe": lambda: os.mkfifo(source / name),
        "unfinished": lambda: (source / name).mkdir(),
    }[kind]()
    place.put(**{name: b"", f"{name}/x": b"", f"{name}/y/z": b"", f"{name}2": b"", "a": b"1"})
    plan = list(transfers.sync_up(place.s3, source, place.at, DELETE).plan())
    kept = [action for action in plan if action.verb is Verb.KEEP]
    assert [action.path for action in kept] == [name, f"{name}/x", f"{name}/y/z"]
    assert all(action.why.startswith(f"{name} is ") for action in kept)
    summary = place.up(source)
    assert (summary.kept, summary.deleted, [path for path, _ in summary.left_out]) == (3, 1, [name])
    assert f"{name}2" not in place.names()


def test_what_was_left_out_counts_also_where_only_something_below_is_included(
    place: Place, tmp_path: Path
) -> None:
    """A link is no ``*.csv``, but what lies behind it may be."""
    source = plant(tmp_path / "s", {"a.csv": b"1"})
    (source / "d").symlink_to(tmp_path)
    place.put(**{"d/x.csv": b"", "gone.csv": b""})
    place.up(source, Options(delete=True, include=("*.csv",)))
    assert place.names() == ["a.csv", "d/x.csv"]


def test_what_is_excluded_is_not_named(place: Place, tmp_path: Path) -> None:
    """A link that nobody wants is no news."""
    source = plant(tmp_path / "s", {"a": b"1"})
    (source / "d").symlink_to("nowhere")
    summary = transfers.upload_tree(place.s3, source, place.at, Options(exclude=("d",))).run()
    assert (summary.left_out, summary.warnings) == ([], [])


def test_an_unreadable_directory_is_one_failure_among_the_others(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named; the rest goes up, and nothing is deleted as long as it fails."""
    source = plant(tmp_path / "s", {"a": b"1", "b/c": b"2", "lost+found/x": b""})
    unreadable(monkeypatch, "lost+found")
    place.put(extra=b"")
    summary = place.up(source)
    assert [(each.path, each.message) for each in summary.failures] == [
        ("lost+found", "lost+found: Permission denied.")
    ]
    assert (summary.files, summary.spared) == (2, 1)


def test_a_directory_that_vanishes_while_it_is_looked_at_keeps_its_objects(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on its way to another name, or on a disk that went away: named, and no failure."""
    source = plant(tmp_path / "s", {"a": b"1", "d/x": b"1"})
    unreadable(monkeypatch, "d", FileNotFoundError(2, "No such file or directory"))
    place.put(**{"d/x": b"1", "extra": b""})
    summary = place.up(source)
    assert (summary.left_out, summary.failures) == ([("d", "gone since it was listed")], [])
    assert place.names() == ["a", "d/x"]


@pytest.mark.parametrize("pattern", ["lost+found/", "lost*", "lost+found"])
def test_what_is_excluded_is_not_visited(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    """A directory that cannot be read is no failure when nobody wants it."""
    source = plant(tmp_path / "s", {"a": b"1", "lost+found/x": b""})
    tried = unreadable(monkeypatch, "lost+found")
    summary = place.up(source, Options(delete=True, exclude=(pattern,)))
    assert (summary.failures, tried, place.names()) == ([], [], ["a"])


def test_what_cannot_be_included_is_not_visited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every include names another place there is nothing to look for."""
    plant(tmp_path, {"a/x": b"", "ab/x": b"", "lost+found/x": b""})
    tried = unreadable(monkeypatch, "lost+found")
    meant = transfers.Selection(include=("a/*", "ab"))
    assert [each.path for each in Scan(meant).files(str(tmp_path))] == ["a/x", "ab/x"]
    assert tried == []


def test_an_unreadable_directory_of_the_destination_is_left_alone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --delete it is named, because the source may not have what is in it."""
    to = plant(tmp_path / "to", {"extra": b"", "lost+found/x": b""})
    unreadable(monkeypatch, "lost+found")
    place.put(a=b"1")
    summary = place.down(to)
    assert summary.left_out == [("lost+found", "not to be read (Permission denied)")]
    assert (summary.deleted, summary.failures) == (1, [])
    assert (to / "lost+found" / "x").exists()


def test_a_tree_that_cannot_be_listed_at_all_is_no_empty_tree(tmp_path: Path) -> None:
    """Or --delete-all would take it at its word."""
    with pytest.raises(FileUnfit):
        list(Scan().files(str(tmp_path / "none")))


def test_files_and_directories_that_changed_places_converge(place: Place, tmp_path: Path) -> None:
    """With --delete what the source no longer has gives way, small and large."""
    place.put(a=b"1", **{"b/c": b"1", "b/d/e": b"1"}, s=b"")
    to = tmp_path / "to"
    place.down(to)
    place.drop("a", "b/c", "b/d/e")
    place.put(**{"a/x": LARGE, "a/y/z": b"2"}, b=LARGE)
    assert len(place.down(to, Options()).failures) == 3, "without --delete nothing gives way"
    summary = place.down(to)
    assert (summary.failures, summary.deleted, summary.files) == ([], 3, 3)
    assert tree_of(to) == {"a/x": LARGE, "a/y/z": b"2", "b": LARGE, "s": b""}
    assert sorted(path.name for path in to.iterdir()) == ["a", "b", "s"]


def test_directories_without_files_are_not_in_the_way(place: Place, tmp_path: Path) -> None:
    """An earlier sync has deleted what was in them: there is nothing left to delete."""
    place.put(a=b"1")
    (tmp_path / "to" / "a" / "b").mkdir(parents=True)
    summary = place.down(tmp_path / "to")
    assert (summary.files, summary.failures) == (1, [])
    assert tree_of(tmp_path / "to") == {"a": b"1"}


def test_what_is_in_the_way_and_not_to_be_deleted_stays(place: Place, tmp_path: Path) -> None:
    """A directory with a link or something excluded in it does not give way; nor does the rest."""
    place.put(b=b"new", c=b"new", ok=b"new")
    to = plant(tmp_path / "to", {"b/gone": b"", "b/keep": b"mine", "extra": b""})
    (to / "c").mkdir()
    (to / "c" / "link").symlink_to("nowhere")
    summary = place.down(to, Options(delete=True, exclude=("b/keep",)))
    assert sorted(each.path for each in summary.failures) == ["b", "c"]
    assert (summary.deleted, summary.spared) == (0, 2)
    assert tree_of(to) == {"b/gone": b"", "b/keep": b"mine", "extra": b"", "ok": b"new"}


def test_nothing_gives_way_to_what_could_not_be_fetched(
    place: Place, tmp_path: Path, faulty: Callable[..., FaultProxy]
) -> None:
    """All content is there before anything is deleted."""
    place.put(**{"a/x": b"2", "a/y": b"2"})
    to = plant(tmp_path / "to", {"a": b"old"})
    proxy = faulty(Rule(Status(403, "AccessDenied"), method="GET", path="/a/y", times=99))
    through = S3(boto3.Session(), endpoint_url=proxy.url)
    summary = transfers.sync_down(through, place.at, to, DELETE).run()
    assert sorted(each.path for each in summary.failures) == ["a/x", "a/y"]
    assert tree_of(to) == {"a": b"old"}


def test_stale_directory_markers_are_deleted(place: Place, tmp_path: Path) -> None:
    """Those of directories that the source has stay, empty ones and the root's too."""
    source = plant(tmp_path / "s", {"a/x": b"1"})
    (source / "empty").mkdir()
    (source / "link").symlink_to(tmp_path)
    place.put(**{"": b"", "a/": b"", "empty/": b"", "old/": b"", "old/deep/": b"", "link/": b""})
    assert place.up(source, Options()).deleted == 0
    summary = place.up(source)
    assert (summary.deleted, summary.kept) == (2, 1)
    assert place.names() == ["", "a/", "a/x", "empty/", "link/"]


@pytest.mark.parametrize("size", [10, 9 << 20], ids=["small", "large"])
def test_a_file_from_the_future_is_sent_once_and_named(
    place: Place, tmp_path: Path, size: int
) -> None:
    """Its time says nothing, so its content decides, whenever S3 has it."""
    source = plant(tmp_path / "s", {"a": b"1" * size, "b": b"1"})
    os.utime(source / "a", (time.time() + 10_000_000,) * 2)
    first, second = place.up(source), place.up(source)
    assert [first.files, second.files, second.skipped] == [2, 0, 2]
    assert first.warnings == second.warnings
    assert [path for path, _ in second.warnings] == ["a"]
    (source / "a").write_bytes(b"2" * size)
    os.utime(source / "a", (time.time() + 10_000_000,) * 2)
    assert place.up(source).files == 1


def test_a_file_from_the_future_does_not_hide_a_newer_object(place: Place, tmp_path: Path) -> None:
    """Nor does it down: of the same size, and with other content."""
    place.put(a=b"new")
    to = plant(tmp_path / "to", {"a": b"old"})
    os.utime(to / "a", (time.time() + 10_000_000,) * 2)
    summary = place.down(to)
    assert (summary.files, [path for path, _ in summary.warnings]) == (1, ["a"])
    assert tree_of(to) == {"a": b"new"}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_what_vanishes_after_it_was_listed_is_named_and_no_failure(
    place: Place, tmp_path: Path, direction: str
) -> None:
    """Temporary files come and go: the rest is carried, deleted too, and it is said."""
    here = plant(tmp_path / "here", {"a": b"1", "b": b"1"} if direction == "up" else {"x": b""})
    place.put(**{"x": b""} if direction == "up" else {"a": b"1", "b": b"1"})
    sync = getattr(transfers, f"sync_{direction}")
    ends = (here, place.at) if direction == "up" else (place.at, here)
    transfer = sync(place.s3, *ends, DELETE)
    copy = transfer._direction.copy

    def late(action: Any) -> None:
        if action.path == "b":
            (here / "b").unlink(missing_ok=True)
            place.drop("b")
        copy(action)

    transfer._direction.copy = late
    summary = transfer.run()
    assert (summary.files, summary.deleted, summary.failures) == (1, 1, [])
    assert summary.left_out == [("b", "gone since it was listed")]
    assert summary.planned_files == 1


def test_an_archived_object_is_called_that(
    place: Place, tmp_path: Path, faulty: Callable[..., FaultProxy]
) -> None:
    """S3's 403 for what lies in Glacier is no lack of permission: restoring is the remedy."""
    place.put(a=b"1", b=b"1")
    proxy = faulty(Rule(Status(403, "InvalidObjectState"), method="GET", path="/a", times=99))
    through = S3(boto3.Session(), endpoint_url=proxy.url)
    summary = transfers.sync_down(through, place.at, tmp_path / "to", Options()).run()
    assert [(each.path, each.code) for each in summary.failures] == [("a", "object_archived")]
    assert "restore-object" in summary.failures[0].message


def test_a_link_that_was_named_is_followed_once(place: Place, tmp_path: Path) -> None:
    """Up, its target's content goes; down, its target is replaced, and the link stays."""
    plant(tmp_path, {"real": b"1", "large": LARGE})
    (tmp_path / "latest").symlink_to("real")
    (tmp_path / "big").symlink_to("large")
    transfers.upload_file(place.s3, tmp_path / "latest", place.at.below("x"), Options()).run()
    transfers.upload_file(place.s3, tmp_path / "big", place.at.below("y"), Options()).run()
    same = transfers.upload_file(
        place.s3, tmp_path / "big", place.at.below("y"), Options(content=True)
    )
    assert (place.names(), same.run().skipped) == (["x", "y"], 1)
    place.put(x=b"22")
    transfers.download_object(place.s3, place.at.below("x"), tmp_path / "latest", Options()).run()
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"22"

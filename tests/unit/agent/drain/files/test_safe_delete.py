"""A file goes only when its bytes are in the store and nobody can still write to it."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.files import safe_delete
from codeferry_agent.drain.files.scan import Directory, Place
from codeferry_agent.drain.reports import Reports
from codeferry_agent.drain.upload import Sizes
from tests.unit.agent.drain.conftest import BUCKET, Hooked, Tree, aged, no_leases

# Everything larger than 1 KiB goes up in parts of that.
TINY = Sizes(single=1024, part=1024, memory=1 << 20)


@pytest.fixture(params=["lease", "no lease"])
def leases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test that takes it runs with leases and as on a filesystem without."""
    if request.param == "no lease":
        no_leases(monkeypatch)
    return str(request.param)


def attempt(drain: Drain, leases: str) -> None:
    """As many scans as it takes for a file to be tried once."""
    if leases == "no lease":
        drain.sync()
    drain.sync()


def test_a_finished_file_goes(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """A file nobody writes to is in the store with its bytes, and gone here with no trace."""
    tree.write("a/b.bin", b"\0bytes\xff")
    attempt(drain_of(stability=0), leases)
    assert store.read(BUCKET, "a/b.bin") == b"\0bytes\xff"
    assert tree.names() == []


@pytest.mark.parametrize("size", [10, 5000], ids=["one request", "parts"])
def test_a_line_appended_during_upload_is_not_lost(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain], size: int
) -> None:
    """What is appended while the file goes up stays on the disk and goes up later."""
    path = tree.write("log.txt", b"x" * size)
    store.during = lambda: append_once(path, b"appended")
    drain = drain_of(stability=0, sizes=TINY)
    attempt(drain, leases)
    assert path.read_bytes() == b"x" * size + b"appended"
    attempt(drain, leases)
    assert store.read(BUCKET, "log.txt") == b"x" * size + b"appended"
    assert tree.names() == []


@pytest.mark.parametrize("size", [10, 5000], ids=["one request", "parts"])
def test_a_log_rotated_by_copy_and_truncation_is_not_lost(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain], size: int
) -> None:
    """What logrotate's copytruncate does in the middle of an upload: both files go, whole."""
    path = tree.write("log.txt", b"x" * size)

    def rotate() -> None:
        copy = path.with_name("log.txt.1")
        if path.exists() and b"x" in path.read_bytes():
            shutil.copy2(path, copy)
            with path.open("r+b") as file:
                file.truncate(0)
                file.write(b"after")

    store.during = rotate
    drain = drain_of(stability=0, sizes=TINY)
    for _ in range(2):
        attempt(drain, leases)
    assert store.read(BUCKET, "log.txt.1") == b"x" * size
    assert store.read(BUCKET, "log.txt") == b"after"
    assert tree.names() == []


def append_once(path: Path, content: bytes) -> None:
    if path.exists() and content not in path.read_bytes():
        with path.open("ab") as file:
            file.write(content)


def test_a_rewrite_of_the_same_size_and_time_is_noticed(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """Other bytes of the same length, with the modification time put back, are not deleted."""
    path = tree.write("model.bin", b"first!")
    status = path.stat()

    def rewrite() -> None:
        if path.read_bytes() == b"first!":
            path.write_bytes(b"second")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    store.during = rewrite
    drain = drain_of(stability=0)
    attempt(drain, leases)
    assert path.read_bytes() == b"second"
    attempt(drain, leases)
    assert store.read(BUCKET, "model.bin") == b"second"


def test_a_file_renamed_over_it_during_upload_stays(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """Writers replace files by rename; the new one is never taken for the one that went up."""
    path = tree.write("best.ckpt", b"epoch 1")
    new = tree.write(".best.ckpt.tmp", b"epoch 2")
    store.during = lambda: new.exists() and new.rename(path)
    drain = drain_of(stability=0)
    attempt(drain, leases)
    assert path.read_bytes() == b"epoch 2"
    attempt(drain, leases)
    assert store.read(BUCKET, "best.ckpt") == b"epoch 2"
    assert tree.names() == []


def test_a_file_renamed_over_it_at_the_last_moment_gets_its_name_back(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the name and its claim another file may take it: it stays."""
    path = tree.write("best.ckpt", b"epoch 1")
    new = tree.write(".best.ckpt.tmp", b"epoch 2")
    rename = os.rename

    def swap_first(*arguments: object, **options: object) -> None:
        if new.exists():
            rename(new, path)
        rename(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("codeferry_agent.drain.files.safe_delete.os.rename", swap_first)
    drain.sync()
    assert tree.names() == ["best.ckpt"]
    assert path.read_bytes() == b"epoch 2"


def test_a_writer_waiting_at_the_last_moment_gets_its_file_back(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that opens the claimed file before it is unlinked keeps it, under its name."""
    path = tree.write("log.txt", b"line 1\n")
    settle = safe_delete.Claim.settle

    def open_first(self: safe_delete.Claim) -> None:
        with (tree.bucket / ".codeferry-claim.log.txt").open("ab") as late:
            late.write(b"line 2\n")
        settle(self)

    monkeypatch.setattr(safe_delete.Claim, "settle", open_first)
    drain.sync()
    assert tree.names() == ["log.txt"]
    assert path.read_bytes() == b"line 1\nline 2\n"


def test_a_file_held_open_for_writing_stays(tree: Tree, store: Hooked, drain: Drain) -> None:
    """However old it looks, a file that somebody has open for writing is not even read."""
    with tree.write("log.txt").open("ab"):
        summary = drain.sync()
    assert (store.asked, summary.errors, summary.skipped) == ([], 0, 1)
    drain.sync()
    assert tree.names() == []


def test_a_mapping_is_a_writer(tree: Tree, store: Hooked, drain: Drain) -> None:
    """A shared writable mapping keeps the file here after its descriptor was closed."""
    path = tree.write("array.npy", b"\0" * 4096)
    with path.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    aged(path)
    drain.sync()
    assert store.asked == []
    mapping[0:4] = b"late"
    mapping.close()
    aged(path)
    drain.sync()
    assert store.read(BUCKET, "array.npy")[:4] == b"late"


def test_a_writer_is_let_in_at_once(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """Opening a file for writing that is on its way waits for a moment, not for the upload."""
    path = tree.write("log.txt", b"line 1\n")
    written = threading.Event()

    def write() -> None:
        with path.open("ab") as file:
            file.write(b"line 2\n")
        written.set()

    writer = threading.Thread(target=write)

    def let_write() -> None:
        writer.start()
        assert written.wait(30), "the writer was blocked for as long as the upload lasted"

    store.during = let_write
    drain_of(stability=0).sync()
    writer.join()
    assert path.read_bytes() == b"line 1\nline 2\n"


def test_a_writer_that_has_not_written_yet_keeps_its_file(
    tree: Tree, store: Hooked, drain: Drain
) -> None:
    """Who opened the file for writing during the upload, and writes later, still has it then."""
    path = tree.write("log.txt", b"line 1\n")
    opened: list[BinaryIO] = []
    store.during = lambda: opened or opened.append(path.open("ab"))
    drain.sync()
    with opened[0] as file:
        file.write(b"line 2\n")
    assert path.read_bytes() == b"line 1\nline 2\n"


def test_a_hard_link_leaves_the_other_name(
    leases: str, tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """Each name of a file goes for itself; a name elsewhere keeps the file."""
    elsewhere = tree.root.parent / "kept"
    elsewhere.hardlink_to(tree.write("one"))
    attempt(drain_of(stability=0), leases)
    assert tree.names() == []
    assert elsewhere.read_bytes() == b"content"


def test_a_writer_at_another_name_is_a_writer(tree: Tree, store: Hooked, drain: Drain) -> None:
    """The lease is on the file, so a writer that came in by a hard link counts."""
    elsewhere = tree.root.parent / "kept"
    elsewhere.hardlink_to(tree.write("one"))
    with elsewhere.open("ab"):
        drain.sync()
    assert store.asked == []


def test_what_is_no_regular_file_is_never_touched(tree: Tree, store: Hooked, drain: Drain) -> None:
    """Links, FIFOs and sockets are neither followed nor opened, and nothing blocks."""
    outside = tree.root.parent / "outside"
    outside.mkdir()
    aged(outside / "secret") if (outside / "secret").write_bytes(b"secret") else None
    (tree.bucket / "link").symlink_to(outside / "secret")
    (tree.bucket / "directory").symlink_to(outside)
    os.mkfifo(tree.bucket / "fifo")
    summary = drain.sync()
    assert (store.asked, summary.processed, summary.errors, summary.left) == ([], 0, 0, 3)
    assert tree.names() == ["directory", "fifo", "link"]
    assert (outside / "secret").exists()


def test_a_fifo_in_place_of_the_file_does_not_block(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a file when it was listed may be a FIFO when it is opened."""
    path = tree.write("one")
    swap_before_open(monkeypatch, lambda: (path.unlink(), os.mkfifo(path)))
    assert drain.sync().errors == 0
    assert store.asked == []


def test_a_link_in_place_of_the_file_is_not_followed(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a file when it was listed may be a link when it is opened."""
    secret = tree.root.parent / "secret"
    secret.write_bytes(b"secret")
    aged(secret)
    path = tree.write("one")
    swap_before_open(monkeypatch, lambda: (path.unlink(), path.symlink_to(secret)))
    assert drain.sync().errors == 0
    assert store.asked == []
    assert secret.exists()


def test_a_link_in_place_of_the_directory_is_not_followed(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory swapped for a link during the scan leads nowhere: its descriptor is used."""
    outside = tree.root.parent / "outside"
    outside.mkdir()
    aged(outside / "one") if (outside / "one").write_bytes(b"secret") else None
    path = tree.write("sub/one", b"mine")
    moved = tree.root.parent / "moved"

    def swap() -> None:
        path.parent.rename(moved)
        path.parent.symlink_to(outside)

    swap_before_open(monkeypatch, swap)
    drain.sync()
    assert store.read(BUCKET, "sub/one") == b"mine"
    assert (outside / "one").exists()
    assert not list(moved.iterdir())


def swap_before_open(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], object]) -> None:
    """Do something between the listing of a file and its being opened, once."""
    from codeferry_agent.drain.files.open_file import OpenFile

    opened, left = OpenFile.open.__func__, [swap]  # type: ignore[attr-defined]

    def after_swap(place: Place, leases: object) -> object:
        if left:
            left.pop()()
        return opened(OpenFile, place, leases)

    monkeypatch.setattr(OpenFile, "open", after_swap)


@pytest.mark.parametrize("name", ["short.bin", "n" * 250], ids=["prefixed", "too long for that"])
def test_a_claim_of_a_killed_agent_is_restored(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain], name: str
) -> None:
    """What a kill left under the agent's own name goes up under its real key, and is gone."""
    path = tree.write(name, b"precious")
    left_claimed(path)
    assert not path.exists()
    drain_of().sync()
    assert store.read(BUCKET, name) == b"precious"
    assert tree.names() == []
    assert not (tree.bucket / safe_delete.MARK).exists()


@pytest.mark.parametrize("name", ["short.bin", "n" * 250], ids=["prefixed", "too long for that"])
def test_a_restored_claim_goes_before_the_file_that_took_its_name(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain], name: str
) -> None:
    """Two versions of one key go up in the order in which they were written."""
    path = tree.write(name, b"older")
    left_claimed(path)
    tree.write(name, b"newer")
    went: list[bytes] = []
    put = store.put

    def noting(bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        versions = put(bucket, key, body, replace=replace)
        went.append(body)
        return versions

    store.put = noting  # type: ignore[method-assign]
    drain_of().sync()
    assert went == [b"older", b"newer"]
    assert tree.names() == []


def test_a_newer_file_waits_for_a_claim_that_cannot_go(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """As long as the older version is here, the newer one is not sent before it."""
    path = tree.write("one", b"older")
    left_claimed(path)
    tree.write("one", b"newer")
    with (tree.bucket / ".codeferry-claim.one").open("ab"):
        drain_of().sync()
    assert store.asked == []
    assert tree.names() == [".codeferry-claim.one", "one"]


def test_a_claim_killed_between_link_and_unlink_is_one_file(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """A claim that has its name back already and only lost its last step is cleared up."""
    path = tree.write("one", b"content")
    (tree.bucket / ".codeferry-claim.one").hardlink_to(path)
    drain_of().sync()
    assert tree.names() == []
    assert store.asked == [(BUCKET, "one")]


def left_claimed(path: Path) -> None:
    """As a kill between renaming and unlinking leaves it."""
    directory = Directory.top(str(path.parent))
    place = safe_delete.claim_place(Place(directory, path.name))
    os.rename(
        path.name,
        place.name,
        src_dir_fd=directory.descriptor,
        dst_dir_fd=place.directory.descriptor,
    )


def test_the_same_bytes_are_not_sent_again(tree: Tree, store: Hooked, drain: Drain) -> None:
    """An object with the same checksum is left alone, and the file deleted."""
    store.put(BUCKET, "one", b"content", replace=True)
    tree.write("one", b"content")
    summary = drain.sync()
    assert (summary.uploaded, summary.skipped, tree.names()) == (0, 1, [])


@pytest.mark.parametrize("size", [6, 3000], ids=["one request", "parts"])
def test_other_bytes_of_the_same_size_are_sent(
    tree: Tree,
    store: Hooked,
    drain_of: Callable[..., Drain],
    caplog: pytest.LogCaptureFixture,
    size: int,
) -> None:
    """The same name and size with other content is another file; what it replaces is said."""
    store.put(BUCKET, "one", b"o" * size, replace=True)
    tree.write("one", b"n" * size)
    summary = drain_of(sizes=TINY).sync()
    assert (summary.uploaded, store.read(BUCKET, "one")) == (1, b"n" * size)
    assert f"s3://{BUCKET}/'one' was another object before, which is gone" in caplog.text
    assert summary.errors == 0


@pytest.mark.parametrize("size", [6, 3000], ids=["one request", "parts"])
def test_a_successor_of_the_same_name_is_said_where_no_versions_are_kept(
    tree: Tree,
    store: Hooked,
    drain_of: Callable[..., Drain],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    """A log that is drained and begun again, shorter: one warning; none where both are kept."""
    drain = drain_of(sizes=TINY)
    for length in (size + 2, size, size - 1):
        tree.write("train.log", b"l" * length)
        drain.sync()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    store.versions = True
    tree.write("train.log", b"m")
    monkeypatch.setattr(Reports, "failed", lambda *told: pytest.fail(str(told)))
    assert drain.sync().uploaded == 1


def test_the_same_parts_are_not_sent_again(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """A large file whose checksums the store has is deleted without being sent."""
    drain = drain_of(sizes=TINY)
    tree.write("one", b"n" * 3000)
    drain.sync()
    tree.write("one", b"n" * 3000)
    summary = drain.sync()
    assert (summary.uploaded, summary.skipped, tree.names()) == (0, 1, [])


def test_a_young_file_waits(tree: Tree, store: Hooked, drain_of: Callable[..., Drain]) -> None:
    """A file younger than the stability time is left alone, and looked at again in time."""
    tree.write("one", age=5)
    drain = drain_of(stability=3600)
    summary = drain.sync()
    assert (store.asked, summary.skipped, summary.errors) == ([], 1, 0)
    assert drain.next_due(summary) is not None


def test_a_time_in_the_future_does_not_wait_for_it(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """With a clock a day off, a file goes when it was seen unchanged for the stability time."""
    tree.write("one", age=-86400)
    drain = drain_of(stability=0)
    drain.sync()
    assert tree.names() == ["one"]
    drain.sync()
    assert tree.names() == []


def test_without_leases_a_file_is_seen_twice(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody tells of writers, a change between two looks starts the wait anew."""
    no_leases(monkeypatch)
    path = tree.write("one", b"first")
    drain = drain_of(stability=0)
    drain.sync()
    path.write_bytes(b"later")
    aged(path)
    drain.sync()
    assert store.asked == []
    drain.sync()
    assert store.read(BUCKET, "one") == b"later"


def test_a_root_that_is_replaced_is_opened_anew(tree: Tree, store: Hooked, drain: Drain) -> None:
    """A root that was removed and made again is drained, under a new lock."""
    drain.sync()
    shutil.rmtree(tree.root)
    fresh = Tree(tree.root)
    fresh.write("one")
    drain.sync()
    assert store.asked == [(BUCKET, "one")]

"""Attacks of another user of the machine, who owns a root or only sees it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.errors import OwnerUnknown, RootLocked
from codeferry_agent.drain.files.state import State
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.status import lines, status_of
from codeferry_agent.drain.upload import Sizes
from tests.unit.agent.drain.conftest import BUCKET, Hooked, Tree, aged
from tests.unit.agent.drain.users import ALICE, MALLORY, as_unit, as_user, meanwhile

BEFORE = ".codeferry-drain"
UPLOAD = [BUCKET, "large", "an-upload-id"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Store(Hooked):
    """Remembers what it was asked to abort of uploads it has not begun itself."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.aborted: list[list[str]] = []
        self._own: set[str] = set()

    def begin(self, bucket: str, key: str) -> str:
        upload = super().begin(bucket, key)
        self._own.add(upload)
        return upload

    def abort(self, bucket: str, key: str, upload: str) -> None:
        if upload in self._own:
            super().abort(bucket, key, upload)
        else:
            self.aborted.append([bucket, key, upload])


class Place:
    """Projects of several users below a directory that everybody may enter."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory, self.store = directory, store
        self.pattern = str(directory / "*" / "output" / "s3")

    def project(self, name: str, uid: int) -> Tree:
        """A root with one finished file, whose owner made all below the project's directory."""
        tree = Tree(self.directory / name / "output" / "s3")
        tree.write("one", name.encode())
        for path in (tree.root.parent, *tree.root.parent.rglob("*")):
            os.chown(path, uid, uid)
        return tree

    def drain(self, *directories: str, **options: Any) -> Drain:
        settings = {"directories": directories or (self.pattern,), "workers": 2, "stability": 0.0}
        return Drain(Settings(**settings | options), self.store)

    def once(self, *directories: str, **options: Any) -> Any:
        drain = self.drain(*directories, **options)
        try:
            return drain.sync()
        finally:
            drain.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    # Others may not enter pytest's own directories.
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    (tmp_path / "store" / BUCKET).mkdir(parents=True)
    yield Place(directory, Store(tmp_path / "store"))
    shutil.rmtree(directory)


def old_place(root: Path, uploads: str = json.dumps([UPLOAD])) -> Path:
    """What an agent of the version before has left in a root."""
    old = root / BEFORE
    old.mkdir()
    for name in ("state.json", "lock", ".uploads.json.17.140", ".state.json.00ff"):
        (old / name).write_text("{}")
    (old / "uploads.json").write_text(uploads)
    return old


# --- what lies in the root


def test_nothing_of_the_agents_lies_in_a_root(place: Place, state_home: Path) -> None:
    """While an upload in parts goes on, its note is in the agent's own directory, closed to all."""
    tree = place.project("demo", os.geteuid())
    seen: list[tuple[set[str], str]] = []

    def look() -> None:
        names = {path.name for path in tree.root.iterdir()} - {BUCKET}
        seen.append((names, (State(str(tree.root)).path / "uploads.json").read_text()))

    place.store.during = look  # type: ignore[method-assign]
    tree.write("large", b"x" * 3000)
    assert place.once(sizes=Sizes(single=2, part=2000)).errors == 0
    during = [json.loads(ledger) for names, ledger in seen if not names]
    assert len(during) == len(seen)
    assert any(begun[:2] == [BUCKET, "large"] for ledger in during for begun in ledger)
    modes = {oct(path.stat().st_mode & 0o777) for path in (state_home, *state_home.rglob("*"))}
    assert modes == {"0o700", "0o600"}


@needs_root
def test_the_owner_of_a_root_does_not_choose_what_the_agent_writes(place: Place) -> None:
    """With the unit's capabilities: an own .codeferry-drain full of links moves nothing.

    Every name that a version ever wrote leads to a file of root's, and one of the directory's.
    """
    tree = place.project("mallory", MALLORY)
    victim = place.directory / "run.py"
    victim.write_text("print('root')")
    old_place(tree.root)
    old = tree.root / BEFORE

    def plant() -> None:
        old.rename(tree.root / ".away")
        old.mkdir()
        names = ["state.json", "uploads.json", "lock", ".state.json", ".uploads.json"]
        for name in names:
            (old / name).symlink_to(victim)

    as_user(MALLORY, plant)
    before = sorted((path.name, path.lstat().st_ctime_ns) for path in old.iterdir())

    def attacked() -> None:
        assert place.once(sizes=Sizes(single=2, part=1 << 20)).errors == 0
        assert place.store.aborted == []

    as_unit(attacked)
    assert victim.read_text() == "print('root')"
    assert sorted((path.name, path.lstat().st_ctime_ns) for path in old.iterdir()) == before
    assert (tree.names(), old.lstat().st_uid) == ([], MALLORY)


@needs_root
def test_the_old_place_is_read_once_and_removed(place: Place) -> None:
    """With the unit's capabilities: an upload in progress is aborted, and the directory is gone."""
    tree = place.project("demo", ALICE)
    old_place(tree.root)

    def updated() -> None:
        place.once()
        assert place.store.aborted == [UPLOAD]
        place.once()
        assert place.store.aborted == [UPLOAD]

    as_unit(updated)
    assert [path.name for path in tree.root.iterdir()] == [BUCKET]


def test_an_old_ledger_stays_until_it_is_kept_elsewhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written down anew, on a full disk say, is not thrown away."""
    tree = place.project("demo", os.geteuid())
    old_place(tree.root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(State, "replace", full)
        patch.setattr(place.store, "abort", lambda *_: pytest.fail("it was not kept"))
        place.drain().close()
    assert (tree.root / BEFORE / "uploads.json").exists()
    place.once()
    assert place.store.aborted == [UPLOAD]
    assert not (tree.root / BEFORE).exists()


@needs_root
@pytest.mark.parametrize("kind", ["link", "directory", "file"])
def test_what_the_owner_puts_in_the_old_place_is_left_alone(place: Place, kind: str) -> None:
    """Its uploads are not aborted, nothing in it or behind it is removed or written."""
    tree = place.project("mallory", MALLORY)
    elsewhere = place.directory / "elsewhere"
    elsewhere.mkdir()
    inner = old_place(elsewhere)  # root's own, and reached by a link

    def plant() -> None:
        if kind == "link":
            (tree.root / BEFORE).symlink_to(inner)
        elif kind == "directory":
            old_place(tree.root)
        else:
            (tree.root / BEFORE).write_text("x")

    as_user(MALLORY, plant)
    before = sorted(str(path) for path in place.directory.rglob("*"))
    place.once()
    assert place.store.aborted == []
    before.remove(str(tree.bucket / "one"))
    assert sorted(str(path) for path in place.directory.rglob("*")) == before


def test_foreign_names_in_the_old_place_stay(place: Place) -> None:
    """Only names that an agent gave are removed, and the directory only when it is empty."""
    tree = place.project("demo", os.geteuid())
    (old_place(tree.root) / "notes.txt").write_text("mine")
    place.once()
    assert [path.name for path in (tree.root / BEFORE).iterdir()] == ["notes.txt"]
    assert place.store.aborted == [UPLOAD]


def test_a_note_of_an_upload_survives_a_crash(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on the disk before its name leads to it."""
    state, order = State("/some/root"), []
    synced, renamed = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())
        synced(descriptor)

    def rename(*arguments: Any, **options: Any) -> None:
        order.append("renamed")
        renamed(*arguments, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    state.replace("uploads.json", b"[]")
    assert order == [b"[]", "renamed"]
    assert {path.name for path in state.path.iterdir()} == {"uploads.json"}


def test_what_a_kill_left_half_written_goes_with_the_next_start(place: Place) -> None:
    """And it was never taken for the file."""
    state = State(str(place.project("demo", os.geteuid()).root))
    state.replace("uploads.json", json.dumps([UPLOAD]).encode())
    (state.path / ".uploads.json.0123456789abcdef").write_text("[[")
    place.once()
    assert place.store.aborted == [UPLOAD]
    assert {path.name for path in state.path.iterdir()} == {"lock", "uploads.json"}


# --- what is read


BAD = {
    "numbers": "[[1, 2, 3]]",
    "another length": json.dumps([UPLOAD, ["a", "b"]]),
    "an object": "{}",
    "objects": "[{}]",
    "lists in it": json.dumps([[BUCKET, ["large"], "id"]]),
    "a number": "7",
    "null": "null",
    "no JSON": "[",
    "deep": "[" * 100_000,
    "no UTF-8": "\udcff",
    "a surrogate": '[["results", "\\ud800", "id"]]',
    "no key": json.dumps([[BUCKET, "", "id"]]),
    "no bucket": json.dumps([["../x", "large", "id"]]),
    "too large": json.dumps([[BUCKET, "k" * (5 << 20), "id"]]),
}


def spoiled(kind: str, path: Path) -> int | None:
    """Put something else in a ledger's place; what is to be closed at the end, if anything."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "fifo with a writer":
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        good = path.with_name("state.json")
        good.write_text(json.dumps([UPLOAD]))
        path.symlink_to(good)
    else:
        path.write_bytes(BAD[kind].encode("utf-8", "surrogateescape"))
    return None


@pytest.mark.parametrize("where", ["now", "before"])
@pytest.mark.parametrize("kind", ["fifo", "fifo with a writer", "directory", "link", *BAD])
def test_no_ledger_stops_the_agent(place: Place, kind: str, where: str) -> None:
    """Whatever is there instead of one: it neither waits nor ends, aborts nothing, and drains."""
    tree = place.project("demo", os.geteuid())
    if where == "before":
        ledger = old_place(tree.root) / "uploads.json"
    else:
        state = State(str(tree.root))
        state.replace("uploads.json", b"[]")
        ledger = state.path / "uploads.json"
    writer = spoiled(kind, ledger)
    summary = place.once()
    if writer is not None:
        os.close(writer)
    assert (summary.uploaded, summary.errors, place.store.aborted) == (1, 0, [])


def test_an_upload_of_nobody_knows_whose_bucket_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent starts where it cannot yet ask whose account it is, and keeps the note."""
    tree = place.project("demo", os.geteuid())
    State(str(tree.root)).replace("uploads.json", json.dumps([UPLOAD]).encode())

    def unknown(*_: str) -> None:
        raise OwnerUnknown("no route")

    monkeypatch.setattr(place.store, "abort", unknown)
    assert place.once().uploaded == 1
    assert json.loads(State(str(tree.root)).read("uploads.json")) == [UPLOAD]


@pytest.mark.parametrize("wrong", ["open to others", "somebody else's", "a link"])
def test_a_state_that_others_can_change_is_not_used(
    place: Place, state_home: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, nothing is read or written there, and results leave all the same."""
    if wrong == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    tree = place.project("demo", os.geteuid())
    state = State(str(tree.root))
    state.replace("uploads.json", json.dumps([UPLOAD]).encode())
    if wrong == "open to others":
        state.path.chmod(0o777)
    elif wrong == "a link":
        moved = state.path.rename(state_home / "elsewhere")
        state.path.symlink_to(moved)
    else:
        os.chown(state_home, MALLORY, MALLORY)
    with caplog.at_level(logging.WARNING):
        assert place.once().uploaded == 1
    assert "cannot be kept" in caplog.text
    assert place.store.aborted == []


# --- locks


def locking(root: Path, how: int = fcntl.LOCK_EX) -> Callable[[], object]:
    """As an agent of the version before locks a root; and as anybody can."""
    return lambda: fcntl.flock(os.open(root, os.O_RDONLY), how)


@needs_root
@pytest.mark.parametrize("how", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_strangers_lock_stops_nothing(
    place: Place, how: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With the unit's capabilities, and also where the root is named: it is said, and drained."""
    tree = place.project("alice", ALICE)
    with meanwhile(MALLORY, locking(tree.root, how)):
        as_unit(lambda: place.once(str(tree.root)))
    assert tree.names() == []


@needs_root
def test_the_lock_of_a_process_that_has_ended_stops_nothing(place: Place) -> None:
    """A stranger's child may keep it, and /proc/locks then names nobody who is there."""
    tree = place.project("alice", ALICE)

    def leave_it_to_a_child() -> None:
        descriptor = os.open(tree.root, os.O_RDONLY)
        if not (child := os.fork()):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os._exit(0)
        os.waitpid(child, 0)

    with meanwhile(MALLORY, leave_it_to_a_child):
        as_unit(lambda: place.once(str(tree.root)))
    assert tree.names() == []


@needs_root
@pytest.mark.parametrize("holder", [0, ALICE])
def test_an_agent_of_the_version_before_still_has_its_root(place: Place, holder: int) -> None:
    """Root's, and one of the root's owner: its lock on the directory counts, by name and number."""
    tree = place.project("alice", ALICE)
    with meanwhile(holder, locking(tree.root)) as pid:
        with pytest.raises(RootLocked, match=f"process {pid}"):
            place.once(str(tree.root))
        assert status_of([str(tree.root)])["roots"][0]["running"]
    assert tree.names() == ["one"]


def test_a_new_agent_has_the_lock_an_old_one_asks_for(place: Place) -> None:
    """And the second of its own kind is refused as well, whatever happens to that one."""
    tree = place.project("demo", os.geteuid())
    drain = place.drain()
    (root,) = drain.roots.values()
    descriptor = os.open(tree.root, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(root.top.descriptor, fcntl.LOCK_UN)
    with pytest.raises(RootLocked, match=str(os.getpid())):
        place.drain(str(tree.root))
    drain.close()
    place.drain(str(tree.root)).close()
    os.close(descriptor)


@needs_root
def test_one_locked_root_stops_no_other(place: Place) -> None:
    """At the start too: strict is an agent only about roots that are named."""
    locked, other = place.project("bob", MALLORY), place.project("alice", ALICE)
    with meanwhile(MALLORY, locking(locked.root)):
        summary = place.once()
        assert (summary.uploaded, summary.errors) == (1, 1)
        with pytest.raises(RootLocked):
            place.once(str(locked.root), str(other.root))
    assert (locked.names(), other.names()) == (["one"], [])


@needs_root
def test_without_a_state_any_lock_counts(place: Place, state_home: Path) -> None:
    """On a full disk a stranger's lock cannot be told from nobody's: that root waits."""
    tree = place.project("alice", ALICE)
    state_home.write_text("no directory")
    assert place.once().uploaded == 1
    tree.write("two")
    with meanwhile(MALLORY, locking(tree.root)):
        assert place.once().errors == 1
    assert tree.names() == ["two"]


def test_where_directories_have_no_locks_a_file_in_the_root_has(
    place: Place, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS: there agents of several machines meet, of whom each has a state of its own."""
    tree = place.project("demo", os.geteuid())
    old_place(tree.root)
    locked = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        locked(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    drain = place.drain()
    monkeypatch.setenv("CODEFERRY_DRAIN_STATE", f"{state_home}-of-another-machine")
    with pytest.raises(RootLocked):
        place.drain(str(tree.root))
    drain.close()
    place.drain(str(tree.root)).close()
    assert [path.name for path in (tree.root / BEFORE).iterdir()] == ["lock"]


# --- links and depth


@needs_root
def test_a_link_from_one_root_to_another_stops_neither(place: Place) -> None:
    """With the unit's capabilities: it is an error of its own, and the other's files go as ever."""
    other, mine = place.project("zoe", ALICE), place.project("mallory", MALLORY)
    as_user(MALLORY, lambda: mine.root.rename(mine.root.with_name("away")))
    as_user(MALLORY, lambda: mine.root.symlink_to(other.root))

    def attacked() -> None:
        summary = place.once()
        assert (summary.uploaded, summary.errors) == (1, 1)

    as_unit(attacked)
    assert other.names() == []


@needs_root
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("step", ["s3", "output/s3"])
def test_a_root_that_leads_to_anothers_files_is_not_drained(
    place: Place, step: str, *, named: bool
) -> None:
    """Nobody has what is not theirs uploaded and deleted, by whichever step of the way."""
    mine = place.project("mallory", MALLORY)
    secret = place.directory / "secret" / "s3" / BUCKET / "key"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    aged(secret)
    os.chown(mine.root.parent.parent, MALLORY, MALLORY)

    def plant() -> None:
        if step == "s3":
            mine.root.rename(mine.root.with_name("away"))
            mine.root.symlink_to(secret.parent.parent)
        else:
            mine.root.parent.rename(mine.root.parent.with_name("away"))
            mine.root.parent.symlink_to(secret.parent.parent.parent)

    as_user(MALLORY, plant)
    summary = place.once(str(mine.root)) if named else place.once()
    assert (summary.uploaded, summary.errors) == (0, 1)
    assert secret.read_text() == "secret"


@needs_root
def test_an_owner_may_have_the_root_on_a_larger_disk(place: Place) -> None:
    """A link of theirs to what is theirs is followed, and root's in a directory of root's."""
    mine, larger = place.project("mallory", MALLORY), place.directory / "larger"
    mine.root.rename(larger)
    mine.root.symlink_to(larger)
    os.chown(mine.root, MALLORY, MALLORY, follow_symlinks=False)
    (place.directory / "project").symlink_to(place.directory / "mallory")
    assert place.once(str(place.directory / "project" / "output" / "s3")).uploaded == 1


def test_a_tree_without_end_does_not_take_all_memory(place: Place) -> None:
    """Deeper than any key it is not gone into, which is an error; what else there is goes."""
    tree = place.project("demo", os.geteuid())
    at = os.open(tree.bucket, os.O_RDONLY)
    for _ in range(210):
        os.mkdir("d" * 20, dir_fd=at)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    seen: list[int] = []
    settings = Settings(directories=(str(tree.root),), stability=0.0)
    drain = Drain(settings, place.store, lambda directory: seen.append(len(directory.path)))
    summary = drain.sync()
    drain.close()
    assert (summary.uploaded, summary.errors) == (1, 1)
    assert max(seen) <= 4096


# --- what is told


def write_state(state: State, **changes: Any) -> None:
    told = {
        "pid": 17,
        "scanned": time.time(),
        "last_scan": {"processed": 1},
        "throughput": {"files_per_second": 1, "bytes_per_second": 1, "window_seconds": 1},
        "buckets": {"b": {"code": "c", "message": "it is away", "at": 1, "over": False}},
    }
    state.replace("state.json", json.dumps(told | changes).encode())


def test_status_tells_nothing_to_the_terminal_itself(place: Place) -> None:
    """What an agent noted of files may hold anything; it is shown, and moves no cursor."""
    tree = place.project("demo", os.geteuid())
    bad = {"code": "c", "message": "\x1b[2Jnew\nline\u202e", "at": 1, "over": False}
    write_state(State(str(tree.root)), buckets={"b\x1b": bad})
    said = list(lines(status_of([str(tree.root)])))
    assert any("\\x1b[2Jnew\\nline\\u202e" in line for line in said)
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize(
    "changes",
    [
        {"buckets": 1},
        {"scanned": "now"},
        {"last_scan": []},
        {"throughput": {}},
        {"buckets": {"b": 1}},
    ],
)
def test_status_of_no_state_is_a_status(place: Place, changes: dict[str, Any]) -> None:
    """A state of another shape is none."""
    tree = place.project("demo", os.geteuid())
    write_state(State(str(tree.root)), **changes)
    (root,) = status_of([str(tree.root)])["roots"]
    assert (root["agent"], root["pending_files"]) == (None, 1)


@needs_root
def test_root_is_told_of_the_owners_agent(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And others of nobody's, whose state is for its user alone."""
    import pwd

    tree = place.project("alice", ALICE)
    home = place.directory / "home"
    state = State(str(tree.root), home / ".local/state/codeferry-drain", ALICE)
    home.mkdir()
    os.chown(home, ALICE, ALICE)
    entry = pwd.struct_passwd(("alice", "x", ALICE, ALICE, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    as_user(ALICE, lambda: write_state(state))
    assert status_of([str(tree.root)])["roots"][0]["agent"]["pid"] == 17

    def others() -> None:
        (root,) = status_of([str(tree.root)])["roots"]
        assert (root["agent"], root["pending_files"]) == (None, 1)

    as_user(MALLORY, others)

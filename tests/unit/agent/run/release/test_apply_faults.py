"""Kills, full disks, locks and cancellation: current is always a complete release."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codeferry_agent.run import files
from codeferry_contracts import archive
from codeferry_contracts.parameters import RollbackPayload
from codeferry_contracts.result import parse_result
from tests.unit.agent.archives import SMALL, Tree, entries, hostile, member, pack
from tests.unit.agent.conftest import SOURCES, Instance, picture

POINTS = [
    point for source in SOURCES for point in re.findall(r'reached\("(\w+)"\)', source.read_text())
]
OLD: Tree = {"old": b"old", "keep/me": b"1"}


def release_of(tree: Tree) -> str:
    return archive.summarise("demo", entries(tree)).release_id


def test_the_crash_points_are_all_here() -> None:
    """The kill test below covers every step; a lost one would make it pass for nothing."""
    assert len(POINTS) == len(set(POINTS)) >= 10


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_current_is_whole_and_the_next_run_heals(
    instance: Instance, point: str
) -> None:
    """Before the switch the old release is current, after it the new one; staging is cleared."""
    instance.push(OLD)
    complete = {
        release_of(OLD): {"old", "keep/me", "keep", "output", *_meta()},
        release_of(SMALL): {*_names(SMALL), "output", *_meta()},
    }
    instance.store.body = pack(SMALL)
    payload = instance.payload(instance.store.body, run_id="killed", persist=("output",))
    killed = instance.send(payload, CODEFERRY_CRASH_AT=point)
    assert killed.exit == -signal.SIGKILL
    assert killed.out == ""
    switched = point in ("switched", "pruned", "recorded")
    assert instance.current_id == release_of(SMALL if switched else OLD)
    assert set(picture(instance.current)) >= complete[instance.current_id] - {"output"}

    healed = instance.send(payload)
    assert healed.exit == 0, healed.out
    assert healed.result.status == "applied"
    assert healed.result.replayed == switched
    assert set(picture(instance.current)) == complete[release_of(SMALL)]
    assert instance.releases() == {release_of(OLD), release_of(SMALL)}
    assert not list((instance.project / "staging").iterdir())


@pytest.mark.parametrize("point", ["switched", "pruned", "recorded"])
def test_a_killed_run_that_comes_late_does_not_put_its_release_back(
    instance: Instance, point: str
) -> None:
    """Its switch is noted by the run that follows, so its redelivery is an answer only."""
    instance.store.body = pack(OLD)
    killed = instance.payload(instance.store.body, run_id="killed")
    instance.send(killed, CODEFERRY_CRASH_AT=point)
    assert instance.current_id == release_of(OLD)
    instance.push(SMALL, run_id="newer")
    requests = len(instance.store.ranges)
    late = instance.send(killed)
    assert (late.exit, late.result.status, late.result.replayed) == (0, "applied", True)
    assert late.result.release_id == release_of(OLD)
    assert len(instance.store.ranges) == requests
    assert instance.current_id == release_of(SMALL)


@pytest.mark.parametrize("point", ["released", "intended"])
def test_a_run_killed_before_its_switch_is_not_taken_for_done(
    instance: Instance, point: str
) -> None:
    """What it meant to do is forgotten by the run that follows; its redelivery does it."""
    instance.push(SMALL)
    instance.store.body = body = pack(OLD)
    killed = instance.payload(body, run_id="killed")
    instance.send(killed, CODEFERRY_CRASH_AT=point)
    instance.push(SMALL)
    instance.store.body = body
    late = instance.send(killed)
    assert (late.result.status, late.result.replayed) == ("applied", False)
    assert instance.current_id == release_of(OLD)


def _names(tree: Tree) -> set[str]:
    return {str(p) for path in tree for p in (Path(path), *Path(path).parents)} - {"."}


def _meta() -> set[str]:
    return {archive.META_DIRECTORY, archive.MANIFEST_PATH, archive.SUMS_PATH}


def test_the_last_good_release_outlives_a_kill_after_the_switch(instance: Instance) -> None:
    """A switch that could not be written down still counts when releases are pruned."""
    instance.push({"f": b"0"})
    body = instance.store.body = pack({"f": b"1"})
    instance.send(instance.payload(body), CODEFERRY_CRASH_AT="switched")
    instance.push({"f": b"2"}, keep_releases=1)
    assert instance.releases() == {release_of({"f": b"1"}), release_of({"f": b"2"})}


def test_two_runs_at_once_take_turns(instance: Instance) -> None:
    """The second waits for the first, and then is current."""
    instance.store.resume = threading.Event()
    instance.store.body = body = pack(SMALL)
    first = instance.start(instance.payload(body, run_id="first"))
    assert instance.store.entered.wait(30)
    second = instance.start(instance.payload(body, run_id="second"))
    _wait_until_open(second.pid, ".lock")
    instance.store.resume.set()
    outs = [run.communicate(timeout=60)[0] for run in (first, second)]
    assert [parse_result(out).status for out in outs] == ["applied", "unchanged"]
    instance.check_whole()


def _wait_until_open(pid: int, name: str) -> None:
    """Return once the process has a file of this name open."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if descriptor.readlink().name == name:
                    return
        time.sleep(0.01)
    raise AssertionError(f"{pid} never opened {name}")


def test_a_second_run_is_refused_with_the_holders_id(instance: Instance) -> None:
    """When the first does not end within the bound, the second says which run it waits for."""
    instance.store.resume = threading.Event()
    instance.store.body = body = pack(SMALL)
    first = instance.start(instance.payload(body, run_id="the-holder"))
    assert instance.store.entered.wait(30)
    second = instance.start(instance.payload(body), CODEFERRY_LOCK_SECONDS="0")
    out, _ = second.communicate(timeout=60)
    assert '"locked"' in out
    assert "Run the-holder holds the project" in out
    instance.store.resume.set()
    assert instance.finish(first).exit == 0


def test_the_lock_of_a_dead_run_holds_nobody_up(instance: Instance) -> None:
    """The lock is the kernel's: it goes with the process."""
    instance.store.body = body = pack(SMALL)
    instance.send(instance.payload(body), CODEFERRY_CRASH_AT="locked")
    assert instance.send(instance.payload(body), CODEFERRY_LOCK_SECONDS="0").exit == 0


def test_another_projects_lock_does_not_matter(instance: Instance) -> None:
    """Projects on one instance are independent."""
    (instance.root / "other").mkdir()
    with (instance.root / "other/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        instance.environ["CODEFERRY_LOCK_SECONDS"] = "0"
        instance.push(SMALL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_cancelled_run_cleans_up(instance: Instance, number: signal.Signals) -> None:
    """It ends with a result line of its own, an empty staging and the old release."""
    instance.push(OLD)
    instance.store.resume = threading.Event()
    instance.store.entered.clear()
    instance.store.body = body = pack(SMALL)
    run = instance.start(instance.payload(body))
    assert instance.store.entered.wait(30)
    run.send_signal(number)
    answer = instance.finish(run)
    assert answer.code == "cancelled"
    assert number.name in answer.message
    assert instance.current_id == release_of(OLD)


def test_leftovers_of_any_kind_go(instance: Instance) -> None:
    """Directories nobody may enter and links out are removed without following them."""
    leftover = instance.project / "staging/dead.x/tree"
    leftover.mkdir(parents=True)
    (leftover / "out").symlink_to(instance.root.parent)
    (leftover / "closed").mkdir(mode=0 if os.geteuid() == 0 else 0o700)
    (instance.project / "staging/dead.x/archive.tar.gz").write_bytes(b"half")
    (instance.project / "staging/dead.x/record.json").write_bytes(b'{"run_id": "half')
    instance.push(SMALL)


def test_an_archive_that_cannot_fit_is_not_downloaded(small_disk: Instance) -> None:
    """What is needed and what is free, and where, is in the message; no request was made."""
    answer = small_disk.apply(hostile(member("big", os.urandom(3 << 20))))
    assert answer.code == "disk_full"
    needed, free = r"It needs 6\.3 MB and 16 inodes", r"[\d.]+ MB and [\d,]+ inodes are free"
    assert re.search(rf"{needed}; {free} on /\S+\.$", answer.message)
    assert small_disk.store.ranges == []


def test_what_a_manifest_announces_has_to_fit(small_disk: Instance) -> None:
    """An archive of a few kilobytes whose files cannot fit is not downloaded either."""
    body = pack({"mask.npy": bytes(8 << 20)})
    digest = archive.tree_digest(entries({"mask.npy": bytes(8 << 20)}))
    answer = small_disk.apply(body, digest=digest, unpacked_bytes=8 << 20, unpacked_files=4)
    assert answer.code == "disk_full"
    assert f"It needs {(len(body) + (8 << 20)) / 1e6:.1f} MB and 20 inodes" in answer.message
    assert small_disk.store.ranges == []


def test_a_disk_that_fills_while_unpacking_keeps_the_old_release(small_disk: Instance) -> None:
    """ENOSPC is disk_full with what was going on, and the space is free again afterwards."""
    small_disk.push(OLD)
    answer = small_disk.apply(hostile(member("zeros", bytes(8 << 20))))
    assert answer.code == "disk_full"
    assert "while unpacking in staging" in answer.message
    assert small_disk.current_id == release_of(OLD)
    small_disk.push(SMALL)


def test_inodes_that_run_out_keep_the_old_release(small_disk: Instance) -> None:
    """Both when the count is announced and when it is not."""
    small_disk.push(OLD)
    body = hostile(*(member(f"f{n}") for n in range(300)))
    assert small_disk.apply(body, files=300).code == "disk_full"
    assert small_disk.apply(body).code == "disk_full"
    assert small_disk.current_id == release_of(OLD)
    small_disk.push(SMALL)


def test_old_releases_go_where_a_new_one_does_not_fit(small_disk: Instance) -> None:
    """A disk full of releases takes the next one as soon as fewer are to be kept."""
    for content in b"12345":
        small_disk.push({"f": bytes([content]) * (700 << 10)})
    kept = small_disk.releases()
    answer = small_disk.apply(pack({"f": os.urandom(700 << 10)}))
    assert (answer.code, small_disk.releases()) == ("disk_full", kept)
    small_disk.push({"f": b"6" * (700 << 10)}, keep_releases=2)
    assert len(small_disk.releases()) == 2


def test_a_read_only_disk_is_named(small_disk: Instance) -> None:
    """EROFS is read_only, not a traceback."""
    small_disk.push(OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.root)], check=True)
    answer = small_disk.apply(pack(SMALL))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk.root)], check=True)
    assert answer.code == "read_only"
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("mode", [None, 0o644])
def test_nobody_else_can_hold_a_projects_lock(instance: Instance, mode: int | None) -> None:
    """Not of a new project nor of one that an earlier version has made: another user on the
    instance could keep it for ever."""
    lock = instance.project / ".lock"
    if mode:
        lock.parent.mkdir()
        lock.touch()
        lock.chmod(mode)
    instance.push(SMALL)
    assert lock.stat().st_mode & 0o777 == 0o600
    script = f"exec 9<{lock}"
    if os.geteuid() == 0:
        done = subprocess.run(["/bin/sh", "-c", script], user=65534, capture_output=True, text=True)
        assert "Permission denied" in done.stderr


def test_who_holds_the_lock_is_not_accused_of_it_after_its_end(instance: Instance) -> None:
    """The message tells a run at work from the last that had the lock before somebody took it."""
    instance.push(SMALL)
    body = instance.store.body
    with (instance.project / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = instance.send(instance.payload(body), CODEFERRY_LOCK_SECONDS="0")
    assert refused.code == "locked"
    assert refused.message == (
        "Another process holds the project's lock; run run-1, the last to have it, ended."
    )
    (instance.project / ".lock").write_text("run-1")  # as earlier versions note it
    with (instance.project / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = instance.send(instance.payload(body), CODEFERRY_LOCK_SECONDS="0")
    assert refused.message == "Run run-1 holds the project."


@pytest.fixture
def nest(tmp_path: Path) -> Iterator[Callable[[Path, int], None]]:
    """Makes directories in one another, more than a path can name, with a file at their end."""

    def make(top: Path, depth: int) -> None:
        top.mkdir()
        at = os.open(top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("long-enough", dir_fd=at)
            if os.geteuid() == 0:
                os.chown("long-enough", 65534, 65534, dir_fd=at)
            below = os.open("long-enough", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)

    yield make
    # pytest could not, and would fail at it in the sessions to come.
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_no_depth_of_directories_stops_later_runs(
    nest: Callable[[Path, int], None], instance: Instance
) -> None:
    """What a command has nested in its release is removed, by a push as by a rollback."""
    first, second = {"f": b"1"}, {"f": b"2"}
    instance.push(first)
    nest(instance.project / "staging/nested", 1500)
    instance.push(second)  # checks that staging is empty
    nest(instance.project / "releases" / ("0" * 20), 1500)
    instance.push(first, keep_releases=1)
    assert instance.releases() == {release_of(first), release_of(second)}
    nest(instance.project / "staging/nested", 1500)
    payload = RollbackPayload("back", "demo").encode()
    back = replace(instance, arguments=("rollback",)).send(payload, CODEFERRY_RUN_ID="back")
    assert (back.exit, back.result.release_id) == (0, release_of(second))


def test_removing_follows_no_link_and_never_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an owner exchanges a directory for a link between looking and removing."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "file").touch()
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").touch()
    rmdir = os.rmdir

    def exchange(name: str, *, dir_fd: int | None = None) -> None:
        try:
            rmdir(name, dir_fd=dir_fd)
        except OSError:
            if name == "a" and not (tree / "a").is_symlink():
                (tree / "a").rename(tmp_path / "elsewhere")
                (tree / "a").symlink_to(outside)
            raise

    monkeypatch.setattr(os, "rmdir", exchange)
    files.discard(tree)
    assert (outside / "file").exists()
    assert not tree.exists()
    for unlikely in (tree, tmp_path / "elsewhere/b/file/x", outside / "file"):
        files.discard(unlikely)
    assert not (outside / "file").exists()


def test_a_removal_has_an_end(
    nest: Callable[[Path, int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deeper than one run will go is left to the next."""
    monkeypatch.setattr(files, "LEVELS", 30)
    nest(tmp_path / "tree", 50)
    files.discard(tmp_path / "tree")
    assert (tmp_path / "tree").exists()
    files.discard(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()

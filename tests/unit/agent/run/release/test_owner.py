"""Owners of releases: what one user can change never runs as another."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeferry_agent.run import files
from codeferry_agent.run.command import dependencies
from codeferry_agent.run.release.project import Project
from codeferry_contracts.parameters import RollbackPayload
from tests.unit.agent.archives import pack
from tests.unit.agent.commands import Machine, Outcome, open_to_all
from tests.unit.agent.conftest import Answer, Instance, Store
from tests.unit.agent.drain.users import as_user, meanwhile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = pwd.getpwnam("nobody")
OTHER = pwd.getpwnam("daemon")
TREE = {"run.sh": b"#!/bin/sh\nid -un\n", "pkg/mod.py": b"x = 1\n"}


@pytest.fixture
def there(store: Store) -> Iterator[Machine]:
    with open_to_all(store) as machine:
        yield machine


def push(there: Machine, user: str, **changes: object) -> Outcome:
    return there.run("/bin/sh", "run.sh", tree=TREE, user=user, **changes)


def deliver(there: Machine, user: str, *persist: str) -> Answer:
    """A release alone, which is refused in one line."""
    return Instance(there.root, there.store, runs=100).apply(pack(TREE), user=user, persist=persist)


def move_shared_away(there: Machine) -> None:
    """What the refusal asks for."""
    (there.project / "shared").rename(there.project / "shared.before")


def test_a_release_of_another_user_does_not_run_as_root(there: Machine) -> None:
    """A swap after the verification, by a file kept open for writing, reaches no other's release.

    Nor does what they have put beside it: the release is unpacked anew, and theirs is gone.
    """
    assert push(there, "nobody").output == b"nobody\n"
    release = there.current.resolve()
    held: list[int] = []

    def hold() -> None:
        held.append(os.open(release / "run.sh", os.O_WRONLY))
        (release / "sitecustomize.py").write_text("evil")

    before = (release / "run.sh").stat().st_ino
    move_shared_away(there)
    with meanwhile(NOBODY.pw_uid, hold):
        outcome = push(there, "root")
        assert outcome.output == b"root\n"
        assert "belonged to another user" in outcome.last.warnings[0]
        assert (release / "run.sh").stat().st_ino != before
    inside = [release, *release.rglob("*")]
    assert {path.lstat().st_uid for path in inside} == {0}
    assert not (release / "sitecustomize.py").exists()


@pytest.mark.parametrize("what", [".", "run.sh", "pkg", "link"])
def test_each_part_of_a_release_has_its_owner(there: Machine, what: str) -> None:
    """One directory, file or link of another user makes it another's."""
    tree = {**TREE, "link": b""}
    assert there.run("/bin/true", tree=tree, user="root").exit == 0
    release = there.current.resolve()
    os.chown(release / what, NOBODY.pw_uid, -1, follow_symlinks=False)
    outcome = there.run("/bin/true", tree=tree, user="root")
    assert "belonged to another user" in outcome.last.warnings[0]
    assert {path.lstat().st_uid for path in (release, *release.rglob("*"))} == {0}
    assert there.run("/bin/true", tree=tree, user="root").last.warnings == ()


def test_a_release_of_roots_becomes_the_users(there: Machine) -> None:
    """The other way round it is theirs as well, to write in."""
    assert push(there, "root").output == b"root\n"
    assert push(there, "nobody").output == b"nobody\n"
    release = there.current.resolve()
    inside = {path.lstat().st_uid for path in (release, *release.rglob("*"))}
    assert inside == {NOBODY.pw_uid}
    assert push(there, "nobody").last.warnings == ()


@pytest.mark.parametrize("user", ["root", "daemon"])
def test_what_lives_on_of_another_user_is_refused(there: Machine, user: str) -> None:
    """Before anything is downloaded; whose it is and what to do are said, and doing it helps."""
    push(there, "nobody", persist=("output",))
    asked = len(there.store.ranges)
    delivery = deliver(there, user, "output")
    assert delivery.code == "owner_differs"
    assert "'shared' belongs to nobody" in delivery.message
    assert user in delivery.message
    assert len(there.store.ranges) == asked
    assert there.current.readlink().name in there.releases()
    assert push(there, "nobody").exit == 0
    move_shared_away(there)
    assert push(there, user, persist=("output",)).output == f"{user}\n".encode()
    assert (there.project / "shared").stat().st_uid == pwd.getpwnam(user).pw_uid


@pytest.mark.parametrize("way", ["directory", "above", "further above", "link", "behind a link"])
def test_a_persisted_path_of_another_user_is_refused(there: Machine, way: str) -> None:
    """Where shared/ is root's, a part of it that is somebody's holds no run of another."""
    push(there, "root")
    shared, disk = there.project / "shared", there.root / "disk"
    disk.mkdir()
    if way in ("link", "behind a link"):
        (shared / "out").symlink_to(disk)
        os.chown(
            disk if way == "behind a link" else shared / "out",
            NOBODY.pw_uid,
            -1,
            follow_symlinks=False,
        )
    else:
        (shared / "out/mid").mkdir(parents=True)
        os.chown(shared / "out", NOBODY.pw_uid, -1)
    path = {"above": "out/deeper", "further above": "out/mid/deeper"}.get(way, "out")
    assert deliver(there, "root", path).code == "owner_differs"
    assert push(there, "nobody", persist=(path,) if way == "directory" else ()).exit == 0


@pytest.mark.parametrize("place", ["", "releases"])
def test_a_project_that_another_user_can_change_is_refused(there: Machine, place: str) -> None:
    """Who owns where releases lie can swap one as a whole: they may run there, and nobody else."""
    push(there, "root")
    os.chown(there.project / place, NOBODY.pw_uid, -1)
    assert deliver(there, "root").code == "owner_differs"
    assert push(there, "nobody").output == b"nobody\n"


def test_roots_shared_serves_a_user(there: Machine) -> None:
    """What root alone can change is as good as their own; what is new in it is theirs."""
    push(there, "root")
    outcome = there.sh("touch output/f && stat -c %U output/f", user="nobody", persist=("output",))
    assert outcome.output == b"nobody\n", outcome.out


def test_a_rollback_asks_for_no_user(there: Machine) -> None:
    """It runs nothing, so whoever's the project is, the release before is current again."""
    push(there, "nobody")
    first = there.current_id
    there.run("/bin/true", tree={"g": b""}, user="nobody")
    there.arguments = ("rollback",)
    back = RollbackPayload(run_id="back", project="demo")
    process = there.start(back.encode(), CODEFERRY_RUN_ID="back", CODEFERRY_LOGIN_UID="1")
    assert process.communicate(timeout=60)[1] is not None
    assert (process.returncode, there.current_id) == (0, first)


def test_in_a_users_directory_nothing_is_given_away_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made there is made as they, so that what they swap for it stays whose it is."""
    place, ids = tmp_path / "theirs", (NOBODY.pw_uid, NOBODY.pw_gid)
    place.mkdir()
    os.chown(place, *ids)
    roots = place / "roots"
    roots.mkdir()
    made = os.mkdir

    def swapped(name: bytes, mode: int, *, dir_fd: int) -> None:
        made(name, mode, dir_fd=dir_fd)
        os.rename(name, b"away", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        os.rename(b"roots", name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swapped)
    at = os.open(place, os.O_RDONLY)
    files.make_directory(at, b"new", ids)
    os.close(at)
    assert (place / "new").stat().st_uid == 0
    state = (place / "away").stat()
    assert (state.st_uid, state.st_gid) == ids
    assert (os.geteuid(), os.getegid()) == (0, 0)


# --- dependencies


def test_an_environment_is_its_users(tmp_path: Path) -> None:
    """The note names who installed, and the environment has to be theirs: else it is made anew."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    plan = dependencies.Plan([["uv", "sync"]], "same", [])
    fresh = [["rm", "-rf", str(venv)], ["uv", "sync"]]
    uid = NOBODY.pw_uid

    def left(user: int, noted: object) -> list[list[str]]:
        return dependencies.missing(plan, venv, user, noted)

    assert left(0, [0, "same"]) == left(0, "same") == []
    assert left(0, [0, "other"]) == left(0, "other") == left(0, None) == plan.steps
    assert left(0, [uid, "same"]) == left(uid, [0, "same"]) == left(uid, "same") == fresh
    os.chown(venv / "bin", uid, -1)
    assert left(0, [0, "same"]) == fresh
    (venv / "bin").rmdir()
    (venv / "bin").symlink_to("/bin")
    assert left(0, [0, "same"]) == fresh


def test_in_roots_shared_a_user_has_an_environment_of_their_own(there: Machine) -> None:
    """Neither place nor note is root's, and both can be written by them alone."""
    push(there, "root")
    roots = Project(there.project, None).venv()
    theirs = Project(there.project, (NOBODY.pw_uid, NOBODY.pw_gid)).venv()
    assert roots == (there.project / "shared/venv", there.project / "installed.json")
    assert theirs[0].parent.name == f"venv-{NOBODY.pw_uid}"
    assert theirs[0].parent.stat().st_uid == NOBODY.pw_uid
    assert theirs[1] == there.project / f"installed-{NOBODY.pw_uid}.json"
    as_user(NOBODY.pw_uid, theirs[0].mkdir)

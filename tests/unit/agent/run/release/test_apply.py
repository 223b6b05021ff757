"""Apply from payload to result line, as a process, against a real HTTP server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.run.files import give_new, make_directory, opened
from codeferry_agent.run.release.project import Project
from codeferry_contracts import archive
from tests.unit.agent.archives import SMALL, Link, entries, hostile, member, pack
from tests.unit.agent.conftest import Gnu, Instance, load, picture


def test_a_release_becomes_current(any_python: Instance) -> None:
    """Under every Python: files, modes and links arrive, and the result says what is on disk."""
    result = any_python.push(SMALL).result
    summary = archive.summarise("demo", entries(SMALL))
    assert (result.status, result.manifest, result.replayed) == ("applied", True, False)
    assert (result.run_id, result.project, result.previous) == ("run-1", "demo", "")
    assert (result.digest, result.files, result.bytes) == (
        summary.digest,
        summary.files,
        summary.bytes,
    )
    assert set(result.seconds) == {"lock", "download", "extract", "activate"}
    found = picture(any_python.current)
    assert found["train.py"] == ("0o755", b"print('hello')\n")
    assert found["pkg/__init__.py"] == ("0o644", b"")
    assert found["latest"] == "-> pkg/deep"
    assert (any_python.current / "latest/er/model.py").read_bytes() == b"x = 1\n" * 1000


def test_a_second_release_replaces_the_first(any_python: Instance) -> None:
    """Deleted files disappear, the old release is kept, and an intact one is not unpacked anew."""
    first = any_python.push(SMALL).result
    second = any_python.push({"train.py": b"2"}).result
    assert second.previous == first.release_id
    assert {path.name for path in any_python.current.iterdir()} == {"train.py", ".codeferry"}
    assert any_python.releases() == {first.release_id, second.release_id}
    assert any_python.push(SMALL).result.status == "applied"


def test_the_archive_of_gnu_tar_works(any_python: Instance, tmp_path: Path, gnu_tar: Gnu) -> None:
    """A plain tar with ``./``, directories and hard links is its own proof: digest and count."""
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").write_bytes(b"f" * 2000)
    os.link(tree / "a/b/f", tree / "hard")
    (tree / ("n" * 200)).write_bytes(b"long")
    (tree / "a/link").symlink_to("b/f")
    for path in ("a/b/f", "n" * 200):
        (tree / path).chmod(0o640)
    result = any_python.apply(gnu_tar(tree, ".")).result
    assert (result.status, result.manifest, result.files) == ("applied", False, 4)
    expected = picture(tree)
    assert picture(any_python.current) == expected
    stated = archive.tree_digest(
        archive.link_entry(name, content[3:])
        if isinstance(content, str)
        else _file_entry(name, content)
        for name, content in expected.items()
        if content != "directory"
    )
    assert result.digest == stated
    assert result.release_id == archive.release_id(stated)


def _file_entry(name: str, content: tuple[str, bytes]) -> archive.Entry:
    mode, body = content
    return archive.Entry(name, int(mode, 8), len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("kind", ["gnu", "pax", "ustar", "v7"])
def test_every_format_of_gnu_tar_is_read(
    instance: Instance, tmp_path: Path, gnu_tar: Gnu, kind: str
) -> None:
    """Long names and odd ones come through whichever way tar spells them."""
    tree = tmp_path / "tree"
    names = ["plain", "with space"]
    if kind in ("gnu", "pax"):
        names += ["x/" * 60 + "deep", "n" * 255, "new\nline", "-rf", "$(id)", "\udcff\udcfe"]
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    answer = instance.apply(gnu_tar(tree, f"--format={kind}", "."))
    assert answer.exit == 0, answer.out
    assert picture(instance.current) == picture(tree)


def test_pushing_what_is_current_changes_nothing(instance: Instance) -> None:
    """The status is unchanged, and what runs from the tree keeps the very same files."""
    instance.push(SMALL)
    before = (instance.current / "train.py").stat().st_ino
    again = instance.push(SMALL).result
    assert again.status == "unchanged"
    assert again.previous == again.release_id
    assert (instance.current / "train.py").stat().st_ino == before


def test_a_release_changed_on_the_instance_is_put_right(instance: Instance) -> None:
    """Pushing the same tree again repairs files edited, removed or swapped, and says so."""
    instance.push(SMALL)
    (instance.current / "train.py").write_text("edited")
    (instance.current / "pkg/__init__.py").unlink()
    os.mkfifo(instance.current / "pkg/__init__.py")
    (instance.current / "pkg/__pycache__").mkdir()
    (warning,) = instance.push(SMALL).result.warnings
    assert "'pkg/__init__.py', 'train.py'" in warning
    assert (instance.current / "train.py").read_bytes() == b"print('hello')\n"
    assert (instance.current / "pkg/__init__.py").is_file()


def test_what_programs_leave_in_a_release_is_not_damage(instance: Instance) -> None:
    """A __pycache__ does not make a release another one."""
    instance.push(SMALL)
    (instance.current / "__pycache__").mkdir()
    assert instance.push(SMALL).result.warnings == ()
    assert (instance.current / "__pycache__").is_dir()


def test_a_delivery_that_comes_again_is_answered_from_the_record(any_python: Instance) -> None:
    """The same run is applied once, also after a later run: an old one never comes back."""
    first = any_python.push(SMALL, run_id="a")
    any_python.push({"later": b""}, run_id="b")
    requests = len(any_python.store.ranges)
    again = any_python.send(any_python.payload(b"x", run_id="a"))
    assert again.exit == 0
    assert again.result.replayed
    assert again.result.release_id == first.result.release_id
    assert again.result.seconds == first.result.seconds
    assert len(any_python.store.ranges) == requests
    assert (any_python.current / "later").exists()


def test_a_run_that_failed_may_come_again(instance: Instance) -> None:
    """Only success is recorded: a failed delivery is tried anew."""
    body = pack(SMALL)
    instance.store.status = 403
    assert instance.apply(body, run_id="a").code == "url_expired"
    instance.store.status = 0
    assert instance.apply(body, run_id="a").result.status == "applied"


def test_old_records_go(instance: Instance) -> None:
    """The answers kept for redelivery are bounded, and the latest are among them."""
    runs = instance.project / "runs"
    runs.mkdir(parents=True)
    for number in range(250):
        (runs / f"old-{number}.json").write_text("{}")
        os.utime(runs / f"old-{number}.json", (number, number))
    instance.push(SMALL)
    assert len(list(runs.iterdir())) == 201
    assert not (runs / "old-0.json").exists()
    assert (runs / "run-1.json").exists()


def test_old_releases_go_by_when_they_were_last_current(instance: Instance) -> None:
    """Keeping three keeps the three activated last, not the three made last."""
    ids = [instance.push({"f": b"%d" % n}, keep_releases=9).result.release_id for n in range(5)]
    instance.push({"f": b"0"}, keep_releases=3)
    assert instance.releases() == {ids[0], ids[4], ids[3]}


def test_the_one_before_current_is_never_pruned(instance: Instance) -> None:
    """With one release to keep, the last good one stays too; also when nothing changed."""
    ids = [instance.push({"f": b"%d" % n}, keep_releases=1).result.release_id for n in range(3)]
    assert instance.releases() == {ids[1], ids[2]}
    instance.push({"f": b"2"}, keep_releases=1)
    assert instance.releases() == {ids[1], ids[2]}


def test_a_rollback_by_hand_counts_as_an_activation(instance: Instance) -> None:
    """What current points to is what was good last, whoever set it."""
    ids = [instance.push({"f": b"%d" % n}).result.release_id for n in range(3)]
    instance.current.unlink()
    instance.current.symlink_to(f"releases/{ids[0]}")
    new = instance.push({"f": b"new"}, keep_releases=1).result
    assert new.previous == ids[0]
    assert instance.releases() == {ids[0], new.release_id}


def test_what_programs_write_lives_on(any_python: Instance) -> None:
    """Persisted paths, nested ones too, are links into shared/ in every release."""
    wanted = ("output", "var/lib/state", "output/s3")
    any_python.push({"f": b"1", "var/x": b""}, persist=wanted)
    (any_python.current / "output/model.bin").write_bytes(b"weights")
    (any_python.current / "var/lib/state/db").write_bytes(b"rows")
    any_python.push({"f": b"2"}, persist=wanted)
    assert (any_python.current / "output/model.bin").read_bytes() == b"weights"
    assert (any_python.current / "var/lib/state/db").read_bytes() == b"rows"
    assert (any_python.current / "output").readlink() == Path("../../shared/output")
    assert (any_python.project / "shared/output/s3").is_dir()


def test_what_the_archive_holds_is_not_persisted(instance: Instance) -> None:
    """A path of the archive's own stays a part of the release, without a word."""
    result = instance.push({"data/in.csv": b"1", "l": Link("data")}, persist=("data", "l/x")).result
    assert result.warnings == ()
    assert not (instance.current / "data").is_symlink()
    assert not (instance.project / "shared/data").exists()
    assert not (instance.current / "data/x").exists()


def test_persisting_more_reaches_a_release_that_stays(instance: Instance) -> None:
    """A kept release gets the new links; one with an own directory there keeps it, and says so."""
    instance.push(SMALL)
    (instance.current / "data").mkdir()
    result = instance.push(SMALL, persist=("data", "output")).result
    assert result.status == "unchanged"
    assert "data is not kept" in result.warnings[0]
    assert (instance.current / "output").is_symlink()
    assert not (instance.current / "data").is_symlink()


def test_a_shared_path_may_be_a_link_to_a_larger_disk(instance: Instance, canary: Path) -> None:
    """The last step may be a link of the owner's; on the way to it one is refused."""
    (canary / "opt/disk").mkdir()
    instance.push(SMALL)
    (instance.project / "shared/data").symlink_to(canary / "opt/disk")
    instance.push({"f": b""}, persist=("data",))
    (instance.current / "data/x").write_text("x")
    assert (canary / "opt/disk/x").exists()
    refused = instance.apply(pack({"g": b""}), persist=("data/deeper/down",))
    assert refused.code == "persist_blocked"
    assert [path.name for path in (canary / "opt/disk").iterdir()] == ["x"]


def test_an_unmet_expectation_is_reported(any_python: Instance) -> None:
    """Missing paths are listed; the release is current all the same; kept ones are not missing."""
    result = any_python.push(
        SMALL,
        expect_files=("train.py", "nope.py", "pkg", "latest/er/model.py"),
        expect_directories=("pkg", "latest", "train.py", "output/"),
        persist=("output",),
    ).result
    assert result.status == "applied"
    assert result.unmet == ("nope.py", "pkg", "train.py")


def test_strict_makes_an_unmet_expectation_a_failure(instance: Instance) -> None:
    """The old release stays current and the missing path is named."""
    old = instance.push({"old": b""}).result.release_id
    answer = instance.apply(pack(SMALL), strict=True, expect_files=("nope.py",))
    assert answer.code == "expectation_unmet"
    assert answer.result.unmet == ("nope.py",)
    assert answer.message == "The archive lacks what is expected: 'nope.py'."
    assert instance.current_id == old


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_tree_belongs_to_the_user_asked_for(instance: Instance) -> None:
    """Release and shared directories are the user's, what holds them is not; links not followed."""
    instance.push(SMALL, user="nobody", persist=("output/s3",))
    nobody = pwd.getpwnam("nobody").pw_uid
    release = instance.project / "releases" / instance.current_id
    inside = [release, *release.rglob("*"), *(instance.project / "shared").rglob("*")]
    assert {path.lstat().st_uid for path in inside} == {nobody}
    assert (instance.project / "releases").stat().st_uid == 0
    assert (instance.project / "staging").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks users up")
def test_an_unknown_user_fails_before_anything_is_downloaded(instance: Instance) -> None:
    """The name is in the message and no byte was fetched."""
    answer = instance.apply(pack(SMALL), user="nosuchuser")
    assert answer.code == "user_unknown"
    assert "nosuchuser" in answer.message
    assert instance.store.ranges == []


def test_special_bits_are_dropped_and_directories_stay_usable(instance: Instance) -> None:
    """Setuid, setgid and sticky never arrive; the owner can always enter a directory."""
    answer = instance.apply(
        hostile(
            member("d", type=b"5", mode=0o7000),
            member("d/tool", b"#!", mode=0o6755),
            member("secret", b"s", mode=0o400),
        )
    )
    assert answer.exit == 0
    modes = {
        name: stat.S_IMODE((instance.current / name).stat().st_mode)
        for name in ("d", "d/tool", "secret")
    }
    assert modes == {"d": 0o700, "d/tool": 0o755, "secret": 0o400}


def test_the_record_is_the_result(instance: Instance) -> None:
    """runs/<run>.json holds the whole answer."""
    answer = instance.push(SMALL)
    record = load(instance.project / "runs/run-1.json")
    assert record["release_id"] == answer.result.release_id
    assert record["codeferry_result"] == 1


def test_nothing_takes_room_from_the_result_line(instance: Instance) -> None:
    """Unless asked to talk, a delivery that goes well says nothing on standard error."""
    instance.store.body = pack(SMALL)
    answer = instance.send(instance.payload(instance.store.body), CODEFERRY_VERBOSE="")
    assert answer.exit == 0
    assert answer.err == ""


@pytest.mark.parametrize("linked", ["demo", "demo/shared", "demo/runs"])
def test_a_directory_may_lie_on_a_larger_disk(
    instance: Instance, tmp_path: Path, linked: str
) -> None:
    """Where the administrator has made a directory a link, releases go as they do elsewhere."""
    larger = tmp_path / "larger"
    larger.mkdir()
    (instance.root / linked).parent.mkdir(exist_ok=True)
    (instance.root / linked).symlink_to(larger)
    for tree in (SMALL, {"f": b"1"}, SMALL):
        instance.push(tree, persist=("output",))
    assert (instance.current / "output").is_dir()
    assert any(larger.iterdir())


def test_releases_alone_cannot_lie_elsewhere(instance: Instance, tmp_path: Path) -> None:
    """Their links to what outlives them would lead nowhere: refused with what to do instead."""
    instance.project.mkdir()
    (instance.project / "releases").symlink_to(tmp_path)
    answer = instance.apply(pack(SMALL))
    assert answer.code == "releases_elsewhere"
    assert answer.result.error is not None
    assert "whole project directory" in answer.result.error["hint"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give anything away")
@pytest.mark.parametrize("planted", ["a hard link to a file of root", "a directory of root"])
@pytest.mark.parametrize("made", ["directory", "link"])
def test_what_an_owner_exchanges_is_not_given_to_them(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, planted: str, made: str
) -> None:
    """Between our making something in their directory and our giving it to them."""
    theirs, secret = instance.root / "theirs", instance.root / "secret"
    theirs.mkdir()
    secret.mkdir()
    (secret / "file").touch()
    name = "mkdir" if made == "directory" else "symlink"
    make = getattr(os, name)

    def exchange(*arguments: Any, dir_fd: int | None = None, **more: Any) -> None:
        make(*arguments, dir_fd=dir_fd, **more)
        if dir_fd is not None:
            (theirs / "new").rename(theirs / "elsewhere")
            if planted == "a directory of root":
                secret.rename(theirs / "new")
            else:
                (theirs / "new").hardlink_to(secret / "file")

    project = Project(instance.root, (65534, 65534))
    monkeypatch.setattr(os, name, exchange)
    with opened(theirs) as at, contextlib.suppress(OSError):
        if made == "directory":
            make_directory(at, b"new", project.owner)
        else:
            project.link(theirs, b"new")
    assert (theirs / "new").lstat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give anything away")
def test_a_link_is_given_itself_not_what_it_leads_to(tmp_path: Path) -> None:
    """Its owner may remove it; where it leads is as it was."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    with opened(tmp_path) as at:
        give_new((65534, 65534), at, b"link")
    owners = [(tmp_path / name).lstat().st_uid for name in ("link", "target")]
    assert owners == [65534, 0]

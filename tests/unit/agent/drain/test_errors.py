"""One bad file or bucket never holds up the others, and each error says what it means."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.files import scan
from codeferry_agent.drain.reports import Reports
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.upload import S3Store, Sizes
from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    Throttled,
)
from codeferry_transfer.s3 import S3
from tests.unit.agent.drain.conftest import BUCKET, Hooked, Tree
from tests.unit.agent.drain.sink import Sink


def test_poison_files_do_not_stop_good_ones(
    tree: Tree, store: Hooked, drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    """Three files that S3 cannot hold stay and are three errors; three good ones go."""
    for name in (b"\xff", b"\xfe/x"):
        tree.write(os.fsdecode(name))
    deep = os.fsdecode(b"/".join([b"d" * 240] * 5))
    tree.write(deep)
    for name in "abc":
        tree.write(name)
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (3, 3)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 3
    assert len(tree.names()) == 3
    drain.sync()
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 3


@pytest.mark.parametrize(
    "error", [BucketMissing, CredentialsUnusable, ConnectionFailed, Throttled], ids=lambda e: e.code
)
def test_a_bucket_in_trouble_is_parked_and_recovers(
    tree: Tree,
    store: Hooked,
    drain: Drain,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    """An error of the bucket is said once, keeps every file, and is over without a restart."""
    caplog.set_level(logging.INFO)
    for number in range(20):
        tree.write(str(number))
    store.error = error("It is away.")
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (0, 20)
    assert len(store.asked) <= 4, "a parked bucket is asked again and again"
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == ["It is away."]
    store.error = None
    waited(drain)
    summary = drain.sync()
    if summary.uploaded < 20:  # one went to try, and the others at once after it
        assert drain.next_due(summary) is not None
        summary = drain.sync()
    assert tree.names() == []
    assert any(f"s3://{BUCKET} takes files again" in message for message in caplog.messages)
    assert drain.bucket_errors.last_errors()[BUCKET].over


def waited(drain: Drain) -> None:
    """As if every wait were over."""
    for breaker in drain._breakers._breakers.values():
        breaker._until = 0
    for root in drain.roots.values():
        for waiting in root.backoff._waiting.values():
            waiting.until = 0


def test_denied_files_do_not_stop_others(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """A prefix without permission keeps its files; the bucket's others go."""
    for name in ("a", "secret/1", "secret/2", "b"):
        tree.write(name)

    def deny() -> None:
        denied = store.asked[-1][1].startswith("secret/")
        store.error = AccessDenied("No.") if denied else None

    store.during = deny
    drain = drain_of(workers=1)
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (2, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_an_error_of_its_own(tree: Tree, store: Hooked, drain: Drain) -> None:
    """A file without permission stays with an error; others go."""
    tree.write("closed").chmod(0)
    tree.write("open")
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (1, 1)


def test_a_directory_that_no_bucket_can_be_called_like_stays(
    tree: Tree, store: Hooked, drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    """Its files stay, one line names it, and the others go."""
    tree.write("../Not A Bucket/one")
    tree.write("../Not A Bucket/two")
    tree.write("good")
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (1, 2)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "--bucket-map" in errors[0]


def test_underscores_become_dashes_and_that_is_said_once(
    tree: Tree, store: Hooked, drain: Drain, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """``distributed_colony`` goes to the bucket ``distributed-colony``."""
    caplog.set_level(logging.INFO)
    (tmp_path / "store" / "distributed-colony").mkdir()
    for name in ("one", "two"):
        tree.write(f"../distributed_colony/{name}")
        drain.sync()
    assert store.read("distributed-colony", "two") == b"content"
    assert len([m for m in caplog.messages if "distributed-colony" in m]) == 1


def test_what_is_not_for_a_bucket_is_skipped(tree: Tree, store: Hooked, drain: Drain) -> None:
    """Files directly in the root, dotfiles and what is in dot-directories are not touched."""
    tree.write("../at-the-root")
    tree.write(".hidden")
    tree.write(".dir/inside")
    tree.write("../.git/inside")
    summary = drain.sync()
    assert (summary.processed, summary.errors, summary.left) == (0, 0, 4)
    assert store.asked == []


def linked(tree: Tree, tmp_path: Path) -> Path:
    """A directory elsewhere with one file, that a link in the root leads to."""
    larger = tmp_path / "larger-disk"
    tree.write("../../larger-disk/run/f")
    (tree.root / "linked").symlink_to(larger)
    return larger


def test_a_buckets_directory_may_be_a_link(
    tree: Tree, store: Hooked, drain: Drain, tmp_path: Path
) -> None:
    """On a larger disk, say: its files go as if they lay in the root, and a kill's claims too."""
    larger = linked(tree, tmp_path)
    (tmp_path / "store" / "linked").mkdir()
    (larger / "run" / "f").rename(larger / "run" / ".codeferry-claim.g")
    tree.write("../../larger-disk/top")
    summary = drain.sync()
    assert (summary.uploaded, summary.errors, summary.left) == (2, 0, 0)
    assert sorted(store.asked) == [("linked", "run/g"), ("linked", "top")]
    assert [path for path in larger.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("why", ["nowhere", "round in circles"])
def test_a_link_that_is_not_followed_is_an_error(
    tree: Tree, drain: Drain, tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """Nothing behind it is touched, the scan has failed, and the log names it."""
    larger, link = linked(tree, tmp_path), tree.root / "linked"
    link.unlink()
    link.symlink_to("linked" if why == "round in circles" else "not-mounted")
    summary = drain.sync()
    assert (summary.uploaded, summary.processed, summary.errors) == (0, 0, 1)
    assert (larger / "run" / "f").exists()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "linked' cannot be read: " in line
    assert "link" in line.partition("cannot be read")[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
@pytest.mark.parametrize(
    ("root", "link", "target", "followed"),
    [
        (1, 1, 1, True),
        (1, 0, 1, True),  # the administrator's
        (0, 0, 1, True),
        (0, 1, 1, True),
        (1, 1, 0, False),
        (1, 0, 0, False),  # root's too, but perhaps moved here
        (0, 1, 0, False),
        (1, 2, 0, False),
    ],
)
def test_who_may_have_a_link_followed(
    tree: Tree,
    store: Hooked,
    drain: Drain,
    tmp_path: Path,
    *,
    root: int,
    link: int,
    target: int,
    followed: bool,
) -> None:
    """Nobody gets another's files uploaded and deleted by a link; on their own disk, anybody."""
    (tmp_path / "store" / "linked").mkdir()
    larger = linked(tree, tmp_path)
    for path, owner in ((tree.root, root), (tree.root / "linked", link), (larger, target)):
        os.chown(path, 4711 * owner, 4711 * owner, follow_symlinks=False)
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == ((1, 0) if followed else (0, 1))
    assert (larger / "run" / "f").exists() != followed


def test_what_is_left_alone_is_counted_and_named_once(
    tree: Tree, drain: Drain, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Links, FIFOs and files of no bucket may be meant to go; hidden names are only counted."""
    tree.write("../at-the-root")
    tree.write(".hidden")
    (tree.bucket / "latest").symlink_to("run-7")
    (tree.bucket / "epoch").symlink_to(tree.root)
    (tmp_path / "elsewhere").write_text("")
    (tree.root / "file-link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tree.bucket / "pipe")
    for _ in range(2):
        summary = drain.sync()
        assert (summary.processed, summary.left, summary.errors) == (0, 6, 0)
    said = "\n".join(caplog.messages)
    for name, why in (
        ("at-the-root", "directly in the root"),
        (f"{BUCKET}/latest", "a link"),
        (f"{BUCKET}/epoch", "a link"),
        ("file-link", "a link"),
        (f"{BUCKET}/pipe", "no regular file"),
    ):
        assert said.count(f"/{name}' is left alone: it is {why}.") == 1
    assert ".hidden" not in said
    assert f"left={summary.left}" in summary.line()


def refusing(number: int, name: str, function: Callable[..., object]) -> Callable[..., object]:
    """``function``, but for a call that names ``name``: this machine's root is refused nothing."""

    def called(*arguments: Any, **options: Any) -> object:
        if any(getattr(each, "name", each) == name for each in arguments):
            raise OSError(number, os.strerror(number))
        return function(*arguments, **options)

    return called


@pytest.mark.parametrize("function", ["scan.os.open", "scan._looked_at"], ids=["directory", "name"])
def test_what_cannot_be_looked_at_is_an_error(
    tree: Tree,
    drain: Drain,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    """A directory without permission, or a name on a failing disk: it counts, the rest goes."""
    tree.write("closed/one")
    tree.write("other/two")
    module = f"codeferry_agent.drain.files.{function}"
    original = os.open if function.endswith("open") else scan._looked_at
    monkeypatch.setattr(module, refusing(errno.EACCES, "closed", original))
    summary = drain.sync()
    assert (summary.uploaded, summary.errors) == (1, 1)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert f"{BUCKET}/closed' cannot be read" in line


def test_a_root_that_cannot_be_used_is_an_error(
    tree: Tree, tmp_path: Path, drain_of: Callable[..., Drain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two roots one is refused by the system: the other is drained, and the scan has failed."""
    tree.write("one")
    other = tmp_path / "other"
    other.mkdir()
    top = refusing(errno.EACCES, str(other), scan.Directory.top)
    monkeypatch.setattr("codeferry_agent.drain.files.root.Directory.top", top)
    summary = drain_of(directories=(str(tree.root), str(other))).sync()
    assert (summary.uploaded, summary.errors) == (1, 1)


@pytest.mark.parametrize(
    "name", ["a|b", "new\nline", "it's", 'say "x"', "-rf", "sp ace", "\u00e4", "%41", "n" * 255]
)
def test_odd_names_arrive_as_they_are(tree: Tree, store: Hooked, drain: Drain, name: str) -> None:
    """Whatever a file is called that S3 can hold is the key."""
    tree.write(f"{name[:100]}/{name}")
    drain.sync()
    assert store.read(BUCKET, f"{name[:100]}/{name}") == b"content"
    assert tree.names() == []


def test_a_trailing_slash_changes_nothing(
    tree: Tree, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """``-d output/s3/`` is ``-d output/s3``."""
    tree.write("one")
    drain_of(directories=(f"{tree.root}/",)).sync()
    assert store.asked == [(BUCKET, "one")]


def test_a_pattern_finds_roots_that_come_later(
    tmp_path: Path, store: Hooked, drain_of: Callable[..., Drain]
) -> None:
    """A pattern is matched anew at every scan."""
    drain = drain_of(directories=(str(tmp_path / "opt/*/out"),))
    assert drain.sync().processed == 0
    for project in ("one", "two"):
        Tree(tmp_path / "opt" / project / "out").write(project)
    drain.sync()
    assert sorted(store.asked) == [(BUCKET, "one"), (BUCKET, "two")]


def test_a_claim_that_cannot_be_made_keeps_the_file(
    tree: Tree, store: Hooked, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that takes no rename the file stays, though S3 has it, and waits."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codeferry_agent.drain.files.safe_delete.os.rename", full)
    tree.write("one")
    assert drain.sync().errors == 1
    monkeypatch.undo()
    assert tree.names() == ["one"]
    waited(drain)
    drain.sync()
    assert tree.names() == []


def test_errors_are_said_at_a_falling_rate(caplog: pytest.LogCaptureFixture) -> None:
    """The same error is said at once, after a minute, two, four…, and counted in between."""
    now = [0.0]
    reports = Reports(lambda: now[0])
    for _ in range(3600):
        reports.failed("s3://b", "away", "It is away.")
        now[0] += 1
    assert len(caplog.records) == 6
    assert "times since" in caplog.messages[-1]


def test_many_files_with_one_error_are_ten_lines_and_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hundred thousand files without permission do not fill the log."""
    reports = Reports()
    for number in range(100):
        reports.failed(f"path {number}", "access_denied", "No.")
    reports.scanned()
    assert len(caplog.records) == 11
    assert "90 more" in caplog.messages[-1]


def test_a_bucket_of_another_account_is_refused(tree: Tree, sink: Sink) -> None:
    """Every request names the account the bucket has to belong to; S3's no keeps the file."""
    sink.owner = "1" * 12
    session = boto3.Session("test", "test", region_name="us-east-1")
    kept = tree.write("small"), tree.write("large", b"x" * 3000)
    for account, left, refused in (("2" * 12, 2, 3), ("1" * 12, 0, 3)):
        client = S3(session, endpoint_url=sink.url, expected_owner=account, attempts=1)
        settings = Settings((str(tree.root),), sizes=Sizes(single=1024, part=2048))
        drain = Drain(settings, S3Store(lambda _, client=client: client))
        drain.sync()
        drain.close()
        assert len([path for path in kept if path.exists()]) == left
        assert sink.refused == refused


@pytest.mark.parametrize("size", [10, 3000], ids=["one request", "parts"])
def test_a_server_that_keeps_other_bytes_is_not_believed(tree: Tree, sink: Sink, size: int) -> None:
    """Success is not proof: without its own checksum of our bytes the file stays."""
    sink.spoils = True
    session = boto3.Session("test", "test", region_name="us-east-1")
    client = S3(session, endpoint_url=sink.url, attempts=1)
    settings = Settings((str(tree.root),), sizes=Sizes(single=1024, part=2048))
    tree.write("one", b"x" * size)
    drain = Drain(settings, S3Store(lambda _: client))
    sink.whole = ("other", size)
    summary = drain.sync()
    drain.close()
    assert (summary.errors, tree.names()) == (1, ["one"])

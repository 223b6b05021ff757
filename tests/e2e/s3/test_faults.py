"""`ferry s3` through faults: broken connections, refusals, kills, a full disk, Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess

import pytest

from tests.e2e.conftest import until
from tests.e2e.s3.conftest import PART, plant, tree_of
from tests.proxy.rules import Cut, Hold, Reset, Rule, Status, Truncate

LARGE = 9 * PART + 17


RANGES = 3  # of four parts each, where S3 does not tell the size of its parts


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

"""The agent as a process, against a real S3 and a proxy that fails before it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.proxy.rules import Hold, Reset, Rule
from tests.proxy.server import FaultProxy
from tests.unit.agent.drain.imds import Imds

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] (DEBUG|INFO|WARNING|ERROR) .+")
AGENT = (sys.executable, "-m", "codeferry_agent.main", "drain")


class Waiting(Exception):
    """Not there yet."""


@retry(
    retry=retry_if_exception_type(Waiting),
    wait=wait_fixed(0.05),
    stop=stop_after_delay(60),
    reraise=True,
)
def until(condition: Callable[[], object]) -> None:
    if not condition():
        raise Waiting


class Place:
    """A bucket, a root with its directory, and agents that drain it."""

    def __init__(self, tmp_path: Path, endpoint: str, processes: ExitStack) -> None:
        self.name = f"results-{uuid.uuid4().hex[:12]}"
        self.root = tmp_path / "output" / "s3"
        self.directory = self.root / self.name
        self.directory.mkdir(parents=True)
        self.log = tmp_path / "agent.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "CODEFERRY_DRAIN_STATE": str(tmp_path / "state"),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._processes = processes
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.s3.create_bucket(Bucket=self.name)

    def write(self, name: str, content: bytes = b"content", *, age: float = 60) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        moment = time.time() - age
        os.utime(path, (moment, moment))
        return path

    def content(self, key: str, bucket: str = "") -> bytes | None:
        try:
            answer = self.s3.get_object(Bucket=bucket or self.name, Key=key)
        except ClientError:
            return None
        body: bytes = answer["Body"].read()
        return body

    def once(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AGENT, "--once", "-d", self.root, *options],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A daemon that has begun; its log is ``said``."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [*AGENT, "-d", self.root, *options], env=self.environment, stderr=output
            )
        self._processes.callback(self._end, process)
        until(lambda: process.poll() is not None or "Draining" in self.said())
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def place_at(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    with ExitStack() as processes:
        yield lambda endpoint: Place(tmp_path, endpoint, processes)


@pytest.fixture
def place(place_at: Callable[[str], Place], ministack: str) -> Place:
    return place_at(ministack)


@pytest.fixture
def proxy(ministack: str) -> Iterator[FaultProxy]:
    with FaultProxy(ministack) as running:
        yield running


def test_one_scan(place: Place) -> None:
    """``--once`` drains, says what it did in the agreed form, and ends with 0."""
    place.write("a/b.txt", b"one")
    place.write("young", age=0)
    done = place.once("-s", "30")
    assert done.returncode == 0
    assert place.content("a/b.txt") == b"one"
    assert all(LINE.fullmatch(line) for line in done.stderr.splitlines())
    assert "Scan complete: processed=2 uploaded=1 skipped=1 errors=0" in done.stderr
    assert sorted(p.name for p in place.directory.iterdir()) == ["a", "young"]


def test_options_come_from_variables(place: Place) -> None:
    """Root and stability may be given by the variables of old; a trailing slash is nothing."""
    place.write("one", age=10)
    place.environment |= {"S3_ROOT_DIR": f"{place.root}/", "FILE_STABILITY_SECONDS": "3600"}
    command = [*AGENT, "--once"]
    assert subprocess.run(command, env=place.environment, check=False, timeout=60).returncode == 0
    assert place.content("one") is None
    place.environment["FILE_STABILITY_SECONDS"] = "1"
    assert subprocess.run(command, env=place.environment, check=False, timeout=60).returncode == 0
    assert place.content("one") == b"content"


def test_a_scan_with_errors_ends_with_1(place: Place) -> None:
    """A bucket that does not exist keeps its files, and the others go."""
    place.write("good")
    place.write(f"../no-{place.name}/bad")
    done = place.once()
    assert done.returncode == 1
    assert place.content("good") == b"content"
    assert (place.root / f"no-{place.name}" / "bad").exists()
    assert "uploaded=1 skipped=0 errors=1" in done.stderr


def test_what_cannot_be_looked_at_ends_with_1(place: Place, tmp_path: Path) -> None:
    """A bucket's directory may be a link; one that leads nowhere is a scan with errors."""
    larger = tmp_path / "larger-disk"
    place.directory.rename(larger)
    place.directory.symlink_to(larger)
    place.write("f")
    done = place.once()
    assert (done.returncode, place.content("f")) == (0, b"content"), done.stderr
    larger.rename(tmp_path / "unmounted")
    done = place.once()
    assert done.returncode == 1
    assert f"{place.name}' cannot be read: it is a link: No such file" in done.stderr
    assert "processed=0 uploaded=0 skipped=0 errors=1" in done.stderr


def test_directories_become_buckets(place: Place) -> None:
    """``_`` becomes ``-``; ``--bucket-map`` does the rest."""
    place.write(f"../{place.name.replace('-', '_', 1)}/one")
    place.write("../Old/two")
    done = place.once("--bucket-map", f"Old={place.name}")
    found = (place.content("one"), place.content("two"))
    assert found == (b"content", b"content"), done.stderr
    assert done.stderr.count(f"goes to the bucket {place.name}") == 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("-d", "no/such/root"), 2, "no directory no/such/root"),
        (("-d", "agent.log"), 2, "'agent.log' is no directory"),
        (("-d", "n" * 300), 2, "cannot be looked at: File name too long"),
        (("-p", "no-such-profile"), 2, "no-such-profile"),
        (("--bucket-map", "x"), 2, "OLD=NEW"),
        (("-i", "0"), 2, "interval"),
    ],
    ids=["root", "file", "impossible", "profile", "map", "interval"],
)
def test_what_makes_no_sense_is_said(
    place: Place, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    """A wrong option ends the command with 2 and names what is wrong."""
    place.log.touch()
    command = [*AGENT, "--once", "-d", str(place.root), *options]
    if "-d" in options:
        command = [*AGENT, "--once", *options]
    done = subprocess.run(
        command,
        env=place.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_no_credentials_is_an_exit_with_what_to_do(place: Place) -> None:
    """On a laptop without credentials it ends with 3 and names the commands that help."""
    del place.environment["AWS_ACCESS_KEY_ID"], place.environment["AWS_SECRET_ACCESS_KEY"]
    done = place.once()
    assert done.returncode == 3
    assert "aws configure" in done.stderr


def test_a_finished_file_wakes_it(place: Place) -> None:
    """A file goes soon after it is finished, long before the interval is over."""
    place.start("-i", "3600", "-s", "0.2")
    until(lambda: "Scan complete" in place.said())
    place.write("sub/one", age=0)
    until(lambda: place.content("sub/one") == b"content")


def test_the_second_agent_names_the_first(place: Place) -> None:
    """One root has one agent; the second ends with 1 and says which process has it."""
    first = place.start("-i", "3600")
    done = place.once()
    assert done.returncode == 1
    assert f"process {first.pid}" in done.stderr


def test_sigterm_drains_a_last_time(place: Place) -> None:
    """What was finished just before the end still goes, and the agent ends with 0."""
    agent = place.start("-i", "3600", "-s", "1")
    until(lambda: "Scan complete" in place.said())
    place.write("last", age=0)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(60) == 0
    assert place.content("last") == b"content"


def test_the_last_drain_has_a_deadline(place_at: Callable[[str], Place], proxy: FaultProxy) -> None:
    """An upload that does not end is given up when the time is over; the file stays."""
    place = place_at(proxy.url)
    path = place.write("one")
    proxy.set(Rule(Hold(), method="PUT", path="/one"))
    agent = place.start("-i", "3600", "--last-drain", "1")
    proxy.book.wait_for(lambda seen: any(request.action for request in seen))
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(60) == 0
    assert path.exists()
    assert "1 files (7 bytes) stay" in place.said()


def test_the_second_signal_stops(place_at: Callable[[str], Place], proxy: FaultProxy) -> None:
    """Whoever does not want to wait for the last drain signals again."""
    place = place_at(proxy.url)
    path = place.write("one")
    proxy.set(Rule(Hold(), method="PUT", path="/one"))
    agent = place.start("-i", "3600", "--last-drain", "3600")
    proxy.book.wait_for(lambda seen: any(request.action for request in seen))
    agent.send_signal(signal.SIGTERM)
    until(lambda: "a last drain" in place.said())
    agent.send_signal(signal.SIGTERM)
    agent.wait(60)
    assert path.exists()


def test_one_scan_that_is_stopped_has_failed(
    place_at: Callable[[str], Place], proxy: FaultProxy
) -> None:
    """``--once`` does not say that all is well when it was ended before it had seen all."""
    place = place_at(proxy.url)
    path = place.write("one")
    proxy.set(Rule(Hold(), method="PUT", path="/one"))
    command = [*AGENT, "--once", "-d", place.root]
    with subprocess.Popen(command, env=place.environment, stderr=subprocess.PIPE) as agent:
        assert agent.stderr is not None
        proxy.book.wait_for(lambda seen: any(request.action for request in seen))
        agent.send_signal(signal.SIGTERM)
        while b"a last drain" not in agent.stderr.readline():
            pass
        agent.send_signal(signal.SIGTERM)
        agent.communicate(timeout=60)
    assert (agent.returncode, path.exists()) == (1, True)


def test_an_outage_is_over_without_a_restart(
    place_at: Callable[[str], Place], proxy: FaultProxy
) -> None:
    """While S3 is away everything stays, in two lines of log; when it is back all goes."""
    place = place_at(proxy.url)
    for number in range(20):
        place.write(str(number))
    proxy.set(Rule(Reset(), path=place.name, times=10**6))
    place.start("-i", "3600")
    until(lambda: "errors=20" in place.said())
    assert place.said().count(" ERROR ") == 1
    proxy.set()
    until(lambda: not any(place.directory.iterdir()))
    assert "takes files again" in place.said()


def test_an_orphaned_upload_is_aborted_at_the_next_start(
    place_at: Callable[[str], Place], proxy: FaultProxy
) -> None:
    """A kill in the middle of a large file leaves parts; the next start drops them, and only
    them."""
    place = place_at(proxy.url)
    content = os.urandom(20 << 20)
    place.write("large", content)
    foreign = place.s3.create_multipart_upload(Bucket=place.name, Key="large")["UploadId"]
    proxy.set(Rule(Hold(), method="PUT", path="partNumber=2"))
    agent = place.start("-i", "3600")
    proxy.book.wait_for(lambda seen: any(request.action for request in seen))
    agent.kill()
    agent.wait()
    assert len(unfinished(place)) == 2
    proxy.set()
    assert place.once().returncode == 0
    assert place.content("large") == content
    assert unfinished(place) == [foreign]


def unfinished(place: Place) -> list[str]:
    found: list[dict[str, Any]] = place.s3.list_multipart_uploads(Bucket=place.name).get(
        "Uploads", []
    )
    return [upload["UploadId"] for upload in found]


def test_a_notice_makes_a_last_drain(place: Place) -> None:
    """A termination notice is said, and what is there goes at once."""
    with Imds() as imds:
        place.environment |= {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url,
        }
        imds.values["/latest/meta-data/autoscaling/target-lifecycle-state"] = "Terminated"
        place.start("-i", "3600")
        until(lambda: "will be gone in 120 s" in place.said())
        place.write("last")
        until(lambda: place.content("last") == b"content")


def test_json_logs_carry_metrics(place: Place) -> None:
    """Each line is a JSON object; a scan's has the metrics in CloudWatch's embedded format."""
    place.write("one", b"12345")
    lines = [json.loads(line) for line in place.once("--json-logs").stderr.splitlines()]
    (scan,) = [line for line in lines if line["message"].startswith("Scan complete")]
    directive = scan["_aws"]["CloudWatchMetrics"][0]
    assert directive["Namespace"] == "Codeferry/Drain"
    assert all(isinstance(scan[metric["Name"]], int | float) for metric in directive["Metrics"])
    assert (scan["UploadedFiles"], scan["UploadedBytes"], scan["Errors"]) == (1, 5, 0)
    assert directive["Dimensions"] == [[], ["Instance"]]


def test_metrics_are_their_stages(place: Place) -> None:
    """Two stages of one account have backlogs of their own: CODEFERRY_STAGE says whose."""
    place.environment["CODEFERRY_STAGE"] = "prod"
    lines = [json.loads(line) for line in place.once("--json-logs").stderr.splitlines()]
    (scan,) = [line for line in lines if line["message"].startswith("Scan complete")]
    directive = scan["_aws"]["CloudWatchMetrics"][0]
    assert directive["Dimensions"] == [["Stage"], ["Stage", "Instance"]]
    assert scan["Stage"] == "prod"


def test_a_stage_that_cannot_be_is_refused(place: Place) -> None:
    """Its metrics would be nobody's."""
    done = place.once("--stage", "Not A Stage")
    assert done.returncode == 2
    assert "No stage can be called 'Not A Stage'." in done.stderr


def test_status_tells_what_waits_and_what_was(place: Place) -> None:
    """``drain status`` counts what waits now and tells of the agent's last scan and errors."""
    place.start("-i", "3600")
    until(lambda: "Scan complete" in place.said())
    place.write(f"../no-{place.name}/bad", b"123", age=100)
    until(lambda: "errors=1" in place.said())
    command = [*AGENT, "status", "-d", place.root]
    environ = place.environment
    answer = subprocess.run(
        [*command, "--json"], env=environ, capture_output=True, check=True, timeout=60
    )
    (root,) = json.loads(answer.stdout)["roots"]
    assert (root["running"], root["pending_files"], root["pending_bytes"]) == (True, 1, 3)
    assert root["oldest_seconds"] >= 100
    assert root["agent"]["buckets"][f"no-{place.name}"]["code"] == "bucket_missing"
    os.mkfifo(place.directory / "pipe")
    words = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "left alone: 1, among them" in words
    assert f"{place.name}/pipe': no regular file" in words
    assert "waiting: 1 files, 3 bytes" in words


def test_one_in_the_background(place: Place, tmp_path: Path) -> None:
    """The scripts start one agent, refuse a second, and stop it after a last drain."""
    environment = place.environment

    def script(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "scripts" / name, *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    try:
        started = script("local_run.sh", "-d", str(place.root), "-s", "0")
        assert started.returncode == 0, started.stderr
        again = script("local_run.sh", "-d", str(place.root))
        assert (again.returncode, "running already" in again.stderr) == (1, True)
        place.write("last")
    finally:
        stopped = script("local_kill.sh")
    assert "SIGTERM" in stopped.stdout
    assert place.content("last") == b"content"
    assert "Scan complete" in (tmp_path / "state" / "drain.log").read_text()
    assert script("local_kill.sh").returncode == 1


def test_one_file_is_all_an_instance_needs(place: Place, tmp_path: Path) -> None:
    """codeferry-agent.pyz drains under an interpreter that has nothing installed."""
    build = [sys.executable, ROOT / "scripts" / "build_agent.py"]
    first, second = tmp_path / "first.pyz", tmp_path / "second.pyz"
    for output in (first, second):
        subprocess.run([*build, output], check=True, timeout=120)
    assert first.read_bytes() == second.read_bytes()
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=120)
    place.write("one")
    done = subprocess.run(
        [bare / "bin" / "python", first, "drain", "--once", "-d", place.root],
        env=place.environment | {"SHIV_ROOT": str(tmp_path / "unpacked")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert place.content("one") == b"content"

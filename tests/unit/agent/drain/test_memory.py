"""Memory and the cost of a scan do not grow with what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.long import sized
from tests.unit.agent.drain.sink import Sink

LIMIT = 150 << 10  # KiB
MANY = 100_000
LARGE = sized(1 << 30, 6 << 30)

# Drains, and tells the most that was resident in KiB and how many files and directories the last
# scan opened.
PROGRAM = """
import json, re, sys
from pathlib import Path
import boto3
from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.files.open_file import ignore_signal
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.upload import S3Store
from codeferry_transfer.s3 import S3
root, endpoint, stability, scans = sys.argv[1:]
ignore_signal()
opened = 0
def watch(event, arguments):
    global opened
    opened += event == "open" or event == "os.scandir"
sys.addaudithook(watch)
client = S3(boto3.Session("test", "test", region_name="eu-west-1"), endpoint_url=endpoint)
drain = Drain(Settings(directories=(root,), stability=float(stability)), S3Store(lambda _: client))
for _ in range(int(scans)):
    opened = 0
    summary = drain.sync()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"peak": peak, "opened": opened, "uploaded": summary.uploaded,
                  "processed": summary.processed}))
"""


def drained(root: Path, sink: Sink, *, stability: float = 1, scans: int = 1) -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM, root, sink.url, str(stability), str(scans)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=170)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def many_files(root: Path) -> None:
    moment = time.time() - 60
    for directory in range(10):
        place = root / "results" / str(directory)
        place.mkdir(parents=True)
        for number in range(MANY // 10):
            path = place / f"{number}"
            path.touch()
            os.utime(path, (moment, moment))


@pytest.mark.slow
def test_a_hundred_thousand_files_wait_cheaply(tmp_path: Path, sink: Sink) -> None:
    """A scan over 100,000 files that may not go yet opens none of them, only their directories,
    and takes no memory worth mentioning."""
    many_files(tmp_path)
    answer = drained(tmp_path, sink, stability=10**6, scans=3)
    assert answer["processed"] == MANY
    assert 10 <= answer["opened"] <= 50  # type: ignore[operator]
    assert answer["peak"] <= LIMIT  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_thousand_files_go_in_flat_memory(tmp_path: Path, sink: Sink) -> None:
    """Uploading 100,000 files never takes more than 150 MiB."""
    many_files(tmp_path)
    answer = drained(tmp_path, sink)
    assert answer["uploaded"] == MANY
    assert answer["peak"] <= LIMIT  # type: ignore[operator]


@pytest.mark.slow
def test_a_large_file_goes_in_flat_memory(tmp_path: Path, sink: Sink) -> None:
    """A large file goes in parts that never take more than 150 MiB together."""
    path = tmp_path / "results" / "checkpoint.bin"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(LARGE)
    moment = time.time() - 60
    os.utime(path, (moment, moment))
    answer = drained(tmp_path, sink)
    assert answer["uploaded"] == 1
    assert sink.received == LARGE
    assert answer["peak"] <= LIMIT  # type: ignore[operator]

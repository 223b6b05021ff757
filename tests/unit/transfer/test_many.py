"""Memory of transferring very many files, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

FILES = 100_000
MOST_MIB = 250

# The peak is the process's own (VmHWM): getrusage would begin with that of its parent.
UPLOAD = """
import json, sys
from pathlib import Path
import boto3
from codeferry_transfer.location import Location
from codeferry_transfer.s3 import S3
from codeferry_transfer.transfers import Options, upload_tree
s3 = S3(boto3.Session(), endpoint_url=sys.argv[1])
summary = upload_tree(s3, Path(sys.argv[2]), Location("bucket", "p"), Options()).run()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) // 1024
print(json.dumps({"files": summary.files, "failed": len(summary.failures), "peak_mib": peak}))
"""


class _Taking(StreamRequestHandler):
    """Takes whatever is put. A stand-in, because what is measured is the client alone and a
    whole S3 would need minutes for so many objects."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                line = self.rfile.readline()
            self.rfile.read(length)
            self.wfile.write(b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n')


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def taking() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Taking) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def plant_many(root: Path) -> None:
    """Links, which are quicker to make than files."""
    models = [root / f"model{number}" for number in range(10)]
    root.mkdir()
    for model in models:
        model.write_bytes(b"x")
    for directory in range(100):
        place = root / f"directory_{directory:02}"
        place.mkdir()
        for number in range(FILES // 100):
            os.link(models[number % 10], place / f"a_file_with_a_name_{number:04}.bin")


@pytest.mark.slow
def test_a_hundred_thousand_files_go_up_in_250_mib(taking: str, tmp_path: Path) -> None:
    """Planning and uploading 100,000 files never has more than 250 MiB resident."""
    plant_many(tmp_path / "many")
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD, taking, str(tmp_path / "many")],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["files"], told["failed"]) == (FILES + 10, 0)
    assert told["peak_mib"] <= MOST_MIB, told
    print(told)

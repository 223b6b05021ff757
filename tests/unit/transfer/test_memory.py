"""Memory of packing and uploading very many files, in a process of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeferry_transfer import PART_SIZE

MIB = 1 << 20
FILES = 100_000
DIRECTORIES = 100
FILE_BYTES = 1700
MOST_MIB = 200

# What `ferry push` does until the run starts, the stage being known. The peak is the
# process's own (VmHWM): getrusage would begin with that of the one it was forked from.
PUSH = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import codeferry_cli.main
from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.options.groups import Packing
from codeferry_cli.packing.project import prepare
from codeferry_cli.terminal.progress import PlainProgress
from codeferry_cli.views.run_view import upload_archive
root, bucket = sys.argv[1:]
aws = Aws(Access())
others = [aws.client(name) for name in ("cloudformation", "stepfunctions")]
stage = SimpleNamespace(aws=aws, bucket=bucket)
prepared = prepare(Path(root), Packing(project="many"))
packed = upload_archive(stage, prepared, "many.tar.gz", PlainProgress()).packed
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) // 1024
print(json.dumps({"files": packed.summary.files, "size": packed.size, "peak_mib": peak}))
"""


def plant_many(root: Path) -> None:
    """Files that do not compress, so that several parts go up; links are quicker to make."""
    chooser = random.Random(100)
    models = root / "models"
    models.mkdir(parents=True)
    for number in range(DIRECTORIES):
        (models / f"{number}.bin").write_bytes(chooser.randbytes(FILE_BYTES))
    for directory in range(DIRECTORIES):
        place = root / f"directory_{directory:02}"
        place.mkdir()
        for number in range(FILES // DIRECTORIES):
            source = models / f"{number % DIRECTORIES}.bin"
            os.link(source, place / f"a_file_with_a_name_{number:04}.bin")


@pytest.mark.slow
def test_a_hundred_thousand_files_go_up_in_200_mib(
    ministack: str, client: Any, bucket: str, tmp_path: Path
) -> None:
    """Selecting, packing and uploading 100,000 files never has more than 200 MiB resident."""
    root = tmp_path / "many"
    plant_many(root)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    command = [sys.executable, "-c", PUSH, str(root), bucket]
    environment = {**os.environ, "AWS_ENDPOINT_URL": ministack}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["files"] == FILES + DIRECTORIES
    assert told["size"] > 10 * PART_SIZE, "the upload's buffers have to be full at some time"
    assert told["size"] == client.head_object(Bucket=bucket, Key="many.tar.gz")["ContentLength"]
    assert told["peak_mib"] <= MOST_MIB

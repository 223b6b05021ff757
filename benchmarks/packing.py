"""How long packing takes, as a ratio to what people would type instead.

    .venv/bin/python benchmarks/packing.py [--quick]

Generates each tree in a temporary directory, then runs, in turn and several times, the
packer (selecting, hashing, looking for credentials, manifest) and
``git ls-files -co --exclude-standard -z | tar --null -T - -cz`` (tar czf where there is no
repository), and the same with ``pigz -p2`` if it is installed. Each time is the best of
its runs; the ratios are those within this process's run. Also: the size of the archive
and the packer's own peak memory, measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
WORDS = Path(os.__file__).read_text().split()

_PACK = """
import json, resource, sys, time
from pathlib import Path
from codeferry_cli.packing import pack, select
begin = time.perf_counter()
size = 0
with open(sys.argv[2], "wb") as out:
    for piece in pack(select(Path(sys.argv[1])), "bench"):
        size += out.write(piece)
seconds = time.perf_counter() - begin
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"seconds": seconds, "size": size, "memory": memory}))
"""


@dataclass(frozen=True)
class Figure:
    """Best ``seconds``, archive ``size`` in bytes, peak ``memory`` in MiB where known."""

    seconds: float
    size: int
    memory: int = 0


def source(length: int, chooser: random.Random) -> bytes:
    """Text that compresses about like source code."""
    words = " ".join(chooser.choice(WORDS) for _ in range(length // 6 + 1))
    return words.encode()[:length]


def small_files(root: Path, count: int, length: int) -> None:
    chooser = random.Random(count)  # noqa: S311 - the same tree every time
    for number in range(count):
        path = root / f"package{number % 97}" / f"module_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source(chooser.randrange(length // 2, 2 * length), chooser))


def project_with_ignored(root: Path, count: int) -> None:
    """A project of ``count`` files beside an ignored environment ten times as large."""
    small_files(root, count, 5000)
    environment = root / ".venv"
    environment.mkdir()
    small_files(environment, count * 10, 300)
    (root / ".gitignore").write_text(".venv/\n")


def binaries(root: Path, mebibytes: int) -> None:
    """Machine code, which compresses a little, and random bytes, which do not."""
    code = Path(os.path.realpath(sys.executable)).read_bytes()[: 4 * MIB]
    with (root / "weights.bin").open("wb") as out:
        for index in range(mebibytes // 4):
            out.write(code if index % 4 == 0 else os.urandom(4 * MIB))


def packed(root: Path, out: Path) -> Figure:
    command = [sys.executable, "-c", _PACK, str(root), str(out)]
    done = subprocess.run(command, check=True, capture_output=True)
    return Figure(**json.loads(done.stdout))


def tarred(compressor: str) -> Callable[[Path, Path], Figure]:
    def run(root: Path, out: Path) -> Figure:
        listing = "git ls-files -co --exclude-standard -z | tar --null -T - -cf - -I"
        begin = time.perf_counter()
        with out.open("wb") as stream:
            command = ["/bin/sh", "-c", f"{listing} '{compressor}'"]
            subprocess.run(command, cwd=root, stdout=stream, check=True)
        return Figure(time.perf_counter() - begin, out.stat().st_size)

    return run


def best(method: Callable[[Path, Path], Figure], root: Path, out: Path, runs: int) -> Figure:
    return min((method(root, out) for _ in range(runs)), key=lambda figure: figure.seconds)


def compare(name: str, root: Path, out: Path, runs: int) -> None:
    """Print one row per tool for one tree."""
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    rivals = {"tar | gzip": tarred("gzip")}
    if shutil.which("pigz"):
        rivals["tar | pigz -p2"] = tarred("pigz -p2")
    ours = best(packed, root, out, runs)
    print(f"{name:38} {'ferry':15} {row(ours)} {ours.memory:5} MiB")
    for rival, method in rivals.items():
        theirs = best(method, root, out, runs)
        time_ratio, size_ratio = ours.seconds / theirs.seconds, ours.size / theirs.size
        print(f"{'':38} {rival:15} {row(theirs)} ratio {time_ratio:.2f}, size {size_ratio:.2f}")


def row(figure: Figure) -> str:
    return f"{figure.seconds:7.2f} s {figure.size / MIB:8.1f} MiB"


TREES: dict[str, tuple[Callable[[Path, int], None], int, int]] = {
    "files beside an ignored .venv": (project_with_ignored, 2_000, 200),
    "small files of about 6 KB": (lambda root, n: small_files(root, n, 5000), 50_000, 1_000),
    "tiny files of about 250 bytes": (lambda root, n: small_files(root, n, 200), 100_000, 2_000),
    "MiB in one file": (lambda root, n: binaries(root, n), 1024, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small trees, one run: does it work?")
    quick = parser.parse_args().quick
    for name, (plant, whole, small) in TREES.items():
        count = small if quick else whole
        with tempfile.TemporaryDirectory(prefix="ferry-bench-") as directory:
            root = Path(directory) / "tree"
            root.mkdir()
            plant(root, count)
            compare(f"{count:,} {name}", root, Path(directory) / "out", 1 if quick else 3)


if __name__ == "__main__":
    main()

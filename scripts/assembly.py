"""The cloud assembly as one file, so that what was reviewed is what is deployed.

``pack`` synthesises and prints ``sha256=…``; ``unpack`` refuses any other archive. The same
sources give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CDK = ROOT / "scripts" / "cdk.py"


class WrongAssembly(Exception):
    """The archive is not the one that was asked for."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pack or unpack the cloud assembly.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--stage", required=True)
    packing.add_argument(
        "--context", default="", help='as for the CDK: "fleet=workers fleet_max=5"'
    )
    packing.add_argument("archive", type=Path)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("--sha256", required=True)
    unpacking.add_argument("archive", type=Path)
    unpacking.add_argument("directory", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "pack":
            print(f"sha256={make(chosen.stage, chosen.context, chosen.archive)}")
        else:
            unpack(chosen.archive, chosen.sha256, chosen.directory)
    except WrongAssembly as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make(stage: str, context: str, archive: Path) -> str:
    """Synthesise into ``archive``; its SHA-256 in hex."""
    options = context_options(stage, context)
    if any(option.startswith("fleet=") for option in options):
        build = [sys.executable, "-m", "bootstrap.agent"]
        subprocess.run(build, cwd=ROOT, check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="codeferry-assembly-") as directory:
        command = [sys.executable, str(CDK), "synth", "--quiet", "--output", directory]
        subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=sys.stderr)
        pack(Path(directory), archive)
    return digest(archive)


def context_options(stage: str, context: str) -> list[str]:
    """``-c name=value`` for the stage and each word of ``context``."""
    options = []
    for word in (f"stage={stage}", *context.split()):
        if "=" not in word:
            raise WrongAssembly(f"{word!r} in the context is not of the form name=value.")
        options += ["-c", word]
    return options


def pack(directory: Path, archive: Path) -> None:
    """A tar.gz of ``directory`` without times, owners or order of the file system."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(directory.rglob("*")):
            name = str(path.relative_to(directory))
            tar.add(path, arcname=name, recursive=False, filter=_plain)


def unpack(archive: Path, sha256: str, directory: Path) -> None:
    """Extract ``archive`` if it has that digest. Raises WrongAssembly."""
    found = digest(archive)
    if found != sha256:
        raise WrongAssembly(f"{archive} has SHA-256 {found}, but {sha256} was reviewed.")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")


def digest(archive: Path) -> str:
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


if __name__ == "__main__":
    sys.exit(main())

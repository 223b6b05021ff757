"""Build codeferry-agent.pyz: the agent and all it needs in one file, for Python >= 3.11.

    python scripts/build_agent.py build/codeferry-agent.pyz

Copied from the locked environment this runs in: no network, and the same bytes each time. It
is pure Python, so one file serves every architecture. Of botocore's service models, some
100 MB, it takes the ones that credentials and S3 need.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePath

from packaging.requirements import Requirement

from stacks.libraries import make_readable, required_libraries

ROOT = Path(__file__).resolve().parent.parent
AGENT = "codeferry-agent"
OURS = {
    AGENT: ROOT / "agent" / "src" / "codeferry_agent",
    "codeferry-contracts": ROOT / "contracts" / "src" / "codeferry_contracts",
    "codeferry-transfer": ROOT / "transfer" / "src" / "codeferry_transfer",
}
MODELS = {"s3", "signin", "sso", "sso-oidc", "sts"}
ENTRY = "codeferry_agent.main:main"


def _applies(requirement: Requirement) -> bool:
    """Whether it is for an agent without extras, on Linux."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def gather(place: Path) -> None:
    """Copy the agent and its closure to ``place``, as an installation would lay them out."""
    for name in sorted(required_libraries(AGENT, _applies)):
        library = distribution(name)
        if name in OURS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(OURS[name], place / OURS[name].name, ignore=ignored)
            _copy_metadata(library, place)
        else:
            _copy(library, place)


def _copy(library: Distribution, place: Path) -> None:
    for file in library.files or ():
        if file.suffix in (".so", ".pyd"):
            raise SystemExit(f"{library.name} has compiled parts: one file would not do for all.")
        if _wanted(file):
            destination = place / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), destination)


def _wanted(file: PurePath) -> bool:
    if ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".pyc":
        return False
    if file.parts[0] in ("boto3", "botocore") and "data" in file.parts[1:-2]:
        return file.parts[2] in MODELS
    # RECORD has the digest of installed commands, and they name this environment's directory.
    return file.name != "RECORD" and not (file.parts[0] == "boto3" and "examples" in file.parts)


def _copy_metadata(library: Distribution, place: Path) -> None:
    """``codeferry-agent --version`` reads it."""
    home = place / f"{library.name.replace('-', '_')}-{library.version}.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(library.read_text("METADATA") or "")


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "codeferry-agent.pyz"
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="codeferry-agent-") as temporary:
        place = Path(temporary) / "site-packages"
        place.mkdir()
        gather(place)
        make_readable(place)
        shiv = Path(sys.executable).with_name("shiv")
        # Beside its place first: whoever builds or reads it at the same time has a whole one.
        built = output.with_name(f".{output.name}.{os.getpid()}")
        options = ["--reproducible", "--compressed", "-e", ENTRY, "-o", str(built)]
        subprocess.run([shiv, "--site-packages", place, *options], check=True)
        built.replace(output)
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

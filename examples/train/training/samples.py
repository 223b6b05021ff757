"""Reading the samples."""

from __future__ import annotations

import csv
from pathlib import Path


def load(path: Path) -> tuple[list[float], list[float]]:
    """The columns x and y of a CSV file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row["x"]) for row in rows], [float(row["y"]) for row in rows]

"""What a run takes beside the work on the instance, and what it costs.

    .venv/bin/python benchmarks/control_plane.py

Starts the embedded AWS with one instance. Pushes a tree whose archive has a megabyte
several times, each time changed, and prints the time from StartExecution to SUCCEEDED less
the time inside ``apply`` (its own figures, from the report). Then the wall time of whole
pushes of a 2,000-file project. The first push is a warm-up: it starts the Lambda workers.
Last, the calls and list price of runs by fleet size, as the report states them.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from codeferry_contracts.cost import estimate
from codeferry_contracts.local_stage import HOME_VARIABLE
from codeferry_lambdas.waves import schedule
from codeferry_local.home import Home
from codeferry_local.process import Supervisor

ROUNDS = 5
FLEETS = (1, 50, 120, 1_000, 10_000)
FERRY = Path(sys.executable).with_name("ferry")


def project(root: Path, files: int, size: int) -> Path:
    """``files`` files of ``size`` bytes each, which do not compress."""
    chance = random.Random(files)  # noqa: S311 - the same tree each time
    for number in range(files):
        path = root / f"package{number % 40}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    (root / "requirements.txt").write_text("")
    return root


def push(home: Home, root: Path, verb: str = "push", *command: str) -> tuple[float, dict[str, Any]]:
    """One push, or another verb, of a changed tree; its wall seconds and the report."""
    (root / "changed.py").write_text(f"x = {time.time_ns()}\n")
    began = time.perf_counter()
    done = subprocess.run(
        [FERRY, verb, "demo", root, "--stage", "local", "--json", *command],
        env=os.environ | {HOME_VARIABLE: str(home.path)},
        capture_output=True,
        check=True,
    )
    wall = time.perf_counter() - began
    answer = json.loads(done.stdout)
    report: dict[str, Any] = answer["report"]
    return wall, report


def beside_apply(report: dict[str, Any]) -> float:
    """Seconds of the run that were not spent inside ``apply``."""
    began, ended = (datetime.fromisoformat(report[key]) for key in ("started_at", "finished_at"))
    inside = max(sum(outcome["seconds"].values()) for outcome in report["instances"])
    return (ended - began).total_seconds() - inside


def measure(place: Path) -> None:
    home = Home(place / "aws")
    supervisor = Supervisor.start(home, instances=1, target="demo", attached=True)
    try:
        small = project(place / "small", 20, 50_000)
        large = project(place / "large", 2_000, 4_000)
        push(home, small)
        runs = [beside_apply(push(home, small)[1]) for _ in range(ROUNDS)]
        walls = [push(home, large)[0] for _ in range(ROUNDS)]
        # In turn, so that what else the machine does falls on both alike.
        pairs = [
            (push(home, small)[0], push(home, small, "run", "--", "true")[0]) for _ in range(ROUNDS)
        ]
    finally:
        supervisor.stop()
    show("1 MB to one instance, the run less apply", runs)
    show("push of 2,000 files to one instance, all of it", walls)
    show("what `ferry run -- true` takes beyond `ferry push`", [run - only for only, run in pairs])


def show(what: str, seconds: list[float]) -> None:
    middle, most = statistics.median(seconds), max(seconds)
    print(f"{what}: median {middle:.2f} s, most {most:.2f} s of {len(seconds)}")


def prices() -> None:
    print("\n| instances | batches | transitions | function calls | S3 writes | list price |")
    print("|---|---|---|---|---|---|")
    for fleet in FLEETS:
        cut = schedule(fleet, "100%")
        cost = estimate(batches=len(cut.sizes), waves=len(cut.waves), instances=fleet)
        counts = (cost["state_transitions"], cost["function_calls"], cost["s3_writes"])
        middle = " | ".join(f"{count:,}" for count in counts)
        print(f"| {fleet:,} | {len(cut.sizes):,} | {middle} | ${cost['usd']:.4f} |")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="codeferry-bench-") as place:
        measure(Path(place))
    prices()


if __name__ == "__main__":
    main()

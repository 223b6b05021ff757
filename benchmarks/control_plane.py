"""What a run takes beside the work on the instance, and what it costs.

    .venv/bin/python benchmarks/control_plane.py

Starts the embedded AWS with one instance. Pushes a tree whose archive has a megabyte
several times, each time changed, and prints the time from StartExecution to SUCCEEDED less
the time inside ``apply`` (its own figures, from the report). Then the wall time of whole
pushes of a 2,000-file project. The first push is a warm-up: it starts the Lambda workers.
First what a signature costs an instance. Last, the calls and list price of runs by fleet size, as
the report states them.
"""

from __future__ import annotations

import hashlib
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
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from codeferry_agent.run.signature import PinnedKey
from codeferry_cli.aws.signing import sign_request
from codeferry_contracts.cost import estimate
from codeferry_contracts.local_stage import HOME_VARIABLE
from codeferry_contracts.request import Archive, RunRequest
from codeferry_lambdas.fleet.batches import schedule
from codeferry_local.home import Home
from codeferry_local.process import Supervisor
from codeferry_local.supervisor import make_key

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


def signatures(place: Path) -> None:
    """What a signature costs an instance, beside the SHA-256 that it makes anyway."""
    make_key(place / "key.pem")
    local = SimpleNamespace(signing_key=str(place / "key.pem"))
    stage: Any = SimpleNamespace(name="dev", signing="file", aws=SimpleNamespace(local=local))
    request = RunRequest(Archive("archives/a.tar.gz"), "demo", "demo")
    signature = sign_request(stage, "sync", request, archive="a" * 64, digest="b" * 64)
    key = load_pem_private_key((place / "key.pem").read_bytes(), None)
    assert signature
    assert isinstance(key, RSAPrivateKey)
    payload = SimpleNamespace(
        run_id="run-1", project="demo", sha256="a" * 64, digest="b" * 64, command=[], health=[],
        install=False, user="", persist=list(request.options.persist), environment=False,
        signature=signature.delivered(),
    )  # fmt: skip
    modulus = f"{key.public_key().public_numbers().n:x}"
    variables = {"CODEFERRY_STAGE": "dev", "CODEFERRY_SIGNING_KEY": modulus}
    body, checks, hashes = bytes(10 << 20), [], []
    for _ in range(20 * ROUNDS):
        began = time.perf_counter()
        trust = PinnedKey(variables, place, "sync")
        trust.check(payload)
        trust.check_newer(payload)
        trust.note(payload)
        between = time.perf_counter()
        hashlib.sha256(body)
        checks.append(between - began)
        hashes.append(time.perf_counter() - between)
    ratio = statistics.median(checks) / statistics.median(hashes)
    print(
        f"a signature on the instance: median {statistics.median(checks) * 1000:.2f} ms, most "
        f"{max(checks) * 1000:.2f} ms; {ratio:.2f} of the SHA-256 of 10 MiB"
    )


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
        signatures(Path(place))
        measure(Path(place))
    prices()


if __name__ == "__main__":
    main()

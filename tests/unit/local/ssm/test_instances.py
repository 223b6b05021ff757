"""The null executor: a fleet that costs no process still answers like instances."""

from __future__ import annotations

from pathlib import Path

from codeferry_contracts.parameters import Payload, ssm_parameters
from codeferry_contracts.result import parse_result
from tests.unit.local.ssm.conftest import INSTANCE, Bench

PAYLOAD = Payload(
    run_id="run-1",
    project="demo",
    url="https://example.com/a",
    sha256="a" * 64,
    size=10,
    digest="e" * 64,
    unpacked_bytes=1,
    unpacked_files=1,
    files=7,
    keep_releases=5,
    strict=False,
    user="",
    persist=(),
    expect_files=(),
    expect_directories=(),
)
TEXT = {"type": "String", "default": ""}


def test_it_applies_what_the_payload_says(bench: Bench) -> None:
    """Its result line is the run's own, with the manifest's tree."""
    bench.server.add_instance(INSTANCE, Path("/nowhere"), executor="null")
    bench.document("false", parameters={"runId": TEXT, "payload": TEXT})
    invocation = bench.ran(Parameters={**ssm_parameters(PAYLOAD, 60)})
    result = parse_result(invocation["StandardOutputContent"])
    assert (result.run_id, result.status, result.project) == ("run-1", "applied", "demo")
    assert (result.digest, result.release_id, result.files) == ("e" * 64, "e" * 20, 7)
    assert result.manifest

"""verify: does every instance hold what the archive held?"""

from __future__ import annotations

import pytest

from codeferry_contracts.archive import Entry, Manifest, summarise
from codeferry_lambdas.aws import clients
from codeferry_lambdas.handlers import verify as verify_handler
from codeferry_lambdas.runs.record import PinnedArchive, Record, Run
from codeferry_lambdas.runs.verification import verify
from tests.unit.lambdas.factories import (
    ENTRIES,
    KEY,
    event,
    instances,
    outcome,
    packed_archive,
    plan,
)

ONE, TWO, THREE = instances(3)
SUMMARY = summarise("demo", ENTRIES)
TRUE = {"digest": SUMMARY.digest, "release_id": SUMMARY.release_id, "files": 2, "bytes": 8}


def upload(record: Record) -> PinnedArchive:
    body = packed_archive()
    put = clients.s3().put_object(Bucket=record.bucket, Key=KEY, Body=body)
    return PinnedArchive(KEY, put["VersionId"], len(body), "c" * 64)


def test_all_agree(record: Record, run: Run) -> None:
    """Instances that report the manifest's tree are verified; its Python files are listed."""
    record.write_plan(plan(2, archive=upload(record)))
    record.write_outcomes(0, [outcome(ONE, **TRUE), outcome(TWO, **TRUE)])
    verify_handler.handler(event(run), None)
    found = record.read(run.keys.verification)
    assert (found["source"], found["verified"], found["mismatched"]) == ("manifest", 2, [])
    assert (found["python_files"], found["python_file_count"]) == (["app.py"], 1)


@pytest.mark.parametrize(
    "wrong", [{"digest": "0" * 64}, {"release_id": "0" * 20}, {"files": 1}, {"digest": ""}]
)
def test_one_differs(record: Record, run: Run, wrong: dict[str, str]) -> None:
    """An instance that reports another tree fails the run by name, and is on record."""
    record.write_plan(plan(2, archive=upload(record)))
    record.write_outcomes(0, [outcome(ONE, **TRUE), outcome(TWO, **{**TRUE, **wrong})])
    with pytest.raises(Exception, match=TWO.instance_id) as raised:
        verify_handler.handler(event(run), None)
    assert type(raised.value).__name__ == "VerificationFailed"
    assert record.read(run.keys.verification)["mismatched"] == [TWO.instance_id]


def test_failed_instances_are_not_compared() -> None:
    """Only who succeeded can disagree."""
    found = verify([outcome(ONE, status="failed", digest="0")], Manifest(SUMMARY, ENTRIES))
    assert (found["verified"], found["mismatched"]) == (0, [])


def test_without_a_manifest() -> None:
    """Without a manifest the instances are compared with what most of them report."""
    odd = outcome(TWO, digest="0" * 64)
    found = verify([outcome(ONE), odd, outcome(THREE)], None)
    assert (found["source"], found["verified"]) == ("instances", 2)
    assert found["mismatched"] == [TWO.instance_id]
    assert found["digest"] == "e" * 64


def test_nobody_succeeded() -> None:
    """A run in which nobody succeeded has nothing to verify and no mismatch."""
    found = verify([outcome(ONE, status="failed")], None)
    assert (found["verified"], found["mismatched"], found["digest"]) == (0, [], "")


def test_unmet_expectations_are_warnings() -> None:
    """What should exist and does not is a warning that names instance and path."""
    found = verify([outcome(ONE, unmet=["train.py"])], None)
    assert found["warnings"] == [f"{ONE.instance_id}: train.py does not exist."]


def test_long_lists_are_cut() -> None:
    """The record lists a thousand Python files and counts all of them."""
    entries = tuple(Entry(f"{n:05d}.py", 0o644, 1, "a" * 64) for n in range(1500))
    found = verify([], Manifest(summarise("demo", entries), entries))
    assert (len(found["python_files"]), found["python_file_count"]) == (1000, 1500)


def test_names_that_are_not_text() -> None:
    """A name that is not UTF-8 is listed readably."""
    entries = (Entry("\udcff.py", 0o644, 1, "a" * 64),)
    found = verify([], Manifest(summarise("demo", entries), entries))
    assert found["python_files"] == [r"\xff.py"]

"""Signed releases: what plan lets through, and dispatch sends."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_contracts import signing
from codeferry_contracts.layout import ReleaseKeys, environment_key
from codeferry_contracts.parameters import document_description
from codeferry_contracts.request import Signature, parse_request
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import dispatch, start
from codeferry_lambdas.releases import archives
from codeferry_lambdas.releases.last_good import update_last_good
from codeferry_lambdas.releases.late_joiners import LateJoiners, request_for
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs.cleanup import clean_up
from codeferry_lambdas.runs.record import Record, Run
from tests.unit.agent.signatures import modulus, value_of
from tests.unit.lambdas.conftest import BUCKET
from tests.unit.lambdas.factories import KEY, event, instances, outcome, packed_archive
from tests.unit.lambdas.factories import plan as made_plan
from tests.unit.lambdas.fleet.test_targets import answer, launch
from tests.unit.lambdas.planning.test_plan import AGENT, DOCUMENT, planned, refused, upload

BODY = packed_archive()
INBOX = "inbox/web/demo.tar.gz"


@pytest.fixture
def strict(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A stage that takes signed releases only."""
    monkeypatch.setenv("SIGNING_KEY", modulus())
    return Settings.from_env()


@pytest.fixture
def fleet(strict: Settings, ssm: Stubber) -> list[str]:
    """Two instances of the target, and what plan asks SSM before it judges."""
    ids = launch(2, codeferry="web")
    answer(ssm, *ids)
    found = {"DocumentVersion": "7", "Hash": "f" * 64, "Description": _description()}
    ssm.add_response("describe_document", {"Document": found}, {"Name": DOCUMENT})
    upload(body=BODY)
    return ids


def _description(key: str = "ours") -> str:
    return document_description("sync", AGENT, modulus(key))


def sign(request: dict[str, Any], key: str = "ours", **stated: Any) -> dict[str, Any]:
    """The request as ferry signs it."""
    fields: dict[str, Any] = {
        "value": "",
        "sequence": 2000,
        "target": request["target"],
        "expires_at": int(time.time()) + 60,
    } | stated
    unsigned, asked = Signature(**fields), parse_request(request)
    manifest = archives.read_manifest(BUCKET, archives.PinnedArchive(KEY, "null", len(BODY), ""))
    assert manifest
    message = signing.message(
        unsigned.delivered(),
        stage="dev",
        workflow="sync",
        project=asked.project or "demo",
        archive=hashlib.sha256(BODY).hexdigest(),
        digest=manifest.summary.digest,
        command=asked.command,
        health=asked.options.rollout.health if asked.options.rollout else (),
        install=asked.options.install,
        user=asked.options.user or "",
        persist=asked.options.persist,
    )
    signed = dataclasses.replace(unsigned, value=value_of(message, key))
    return request | {"signature": signed.to_json()}


PLAIN: dict[str, Any] = {"archive": {"key": KEY}, "target": "web"}


def test_a_signed_run_is_planned(fleet: list[str], run: Run, record: Record) -> None:
    planned(run, sign(PLAIN, run_id=run.id))
    told = record.plan().run_request.signature
    assert told
    assert told.sequence == 2000


REFUSED = {
    "unsigned": (PLAIN, {}, {}, "signature_missing"),
    "another key": (PLAIN, {"key": "theirs"}, {}, "signature_invalid"),
    "another run": (PLAIN, {"run_id": "run-2"}, {}, "signature_invalid"),
    "expired": (PLAIN, {"expires_at": 1}, {}, "signature_expired"),
    "of a kept release": (PLAIN, {"expires_at": 0}, {}, "signature_expired"),
    "from the future": (PLAIN, {"sequence": 1 << 49}, {}, "signature_invalid"),
    "a command": (PLAIN, {}, {"command": ["id"]}, "signature_invalid"),
    "another command": (PLAIN | {"command": ["a"]}, {}, {"command": ["b"]}, "signature_invalid"),
    "another user": (PLAIN, {}, {"options": {"user": "root"}}, "signature_invalid"),
    "install": (PLAIN, {}, {"options": {"install": True}}, "signature_invalid"),
    "another project": (PLAIN, {}, {"project": "other"}, "signature_invalid"),
    "variables that were not": (
        PLAIN | {"command": ["a"]},
        {},
        {"environment": {"key": environment_key("run-1")}},
        "signature_invalid",
    ),
    "other variables": (
        PLAIN | {"command": ["a"], "environment": {"key": environment_key("run-1")}},
        {"environment": "a" * 64},
        {},
        "signature_invalid",
    ),
    "no variables": (
        PLAIN | {"command": ["a"]},
        {"environment": "a" * 64},
        {},
        "signature_invalid",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_not_signed_is_refused_in_plan(fleet: list[str], run: Run, name: str) -> None:
    request, signature, changed, code = REFUSED[name]
    clients.s3().put_object(
        Bucket=BUCKET, Key=environment_key("run-1"), Body=b"{}", ChecksumAlgorithm="SHA256"
    )
    asked = request if code == "signature_missing" else sign(request, **signature)
    error = refused(run, asked | changed)
    assert type(error).__name__ == "SignatureRefused"
    assert json.loads(str(error))["code"] == code


def test_another_archive_is_refused(fleet: list[str], run: Run) -> None:
    signed = sign(PLAIN)
    upload(body=packed_archive("demo2"))
    assert json.loads(str(refused(run, signed)))["code"] == "signature_invalid"


def test_an_older_release_is_refused_and_the_same_is_not(
    fleet: list[str], run: Run, strict: Settings
) -> None:
    from codeferry_lambdas.runs.ledger import Ledger

    ledger = Ledger(strict.table)
    assert ledger.note_signed("web", "demo", 2000)
    assert ledger.note_signed("web", "demo", 2000)
    assert ledger.note_signed("web", "other", 1)
    assert json.loads(str(refused(run, sign(PLAIN, sequence=1999))))["code"] == "signature_replayed"


def test_instances_outside_of_the_signed_target_are_not_reached(
    strict: Settings, ssm: Stubber, run: Run
) -> None:
    """The kept release of one target is not sent to another's instances."""
    upload(body=BODY)
    (theirs,), ours = launch(1, codeferry="db"), launch(1, codeferry="web")
    answer(ssm, theirs)
    found = {"DocumentVersion": "7", "Hash": "f" * 64, "Description": _description()}
    ssm.add_response("describe_document", {"Document": found}, {"Name": DOCUMENT})
    answer(ssm, *ours)
    signed = sign(PLAIN) | {"target": theirs}
    error = json.loads(str(refused(run, signed)))
    assert error["code"] == "signature_target"
    assert theirs in error["message"]


def test_an_upload_brings_its_signature_beside_it(
    fleet: list[str], run: Run, record: Record
) -> None:
    upload(INBOX, BODY)
    signed = sign(PLAIN)["signature"]
    clients.s3().put_object(
        Bucket=BUCKET, Key="inbox/web/demo.sig", Body=json.dumps(signed).encode()
    )
    planned(run, {"archive": {"key": INBOX}, "target": "web"})
    assert record.plan().run_request.signature


@pytest.mark.parametrize("content", [None, b"", b"no JSON", b"[]", b'{"value": 1}'])
def test_an_upload_without_a_signature_says_where_it_belongs(
    strict: Settings, run: Run, content: bytes | None
) -> None:
    upload(INBOX, BODY)
    if content is not None:
        clients.s3().put_object(Bucket=BUCKET, Key="inbox/web/demo.sig", Body=content)
    error = json.loads(str(refused(run, {"archive": {"key": INBOX}, "target": "web"})))
    assert error["code"] == "signature_missing"
    assert "inbox/web/demo.sig" in error["message"]


def test_a_signature_starts_no_run_and_goes_with_its_archive(
    strict: Settings, states: Stubber, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_MACHINE_ARN_SYNC", "arn")
    detail = {"bucket": {"name": BUCKET}, "object": {"key": "inbox/web/demo.sig"}}
    start.handler({"detail": detail}, None)
    for key in (INBOX, "inbox/web/demo.sig"):
        clients.s3().put_object(Bucket=BUCKET, Key=key, Body=b"x")
    clean_up(strict, run, {"archive": {"key": INBOX}})
    assert "Contents" not in clients.s3().list_objects_v2(Bucket=BUCKET, Prefix="inbox/")


def test_a_kept_release_keeps_its_signature_for_who_joins_later(strict: Settings, run: Run) -> None:
    body = upload(body=BODY)
    stated = {"value": "AAAA", "kept": "BBBB", "sequence": 5, "target": "web", "expires_at": 9}
    made = made_plan(1, request=PLAIN | {"signature": stated})
    assert made.archive
    made = dataclasses.replace(
        made, archive=dataclasses.replace(made.archive, version_id=body, size=len(BODY))
    )
    from datetime import UTC, datetime

    (one,) = instances(1)
    update_last_good(ReleaseStore(BUCKET), run, made, [outcome(one)], datetime.now(UTC))
    kept = ReleaseStore(BUCKET).find(ReleaseKeys("web", "demo").record)
    assert kept
    assert kept.archive
    request = request_for(LateJoiners(kept, kept.archive, ("i-1",)), ["i-1"])
    assert request["signature"] == {"value": "BBBB", "sequence": 5, "target": "web"}


@pytest.mark.parametrize("description", ["", document_description("sync", AGENT), "theirs"])
def test_a_document_that_asks_for_no_signature_is_not_sent(
    strict: Settings, ssm: Stubber, run: Run, record: Record, description: str
) -> None:
    """Who writes the bucket may name an earlier version of the document in the record."""
    record.write_plan(made_plan(2))
    described = _description("theirs") if description == "theirs" else description
    ssm.add_response(
        "describe_document",
        {"Document": {"Description": described}},
        {"Name": DOCUMENT, "DocumentVersion": "3"},
    )
    with pytest.raises(Exception, match="does not ask") as raised:
        dispatch.handler(event(run, batch=0), None)
    assert type(raised.value).__name__ == "SignatureRefused"

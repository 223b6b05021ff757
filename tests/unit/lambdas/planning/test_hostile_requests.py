"""Ten thousand hostile strings, in every field of a request: refused, or carried byte-exact."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.awsrequest import AWSResponse

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import RUN_ID_PATTERN, inbox_run_id, require
from codeferry_contracts.parameters import (
    PAYLOAD_PARAMETER,
    PAYLOAD_PATTERN,
    RUN_ID_PARAMETER,
    TIMEOUT_PARAMETER,
    decode_payload,
)
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.handlers import start
from codeferry_lambdas.planning import plan
from codeferry_lambdas.planning.request import read_request
from codeferry_lambdas.releases import archives
from codeferry_lambdas.runs.command import command_arguments
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import PinnedDocument, Plan, Run
from tests.unit.lambdas.factories import KEY, instances

SEED, STRINGS = 20261120, 10_000
PIECES = (
    *("$(id)", "`id`", "; rm -rf /", "&& reboot", "| sh", "'", '"', "\\", "\\n", "{{ payload }}"),
    *("{{runId}}", "${HOME}", "$IFS", "%s", "%00", "%2e%2e%2f", "../", "..", "/", "//", "./", "~"),
    *("-rf", "--", "*", "?", "[a]", "<x>", "&amp;", "\n", "\r\n", "\t", "\0", "\x1b[2J", "\x7f"),
    *("é", "e\u0301", "\u202e", "\u2028", "\ufeff", "\U0001f4a5", "\ud800", "\udcff", "\udc80"),
    *("archives/", "inbox/", "runs/", ".tar.gz", "i-0123456789abcdef0", "tag:", "asg:", "all"),
    *("=", ":", "1", "100%", "-1", "9" * 30, "a", "Z", "_", " ", "  ", "CODEFERRY_END_OF_SOURCE"),
    *("AAAA", "x" * 200, "X-Amz-Signature", "$.error", "States.ALL", "null", "true", "{}", "[]"),
)
FIELDS = (
    *("archive.key", "archive.sha256", "archive.version_id", "project", "target", "upload"),
    *("expect.files", "expect.directories", "options.persist", "options.user", "unknown"),
    *("options.max_concurrency", "options.max_errors", "options.timeout_seconds"),
    *("options.keep_releases", "options.strict", "archive", "expect", "options", "whole"),
    *("command", "environment.key"),
)
LISTS = ("expect.files", "expect.directories", "options.persist", "command")
FRAMES = {  # so that a good share gets past the first check
    "archive.key": ("archives/{}.tar.gz", "inbox/web/{}.tar.gz"),
    "upload": ("inbox/web/{}.tar.gz", "inbox/{}/a.tar.gz", "inbox/{}"),
    "target": ("tag:k={}", "tag:{}=v", "asg:{}", "i-{}"),
}
RUN = Run("run-1", "2026-11-12T00:00:00.000Z", "sync")


def hostile(count: int) -> Iterator[tuple[str, str]]:
    """Fields and what is put into them; always the same."""
    rng = random.Random(SEED)
    for number in range(count):
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 6)))
        field = FIELDS[number % len(FIELDS)]
        frame = rng.choice((*FRAMES.get(field, ()), "{}"))
        yield field, frame.replace("{}", text)


def request_with(field: str, text: str) -> Any:
    """A request that is right but for this field."""
    if field == "whole":
        return text
    if field == "upload":
        return start.request_for(text, "v1")
    request: dict[str, Any] = {"archive": {"key": KEY}, "target": "web"}
    if field == "unknown":
        return request | {text: 1}
    outer, _, inner = field.partition(".")
    if outer == "environment":
        request["command"] = ["true"]
    value = [text] if field in LISTS else text
    if not inner:
        return request | {outer: value}
    return request | {outer: {**request.get(outer, {}), inner: value}}


@pytest.fixture
def faked(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """S3's answers come from here, its requests are made for real; the rest is fakes."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clients.s3.cache_clear()
    clients.s3().meta.events.register("before-send.s3", _answer)
    found = targets.Fleet(instances(2), (), ())
    monkeypatch.setattr(targets, "resolve", lambda *_: found)
    monkeypatch.setattr(archives, "read_manifest", lambda *_: None)
    monkeypatch.setattr(plan, "pin_document", lambda name: PinnedDocument(name, "1", "d" * 64))
    monkeypatch.setattr(Ledger, "advance", lambda *_: None)
    yield Settings.from_env()
    clients.s3.cache_clear()


class _Body:
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter((b"",))


def _answer(request: Any, **_: Any) -> AWSResponse:
    headers = {
        "Content-Length": "1000",
        "Last-Modified": formatdate(usegmt=True),  # an upload that is old has expired
        "ETag": '"e"',
        "x-amz-version-id": parse_qs(urlsplit(request.url).query).get("versionId", ["v1"])[0],
        "x-amz-checksum-sha256": "ERERERERERERERERERERERERERERERERERERERERERE=",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    return AWSResponse(request.url, 200, headers, _Body())


def decided(settings: Settings, document: Any) -> Plan | CodeferryError:
    """plan's decision. Anything that is not an error of ours fails the test."""
    try:
        request = read_request(document, RUN.workflow)
        return plan.make_plan(settings, request, "codeferry-dev-sync", RUN)
    except CodeferryError as error:
        json.dumps(error.to_json()).encode()
        return error


def assert_exact(settings: Settings, document: Any, made: Plan) -> None:
    """What instances and S3 are told is what was asked for, and nothing of it is outside of
    the one base64 parameter."""
    arguments = command_arguments(settings, made, RUN, 0)
    parameters = arguments["Parameters"]
    assert parameters[RUN_ID_PARAMETER] == [RUN.id]
    assert re.fullmatch(r"[1-9][0-9]{1,5}", parameters[TIMEOUT_PARAMETER][0])
    (encoded,) = parameters[PAYLOAD_PARAMETER]
    assert re.fullmatch(PAYLOAD_PATTERN.strip("^$"), encoded, re.ASCII)
    payload = decode_payload(encoded)
    url = urlsplit(payload["url"])
    assert unquote(url.path).endswith("/" + document["archive"]["key"])
    version = document["archive"].get("version_id") or "v1"
    assert parse_qs(url.query).get("versionId", ["null"]) == [version]
    expect, options = document.get("expect", {}), document.get("options", {})
    command = document.get("command", [])
    assert payload["command"] == command
    if expect or not command:
        assert payload["expect_files"] == expect.get("files", [])
        assert payload["expect_directories"] == expect.get("directories", [])
    assert payload["persist"] == options.get("persist", ["output", "checkpoints", "data"])
    assert payload["user"] == options.get("user", "")
    assert payload["project"] == document.get("project", payload["project"])


@pytest.mark.slow
def test_refused_or_carried_exactly(faked: Settings) -> None:
    """10,000 requests: an error of ours with words, or every byte where it belongs."""
    carried, refused = dict.fromkeys(FIELDS, 0), dict.fromkeys(FIELDS, 0)
    for field, text in hostile(STRINGS):
        document = json.loads(json.dumps(request_with(field, text)))  # as it travels
        decision = decided(faked, document)
        if isinstance(decision, CodeferryError):
            assert decision.message, (field, text)
            refused[field] += 1
        else:
            assert_exact(faked, document, decision)
            carried[field] += 1
    # The generator must reach both ends, or it proves nothing.
    assert all(refused.values()), refused
    free = ("archive.key", "archive.version_id", "target", "upload", *LISTS)
    assert all(carried[field] > 50 for field in free), str(carried)


def test_every_upload_has_a_name_that_travels() -> None:
    """Whatever the key, the run's id is fit for Step Functions, SSM, S3 and the file system."""
    for _, text in hostile(STRINGS):
        run_id = inbox_run_id("bucket", text, "v")
        assert require(RUN_ID_PATTERN, run_id, "run id") == run_id

"""Ten thousand hostile strings: refused, or carried byte-exact; nothing of them is executed."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.payload import parse_payload
from codeferry_contracts.parameters import Payload
from codeferry_local.ssm.documents.content import parse
from codeferry_local.ssm.documents.parameters import bind, literal, script_text
from codeferry_local.ssm.errors import InvalidParameters
from codeferry_local.ssm.server import SsmServer
from tests.chaos.conftest import keep_agent
from tests.unit.agent.archives import SMALL, pack
from tests.unit.agent.conftest import Instance

SEED, MANY, THROUGH_THE_SHELL = 20261120, 10_000, 10
INSTANCE = "i-0000000000000001a"
CANARY = "/CANARY"  # replaced by a path that nobody may create

HARMLESS = ("run-1", "demo", "output", "a", "0", "60", "https://h/x", "A" * 70, "f" * 64)
HOSTILE = (
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"';touch {CANARY};'",
    f'";touch {CANARY};"',
    f"\ntouch {CANARY}\n",
    f"|touch {CANARY}",
    f"&&touch {CANARY}#",
    f"\nCODEFERRY_END_OF_SOURCE\ntouch {CANARY}\n",
    f"__import__('os').system('touch {CANARY}')",
    "{{ payload }}",
    "{{runId}}",
    "{{ global:DATE }}",
    "${IFS}",
    "$0",
    "../",
    "/etc/passwd",
    "..",
    "~root",
    "-rf",
    "*",
    "%s%n",
    "\\",
    "\r",
    "\n",
    "\t",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\ud800",
    "\udc80",
    "\U0001f4a5",
    "e\u0301",
    "١",
    "K",  # the Kelvin sign, which is a k to whoever ignores case
    "'",
    '"',
    "=",
    ";",
    " ",
    "",
    "x" * 300,
)


def hostile_strings(count: int, seed: int) -> Iterator[str]:
    """Harmless values with hostile pieces before, within and behind them; reproducibly."""
    chosen = random.Random(seed)
    for _ in range(count):
        pieces = chosen.sample(HOSTILE, chosen.choice((1, 1, 2, 3)))
        text = chosen.choice((*HARMLESS, ""))
        for piece in pieces:
            at = chosen.choice((0, len(text), chosen.randint(0, len(text))))
            text = text[:at] + piece + text[at:]
        # To JSON, two halves of a character that meet are the character.
        yield text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


FIELDS = asdict(
    Payload("r", "p", "https://h/x", "0" * 64, 1, "", -1, 1, 1, 5, False, "", (), (), ())
)
LISTS = ("persist", "expect_files", "expect_directories")
WORDS = ("command", "health")  # any text that a program can be given


def encoded(fields: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(fields).encode()).decode()


def is_harmless(name: str, value: str) -> bool:
    """Whether a value that was let through can be used as that field is used."""
    if name in WORDS:
        return "\0" not in value
    if name in LISTS:
        steps = value.split("/")
        return bool(value) and steps[0] != "" and not {".", ".."} & set(steps) and "\0" not in value
    if name == "url":
        return value.startswith(("http://", "https://")) and value.isascii() and value.isprintable()
    return value.isascii() and not set(value) - set(_NAME) and not value.startswith((".", "-"))


_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"


@pytest.mark.parametrize("field", FIELDS)
def test_a_payloads_field_is_refused_or_carried_as_it_is(field: str) -> None:
    """In every field, text where a number belongs included; what passes is harmless there."""
    passed, refusals = 0, set[tuple[str, str]]()
    for text in hostile_strings(MANY, SEED):
        value = [text] if field in LISTS + WORDS else text
        try:
            payload = parse_payload(encoded({**FIELDS, field: value}))
        except RunFailed as refusal:
            refusals.add((refusal.code, str(refusal)))
            continue
        passed += 1
        assert getattr(payload, field) == value
        assert is_harmless(field, text), (field, text)
    assert refusals == {("payload_invalid", f"The payload's {field} cannot be.")}
    assert passed or field not in LISTS


def test_a_field_that_nobody_knows_is_refused() -> None:
    """Whatever its name, it is no way in."""
    for text in hostile_strings(1000, SEED):
        with pytest.raises(RunFailed, match="cannot be"):
            parse_payload(encoded({**FIELDS, text: text}))


PARAMETERS = ("runId", "payload", "agentUrl", "executionTimeout")
# A payload that is refused at once: what is tried here comes before it.
FIT = {"runId": "run-1", "payload": encoded({"no": "fields"}), "executionTimeout": "60"}
FIT["agentUrl"] = URL = "https://bucket/?x="


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_documents_parameter_is_refused_or_lands_in_its_place(name: str, document: str) -> None:
    """What passes stands in the script as it was given, and could end no quotes of the shell."""
    content = parse(document)
    gap = script_text(content.steps[0], FIT | {name: "\0"})
    passed = 0
    for hostile in hostile_strings(MANY, SEED):
        text = URL + hostile if name == "agentUrl" else hostile
        given = {key: [text if key == name else value] for key, value in FIT.items()}
        try:
            bound = bind(content.parameters, given)
        except InvalidParameters:
            continue
        passed += 1
        assert bound[name] == text
        assert not set(text) - set(_NAME + "+/=" + (":~%?&" if name == "agentUrl" else ""))
        script = script_text(content.steps[0], literal(content, bound))
        assert script == gap.replace("\0", text)
    assert 0 < passed < MANY


@pytest.fixture
def ssm(document: str, tmp_path: Path) -> Iterator[Any]:
    """The local SSM with the document and one instance that really executes it."""
    root = tmp_path / "root"
    (root / "opt/codeferry").mkdir(parents=True)
    keep_agent(root / "opt/codeferry")
    with SsmServer(paced=False) as server:
        server.add_instance(INSTANCE, root, tags={"codeferry:target": "demo"})
        client = boto3.client(
            "ssm",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
        )
        client.create_document(Content=document, Name="sync", DocumentType="Command")
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_ssm_refuses_a_hostile_parameter_or_runs_nothing_of_it(
    ssm: Any, name: str, tmp_path: Path
) -> None:
    """InvalidParameters, or the script ran and nobody touched the canary."""
    canary, codes = tmp_path / "canary", set[str]()
    for text in hostile_strings(40, SEED + 1):
        value = text.replace(CANARY, str(canary))
        value = URL + value if name == "agentUrl" else value
        given = {key: [value if key == name else fit] for key, fit in FIT.items()}
        try:
            sent = ssm.send_command(DocumentName="sync", InstanceIds=[INSTANCE], Parameters=given)
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])
        else:
            assert sent["Command"]["Parameters"][name] == [value]
            _wait_for(ssm, sent["Command"]["CommandId"])
        assert not canary.exists(), value
    # Half a character is no text at all to a service that speaks JSON.
    assert codes - {"SerializationException"} == {"InvalidParameters"}


def _wait_for(ssm: Any, command_id: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        (command,) = ssm.list_commands(CommandId=command_id)["Commands"]
        if command["Status"] not in ("Pending", "InProgress"):
            return
        time.sleep(0.02)
    raise AssertionError("the command never ended")


@pytest.fixture
def shell(
    document: str, instance: Instance
) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """The document's script with any run id and payload, unchecked, under the real shell."""
    step = parse(document).steps[0]
    keep_agent(instance.root)

    def run(run_id: str, payload: str) -> subprocess.CompletedProcess[str]:
        script = script_text(step, {"runId": run_id, "payload": payload, "agentUrl": ""})
        path = instance.root.parent.parent / "_script.sh"
        path.write_text(script)
        environ = {"PATH": os.environ["PATH"], "CODEFERRY_ROOT": str(instance.root)}
        return subprocess.run(
            ["/bin/sh", str(path)], env=environ, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("field", ["project", "user", *LISTS])
def test_hostile_fields_execute_nothing_on_their_way_through_the_shell(
    field: str, instance: Instance, tmp_path: Path, shell: Callable[..., Any]
) -> None:
    """Payload, shell, Python and the disk: refused by name, or a path of exactly these bytes."""
    canary = tmp_path / "canary"
    instance.store.body = body = pack(SMALL)
    for text in hostile_strings(THROUGH_THE_SHELL, SEED + 2):
        value = text.replace(CANARY, str(canary))
        payload = asdict(instance.payload(body)) | {field: [value] if field in LISTS else value}
        done = shell(payload["run_id"], encoded(payload))
        assert not canary.exists(), value
        assert done.stdout.startswith('{"codeferry_result": 1, '), done.stderr
        answer = json.loads(done.stdout)
        if answer["status"] == "failed":
            assert answer["error"]["code"] == "payload_invalid"
        elif field == "persist":
            shared = instance.project / "shared" / os.fsdecode(os.fsencode(value))
            assert shared.is_dir()
            assert (instance.current / value).resolve() == shared.resolve()


@pytest.mark.slow
def test_a_newline_behind_a_parameter_executes_nothing(
    instance: Instance, shell: Callable[..., Any]
) -> None:
    """Some regular expressions let $ match before it; shell and payload check don't mind."""
    instance.store.body = body = pack(SMALL)
    payload = instance.payload(body)
    assert json.loads(shell(payload.run_id + "\n", payload.encode()).stdout)["status"] == "applied"
    refused = json.loads(shell(payload.run_id, payload.encode() + "\n").stdout)
    assert refused["error"]["code"] == "payload_invalid"

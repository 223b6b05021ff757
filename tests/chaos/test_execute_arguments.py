"""Ten thousand hostile arguments: byte-exact in sys.argv, and nothing of them is executed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codeferry_agent.run.payload import parse_payload
from codeferry_contracts.parameters import PAYLOAD_LIMIT, Payload
from codeferry_local.ssm.documents.content import parse
from codeferry_local.ssm.documents.parameters import script_text
from tests.chaos.conftest import keep_agent
from tests.chaos.test_hostile_strings import CANARY, SEED, hostile_strings
from tests.unit.agent.commands import Machine, machine
from tests.unit.agent.conftest import Instance

MANY, THROUGH_THE_SHELL = 10_000, 400
KNOWN = ["a b", "it's", "$x", ";id", "`id`", "", "new\nline", "-rf", "\\", "é", "\udcff", "\udc80"]
# Prints its arguments as the bytes that the kernel gave it.
ECHO = "import os, sys, json; print(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))"
SUPERVISE = f"""
import json, os, sys
from pathlib import Path
from codeferry_agent.run.command.program import account_of
from codeferry_agent.run.command.output import Output
from codeferry_agent.run.command.program import spawn
from codeferry_agent.run.command.supervise import Supervision
with open(sys.argv[1]) as file:
    words = [sys.executable, "-c", {ECHO!r}, *json.load(file)]
output, us = Output(1, Path(sys.argv[2])), account_of(None, os.environ)
watch = Supervision(output, seconds=60, stopped=lambda: "")
ended = watch.run(lambda: spawn(words, sys.argv[2], {{}}, us))
output.finish()
sys.exit(ended.exit_code)
"""
Step = Callable[[Payload], "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


@pytest.fixture
def document_step(documents: dict[str, str], instance: Instance) -> Step:
    """The first step of the deployed document, under the real shell."""
    step = parse(documents["sync"]).steps[0]
    keep_agent(instance.root)

    def run(payload: Payload) -> subprocess.CompletedProcess[bytes]:
        given = {"runId": payload.run_id, "payload": payload.encode(), "agentUrl": ""}
        path = instance.root.parent.parent / "_script.sh"
        path.write_text(script_text(step, given))
        environ = {"PATH": os.environ["PATH"], "CODEFERRY_ROOT": str(instance.root)}
        return subprocess.run(["/bin/sh", str(path)], env=environ, capture_output=True, timeout=60)

    return run


def arguments(count: int, canary: Path) -> list[str]:
    """What a program can be given at all: without NUL and without half a character."""
    texts = (text.replace(CANARY, str(canary)) for text in hostile_strings(3 * count, SEED + 3))
    fit = [text for text in texts if "\0" not in text and _has_bytes(text)]
    assert len(fit) >= count
    return [*KNOWN, *fit[:count]]


def _has_bytes(text: str) -> bool:
    try:
        return bool(os.fsencode(text)) or not text
    except UnicodeEncodeError:
        return False


def batches(texts: list[str]) -> list[list[str]]:
    """As many as a payload holds."""
    full, batch, size = [], list[str](), 0
    for text in texts:
        spelt = len(json.dumps(text)) * 4 // 3 + 4
        if batch and size + spelt > PAYLOAD_LIMIT - 3000:
            full.append(batch)
            batch, size = [], 0
        batch.append(text)
        size += spelt
    return [*full, batch]


@pytest.mark.slow
def test_every_argument_arrives_byte_for_byte(here: Machine, tmp_path: Path) -> None:
    """Payload, base64, JSON and exec: what was typed is what sys.argv has."""
    canary, given, received = tmp_path / "canary", tmp_path / "given", list[str]()
    texts = arguments(MANY, canary)
    for batch in batches(texts):
        payload = here.payload(b"x", command=batch)
        assert len(payload.encode()) <= PAYLOAD_LIMIT
        received += parse_payload(payload.encode()).command
    assert received == texts
    given.write_text(json.dumps(received))
    # In a process of its own, which may then adopt and reap.
    out = subprocess.run(
        [sys.executable, "-c", SUPERVISE, given, tmp_path], stdout=subprocess.PIPE, check=True
    ).stdout
    assert json.loads(out) == [os.fsencode(text).hex() for text in texts]
    assert not canary.exists()


@pytest.mark.slow
def test_arguments_come_through_document_and_shell(
    here: Machine, document_step: Step, tmp_path: Path
) -> None:
    """As Run Command sends them: no shell on the way takes a word for its own."""
    canary = tmp_path / "canary"
    for batch in batches(arguments(THROUGH_THE_SHELL, canary)):
        done = document_step(here.command(sys.executable, "-c", ECHO, *batch))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        seen = json.loads(done.stdout.splitlines()[1])
        assert seen == [os.fsencode(text).hex() for text in batch]
    assert not canary.exists()


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
def test_an_argument_that_cannot_be_is_refused(here: Machine, text: str) -> None:
    """NUL ends an argument, and half a character has no bytes: neither is cut or replaced."""
    fields = json.loads(base64.b64decode(here.command("echo", "x").encode()))
    fields["command"] = ["echo", text]
    answer = here.start(base64.b64encode(json.dumps(fields).encode()).decode())
    out, _ = answer.communicate(timeout=60)
    assert json.loads(out)["error"]["code"] == "payload_invalid"

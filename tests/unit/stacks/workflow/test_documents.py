"""The SSM documents: whole, small enough, and closed to interpolation."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from codeferry_contracts import layout, parameters
from codeferry_contracts.names import PROJECT_PATTERN, RUN_ID_PATTERN
from codeferry_local.ssm.documents.content import parse
from codeferry_local.ssm.documents.parameters import bind, literal, script_text, variables
from tests.unit.agent.signatures import private_key

WORKFLOWS = ("sync", "script", "rollback")


@pytest.fixture(params=WORKFLOWS)
def workflow(request):
    return request.param


@pytest.fixture
def content(workflow):
    """A workflow's document as it is deployed."""
    from stacks.settings import Settings
    from stacks.workflow.documents import document

    return document(workflow, Settings())


def test_each_workflow_has_a_document_that_gets_new_versions(resources):
    """A fixed name per stage, updated in place, so that policies and history stay valid."""
    found = {each["Name"]: each for each in resources("Documents", "AWS::SSM::Document")}
    assert {f"codeferry-prod-{workflow}" for workflow in WORKFLOWS} <= set(found)
    for document in found.values():
        assert document["UpdateMethod"] == "NewVersion"
        assert document["DocumentType"] == "Command"


def test_every_parameter_is_closed(content):
    """Each parameter has an allowed pattern; no value can leave it for the shell."""
    allowed = {name: declared["allowedPattern"] for name, declared in content["parameters"].items()}
    assert allowed == {
        "runId": RUN_ID_PATTERN,
        "payload": parameters.PAYLOAD_PATTERN,
        "agentUrl": parameters.AGENT_URL_PATTERN,
        "environmentUrl": parameters.AGENT_URL_PATTERN,
        "executionTimeout": "^[1-9][0-9]{1,5}$",
    }
    for pattern in allowed.values():
        for hostile in (
            "$(id)",
            "a;id",
            "`id`",
            "a b",
            "a\nb",
            "'",
            '"',
            "|",
            "&",
            ">",
            "{{ runId }}",
        ):
            for value in (hostile, f"https://bucket/{hostile}'"):
                assert not re.fullmatch(pattern, value)


def test_only_declared_parameters_are_substituted(content):
    """The embedded source has nothing that SSM would take for a parameter."""
    used = set(re.findall(r"\{\{\s*([^}]*?)\s*\}\}", json.dumps(content["mainSteps"])))
    assert used == {"runId", "payload", "agentUrl", "executionTimeout"}


def test_who_reads_the_ssm_agents_log_learns_no_way_to_the_variables(content):
    """It writes every script there as it is after substitution, and may be read by every local
    user (0644): the URL of the variables is in none, and the agent hands it over by environment."""
    url = "https://bucket.s3.amazonaws.com/environments/run-1.env.json?X-Amz-Signature=secret"
    payload = parameters.Payload(
        "run-1", "p", "https://bucket/archive", "0" * 64, 1, "", -1, 1, 1, 5, False, "",
        (), (), (), ("env",), environment=True,
    )  # fmt: skip
    sent = parameters.ssm_parameters(payload, 900, "https://assets/a.agent", url)
    document = parse(json.dumps(content))
    bound = bind(document.parameters, sent)
    logged = [script_text(step, literal(document, bound)) for step in document.steps]
    shown = "".join(logged) + json.dumps(parameters.decode_payload(sent["payload"][0]))
    assert "https://assets/a.agent" in shown
    assert "https://bucket/archive" in shown
    assert "environments/" not in shown
    assert "secret" not in shown
    assert variables(document, bound) == {parameters.ENVIRONMENT_URL_VARIABLE: url}


def test_the_second_step_always_comes_and_is_short(workflow, content):
    """However the first one ends; it takes no payload and starts no Python."""
    first, second = content["mainSteps"]
    assert first["name"] == {"sync": "apply", "script": "script", "rollback": "restore"}[workflow]
    assert second["name"] == "result"
    assert second["inputs"]["finallyStep"] is True
    assert "onFailure" not in first["inputs"]
    assert "python" not in _script(second)


def test_the_agent_is_the_files_of_the_repository_as_they_are():
    """Byte for byte, not compressed: what lies on an instance can be read."""
    from stacks.workflow.agent_code import CONTRACTS, PACKAGE, SHARED, SOURCES, agent_code

    def source(name: str) -> Path:
        return (CONTRACTS if name.startswith(CONTRACTS.name) else PACKAGE).parent / name

    with zipfile.ZipFile(io.BytesIO(agent_code())) as archive:
        found = {source(name): archive.read(name) for name in archive.namelist()}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert set(found) == {PACKAGE / "__init__.py", *SOURCES.rglob("*.py"), *SHARED}
    for path, content in found.items():
        assert content == path.read_bytes()
        assert content in agent_code()


def test_the_document_wants_the_agent_that_is_published(content, assembly):
    """Under a key that is its SHA-256, which is in the document's text, and in its description
    for the functions."""
    from stacks.workflow.agent_code import agent_code, agent_sha256

    assert f'SHA256, WORKFLOW = "{agent_sha256()}"' in _script(content["mainSteps"][0])
    assert parameters.agent_of(content["description"]) == agent_sha256()
    manifest = json.loads((assembly / "Codeferry-prod-Workflow.assets.json").read_text())
    published = manifest["files"][agent_sha256()]
    assert published["source"]["packaging"] == "file"
    assert (assembly / published["source"]["path"]).read_bytes() == agent_code()
    (destination,) = published["destinations"].values()
    assert destination["objectKey"] == layout.agent_key(agent_sha256())


def test_the_functions_are_updated_before_the_documents(assembly):
    """They fit the documents of before; the new documents need what only they send."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    assert "Codeferry-prod-Workflow" in artifacts["Codeferry-prod-Documents"]["dependencies"]


def test_the_embedded_text_ends_no_heredoc(content):
    """It arrives as it is, and with nothing left to fill in."""
    script = _script(content["mainSteps"][0])
    assert script.count("CODEFERRY_END_OF_SOURCE") == 2
    assert script.isascii()
    assert not re.search("@@[A-Z0-9]+@@", script)


def test_synthesis_is_deterministic():
    """The same sources give the same document, and so the same hash."""
    from stacks.settings import Settings
    from stacks.workflow.documents import document

    made = [json.dumps(document("sync", Settings())) for _ in range(2)]
    assert made[0] == made[1]


def test_a_document_that_could_not_be_sent_fails_the_synth():
    """Document and largest parameters must stay under SendCommand's 64 KB."""
    from stacks.settings import Settings
    from stacks.workflow.documents import DocumentTooLarge, checked, document

    settings = Settings(signing="kms", signing_key=signing_key())

    largest = parameters.PAYLOAD_LIMIT + parameters.LONGEST_URL + len("x" * 80) + len("172800")
    for workflow in WORKFLOWS:
        assert len(json.dumps(document(workflow, settings))) + largest <= 40 * 1024  # there is room
    with pytest.raises(DocumentTooLarge, match="65536"):
        checked({"x": "a" * (64 * 1024)})


def test_a_document_pins_the_key_whose_signature_it_asks_for():
    """In its text, for the instance, and in its description, for the functions; and neither where
    releases are not signed, or nobody has said yet with which key."""
    from stacks.settings import Settings
    from stacks.workflow.documents import document

    settings = Settings(signing="kms", signing_key=signing_key())
    for workflow in WORKFLOWS:
        content = document(workflow, settings)
        modulus = settings.signing_modulus
        line = f"export CODEFERRY_STAGE='dev' CODEFERRY_SIGNING_KEY='{modulus}'"
        assert line in _script(content["mainSteps"][0]).splitlines()
        assert parameters.asks_for(content["description"], modulus)
        assert not parameters.asks_for(content["description"], modulus[:-1] + "0")
        assert parameters.agent_of(content["description"])
        plain = document(workflow, Settings(signing="kms"))
        assert "SIGNING" not in _script(plain["mainSteps"][0])
        assert not parameters.asks_for(plain["description"], modulus)


def signing_key(name="ours"):
    """A public key as KMS prints it."""
    key = private_key(name).public_key()
    return base64.b64encode(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()


def _script(step):
    return "\n".join(step["inputs"]["runCommand"])


@pytest.fixture
def record_root(tmp_path):
    """An instance's root with a run's record in it."""
    (tmp_path / "demo" / "runs").mkdir(parents=True)
    (tmp_path / ".results").mkdir()
    (tmp_path / "demo/runs/run-1.json").write_text('{"codeferry_result": 1, "run_id": "run-1"}')
    return tmp_path


def on_record(root, run_id="run-1", project="demo", path=os.environ["PATH"]):
    """What the document prints of a run."""
    from stacks.workflow.documents import record_document

    (step,) = record_document()["mainSteps"]
    script = "\n".join(step["inputs"]["runCommand"])
    script = script.replace("{{ runId }}", run_id).replace("{{ project }}", project)
    environment = {"PATH": path, "CODEFERRY_ROOT": str(root)}
    ran = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout


def test_a_run_is_answered_from_its_last_line_else_from_its_record(record_root):
    """Of a command the line that its second step would have printed; of no run that there is none;
    never more than Run Command shows."""
    assert on_record(record_root, "run-2") == "No record.\n"
    assert json.loads(on_record(record_root))["run_id"] == "run-1"
    line = record_root / ".results/run-1"
    line.write_text('{"codeferry_result": 1, "status": "failed"}\n')
    assert json.loads(on_record(record_root))["status"] == "failed"
    line.write_text("x" * 5000)
    assert len(on_record(record_root)) == 2301


def test_a_supervisor_at_its_end_is_waited_for(record_root, tmp_path_factory):
    """Its last line replaces the one that was there before it ended."""
    line, working = record_root / ".results/run-1", record_root / ".results/run-1.working"
    line.write_text("not yet\n")
    working.write_text(str(os.getpid()))  # it lives
    programs = tmp_path_factory.mktemp("bin")
    (programs / "sleep").write_text(f"#!/bin/sh\necho ended > {line}; rm {working}\n")
    (programs / "sleep").chmod(0o755)
    assert on_record(record_root, path=f"{programs}:{os.environ['PATH']}").strip() == "ended"


def test_a_supervisor_that_does_not_end_is_said_to_run(record_root, tmp_path_factory):
    """After ten looks; what is on record is printed all the same."""
    (record_root / ".results/run-1.working").write_text(str(os.getpid()))
    programs = tmp_path_factory.mktemp("bin")
    (programs / "sleep").write_text("#!/bin/sh\n")
    (programs / "sleep").chmod(0o755)
    printed = on_record(record_root, path=f"{programs}:{os.environ['PATH']}").splitlines()
    assert printed[0] == "It still runs."
    assert json.loads(printed[1])["run_id"] == "run-1"


def test_the_record_document_is_closed_and_has_one_step():
    """Its parameters have patterns, as those of the others."""
    from stacks.workflow.documents import record_document

    content = record_document()
    assert {n: p["allowedPattern"] for n, p in content["parameters"].items()} == {
        "runId": RUN_ID_PATTERN,
        "project": PROJECT_PATTERN,
    }
    assert len(content["mainSteps"]) == 1

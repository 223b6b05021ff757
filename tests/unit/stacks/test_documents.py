"""The SSM documents: whole, small enough, and closed to interpolation."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess

import pytest

from codeferry_contracts import parameters
from codeferry_contracts.names import RUN_ID_PATTERN

WORKFLOWS = ("sync", "script")


@pytest.fixture(params=WORKFLOWS)
def workflow(request):
    return request.param


@pytest.fixture
def content(workflow):
    """A workflow's document as it is deployed."""
    from stacks.documents import document

    return document(workflow)


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
        "executionTimeout": "^[1-9][0-9]{1,5}$",
    }
    for pattern in allowed.values():
        for hostile in ("$(id)", "a;id", "`id`", "a b", "a\nb", "'", '"', "|", "&", ">"):
            assert not re.fullmatch(pattern, hostile)


def test_only_declared_parameters_are_substituted(content):
    """The embedded source has nothing that SSM would take for a parameter."""
    used = set(re.findall(r"\{\{\s*([^}]*?)\s*\}\}", json.dumps(content["mainSteps"])))
    assert used == {"runId", "payload", "executionTimeout"}


def test_the_second_step_always_comes_and_is_short(workflow, content):
    """However the first one ends; it takes no payload and starts no Python."""
    first, second = content["mainSteps"]
    assert first["name"] == {"sync": "apply", "script": "script"}[workflow]
    assert second["name"] == "result"
    assert second["inputs"]["finallyStep"] is True
    assert "onFailure" not in first["inputs"]
    assert "python" not in _script(second)


def test_the_embedded_sources_are_the_files_of_the_repository(content):
    """What runs on the instance is agent/, byte for byte, and the description says which."""
    from stacks.documents import SOURCES

    found = _unpacked(_script(content["mainSteps"][0]))
    assert sorted(found) == sorted(path.stem for path in SOURCES.glob("[!_]*.py"))
    for name, source in found.items():
        assert source.encode() == (SOURCES / f"{name}.py").read_bytes()


def test_the_description_tells_other_sources_apart(content):
    """By what sha256sum says of what it says of the files: anybody can look."""
    from stacks.documents import SOURCES

    names = sorted(path.name for path in SOURCES.glob("[!_]*.py"))
    command = ["sha256sum", *names]
    sums = subprocess.run(command, cwd=SOURCES, capture_output=True, check=True).stdout
    assert f"sha256 {hashlib.sha256(sums).hexdigest()}." in content["description"]


def test_a_source_is_embedded_after_what_it_imports(content):
    """load.py makes modules in this order."""
    found = _unpacked(_script(content["mainSteps"][0]))
    made = set()
    for name, source in found.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "codeferry_agent.run":
                assert {each.name for each in node.names} <= made
            elif isinstance(node, ast.ImportFrom) and "codeferry" in node.module:
                assert node.module.rpartition(".")[2] in made
        made.add(name)


def test_the_embedded_text_ends_no_heredoc_and_survives_json_and_html(content):
    """Its letters mean nothing to the shell's heredoc, to JSON, or to SSM."""
    script = _script(content["mainSteps"][0])
    assert script.count("CODEFERRY_END_OF_SOURCE") == 2
    assert script.isascii()
    assert not set(_packed(script)) & set("{}<>&\"'\\") - {"}"}  # one alone closes nothing
    assert not re.search("@@[A-Z]+@@", script)


def test_synthesis_is_deterministic():
    """The same sources give the same document, and so the same hash."""
    from stacks.documents import document

    assert json.dumps(document("sync")) == json.dumps(document("sync"))


def test_a_document_that_could_not_be_sent_fails_the_synth():
    """Document and largest parameters must stay under SendCommand's 64 KB."""
    from stacks.documents import DocumentTooLarge, checked, document

    largest = parameters.PAYLOAD_LIMIT + len("x" * 80) + len("172800")
    for workflow in WORKFLOWS:
        assert len(json.dumps(document(workflow))) + largest <= 64 * 1024
    with pytest.raises(DocumentTooLarge, match="65536"):
        checked({"x": "a" * (64 * 1024)})


def _script(step):
    return "\n".join(step["inputs"]["runCommand"])


def _packed(script):
    return re.search(r'^SOURCES = """\n(.*?)\n"""$', script, re.MULTILINE | re.DOTALL)[1]


def _unpacked(script):
    """With load.py's own function, as the document has it."""
    names = {}
    function = re.search(r"^def unpack\(.*?(?=^def )", script, re.MULTILINE | re.DOTALL)[0]
    exec(f"import base64, bz2, json\n{function}", names)
    return names["unpack"](_packed(script))

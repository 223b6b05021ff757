"""The SSM documents: whole, small enough, and closed to interpolation."""

from __future__ import annotations

import json
import re

import pytest

from codeferry_contracts import parameters
from codeferry_contracts.names import RUN_ID_PATTERN

# One worker for all of these, and so one synthesis.
pytestmark = pytest.mark.xdist_group("stacks")


@pytest.fixture
def document(resources):
    (found,) = resources("Documents", "AWS::SSM::Document")
    return found


def test_the_document_keeps_its_name_and_gets_new_versions(document):
    """A fixed name per stage, updated in place, so that policies and history stay valid."""
    assert document["Name"] == "codeferry-prod-sync"
    assert document["UpdateMethod"] == "NewVersion"
    assert document["DocumentType"] == "Command"


def test_every_parameter_is_closed(document):
    """Each parameter has an allowed pattern; no value can leave it for the shell."""
    allowed = {
        name: declared["allowedPattern"]
        for name, declared in document["Content"]["parameters"].items()
    }
    assert allowed == {
        "runId": RUN_ID_PATTERN,
        "payload": parameters.PAYLOAD_PATTERN,
        "executionTimeout": "^[1-9][0-9]{1,5}$",
    }
    for pattern in allowed.values():
        for hostile in ("$(id)", "a;id", "`id`", "a b", "a\nb", "'", '"', "|", "&", ">"):
            assert not re.fullmatch(pattern, hostile)


def test_only_declared_parameters_are_substituted(document):
    """The embedded source has nothing that SSM would take for a parameter."""
    used = set(re.findall(r"\{\{\s*([^}]*?)\s*\}\}", json.dumps(document["Content"]["mainSteps"])))
    assert used == {"runId", "payload", "executionTimeout"}


def test_the_agent_source_is_embedded_as_it_is(document):
    """What runs on the instance is the file in the repository, readable in the console."""
    from stacks.documents import AGENT

    script = "\n".join(document["Content"]["mainSteps"][0]["inputs"]["runCommand"])
    assert (AGENT / "apply.py").read_text().rstrip("\n") in script
    assert "@@SOURCE@@" not in script


def test_a_document_that_could_not_be_sent_fails_the_synth():
    """Document and largest parameters must stay under SendCommand's 64 KB."""
    from stacks.documents import DocumentTooLarge, checked, sync_document

    largest = parameters.PAYLOAD_LIMIT + len("x" * 80) + len("172800")
    assert len(json.dumps(sync_document())) + largest <= 64 * 1024
    with pytest.raises(DocumentTooLarge, match="65536"):
        checked({"x": "a" * (64 * 1024)})

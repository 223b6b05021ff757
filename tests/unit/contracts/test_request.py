"""The run request: every way in hands in the same thing, and every mistake is named."""

from __future__ import annotations

import shlex
import string

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.errors import CodeferryError, RequestInvalid, TargetInvalid
from codeferry_contracts.request import (
    Archive,
    Expect,
    RunRequest,
    entry_script,
    expected_of,
    parse_request,
)
from codeferry_contracts.request_schema import SCHEMA

MINIMAL = {"archive": {"key": "archives/r1.tar.gz"}, "target": "demo"}


def is_request(document):
    try:
        parse_request(document)
    except CodeferryError:
        return False
    return True


def with_option(name, value):
    return MINIMAL | {"options": {name: value}}


def test_key_and_target_are_enough():
    """A person at the console types two values; everything else has a default."""
    request = parse_request(MINIMAL)
    assert request.options.max_concurrency == "100%"
    assert request.options.persist == ("output", "checkpoints", "data")
    assert request.to_json() == MINIMAL


def test_a_full_request_survives_the_round_trip():
    """What was asked for is what the workflow is handed."""
    document = {
        "archive": {"key": "inbox/gpu/a.tar.gz", "sha256": "0" * 64, "version_id": "v1"},
        "project": "demo",
        "target": "tag:Role=gpu",
        "expect": {"files": ["training/train.py"], "directories": ["training"]},
        "options": {
            "timeout_seconds": 300,
            "max_concurrency": "10%",
            "max_errors": "0",
            "keep_releases": 2,
            "strict": True,
            "user": "ec2-user",
            "persist": ["results/deep"],
        },
    }
    assert parse_request(document).to_json() == document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, ["archive is missing", "target is missing"]),
        ([], ["the request must be an object"]),
        (MINIMAL | {"colour": 1}, ["colour is not a known key"]),
        (MINIMAL | {"archive": {"key": "k", "etag": 1}}, ["archive.etag is not a known key"]),
        (MINIMAL | {"archive": {"key": "runs/x/report.json"}}, ["archive.key"]),
        (MINIMAL | {"archive": {"key": "archives/.tar.gz/"}}, ["archive.key"]),
        (MINIMAL | {"archive": {"key": "archives/a.tar.gz", "sha256": "X"}}, ["archive.sha256"]),
        (MINIMAL | {"project": "../x"}, ["project"]),
        (MINIMAL | {"project": "a\n"}, ["project"]),
        (MINIMAL | {"expect": {"files": ["../x"]}}, ["expect.files[0]"]),
        (MINIMAL | {"expect": {"files": ["/etc/passwd"]}}, ["expect.files[0]"]),
        (MINIMAL | {"expect": {"directories": ["a/../b"]}}, ["expect.directories[0]"]),
        (with_option("persist", ["a/./b"]), ["options.persist[0]"]),
        (with_option("timeout_seconds", 0), ["between 1 and 171840"]),
        (with_option("timeout_seconds", True), ["must be an integer"]),
        (with_option("max_concurrency", "0"), ["options.max_concurrency"]),
        (with_option("max_errors", "101%"), ["options.max_errors"]),
        (with_option("keep_releases", 0), ["options.keep_releases"]),
        (with_option("strict", "yes"), ["options.strict must be a boolean"]),
        (with_option("user", "root; id"), ["options.user"]),
        (with_option("persist", ["x"] * 101), ["at most 100"]),
    ],
)
def test_every_problem_is_named(document, words):
    """The error lists what is wrong by the name a person wrote it under."""
    with pytest.raises(RequestInvalid) as caught:
        parse_request(document)
    for word in words:
        assert word in caught.value.message
    assert "run-request.md" in caught.value.hint


def test_a_bad_target_says_what_a_target_looks_like():
    """The target has its own error with the forms it can take."""
    with pytest.raises(TargetInvalid, match="asg:NAME"):
        parse_request(MINIMAL | {"target": "i-123"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(string.printable, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
options = st.dictionaries(
    st.sampled_from([*SCHEMA["properties"]["options"]["properties"], "other"]), json_values
)


@given(options=options | json_values, project=json_values | st.just("p"))
def test_the_published_schema_and_the_code_agree(options, project):
    """A request passes our validation exactly when it passes the JSON Schema in the docs."""
    document = MINIMAL | {"options": options, "project": project}
    published = not list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(document))
    assert is_request(document) == published


@given(json_values)
def test_what_is_no_request_is_refused(document):
    """Any other JSON is refused with an error of ours, never with a crash."""
    assert not is_request(document)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python train.py --epochs 10", "train.py"),
        ("python3.12 -u ./training/train.py", "training/train.py"),
        ("/usr/bin/python3 a/../b.py", "b.py"),
        ("python -W ignore -X dev train.py", "train.py"),
        ("python -m training.train", None),
        ("python -um pkg.module", None),
        ("python -c 'import x.py'", None),
        ("bash scripts/run.sh train.py", "scripts/run.sh"),
        ("bash -euxo pipefail run.sh", "run.sh"),
        ("sh -c 'cd x; ./y.sh'", None),
        ("bash -lc ./y.sh", None),
        ("node --max-old-space-size=4096 app/main.mjs", "app/main.mjs"),
        ("node -e 1.js", None),
        ("ruby tool.rb", "tool.rb"),
        ("perl -w tool.pl", "tool.pl"),
        ("perl -ne 'print a.b' x.txt", None),
        ("Rscript analysis/fit.R", "analysis/fit.R"),
        ("uv run train.py", "train.py"),
        ("uv run python train.py", "train.py"),
        ("uv run --with numpy python -u train.py", "train.py"),
        ("uv run -m pkg.train", None),
        ("uv run pytest", None),
        ("uv sync", None),
        ("bin/serve", "bin/serve"),
        ("./serve", "serve"),
        ("/opt/tool/serve", None),
        ("../serve", None),
        ("python ../train.py", None),
        ("make train.py", None),
        ("python", None),
        ("nvidia-smi", None),
    ],
)
def test_the_entry_is_the_program_or_what_the_interpreter_reads(
    command: str, script: str | None
) -> None:
    """Where that is not clear, nothing: a wrong expectation would be a false alarm."""
    assert entry_script(shlex.split(command)) == script


def test_the_script_and_its_directory_are_expected() -> None:
    """At the root there is no directory to expect."""
    assert expected_of(["python", "a/b/c.py"]) == Expect(("a/b/c.py",), ("a/b",))
    assert expected_of(["python", "c.py"]) == Expect(("c.py",), ())
    assert expected_of(["python", "-m", "x"]) == Expect()


@pytest.mark.parametrize(
    "path", ["a\nb/x.py", "\x1b.py", "./..", "a/./b//c.py", "x/" * 600 + "y.py"]
)
def test_no_guess_makes_a_request_unusable(path: str) -> None:
    """What the contract would refuse is not guessed."""
    request = RunRequest(Archive("archives/x.tar.gz"), "all", expect=expected_of(["sh", path]))
    parse_request(request.to_json())

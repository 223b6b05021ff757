"""What a command begins with, told from its words."""

from __future__ import annotations

import shlex

import pytest

from codeferry_contracts.entry import entry_script, expected_of
from codeferry_contracts.request import Archive, Expect, RunRequest, parse_request


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

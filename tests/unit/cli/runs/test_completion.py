"""Completions that the shell offers while a person types."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.runs import completion as module
from codeferry_cli.runs.completion import completions

LOCAL = {"stage": "local"}


@pytest.fixture
def run_id(world: Any) -> str:
    run_id = f"by-hand-{secrets.token_hex(6)}"
    world.start(run_id, "fleet")
    world.await_end(run_id)
    return run_id


def test_runs_targets_releases_and_instances_are_those_of_the_newest_runs(run_id: str) -> None:
    """What was used last is what is meant next; `latest` and `all` are always there."""
    assert completions("run", LOCAL)[:2] == ["latest", run_id]
    assert {"all", "fleet"} <= set(completions("target", LOCAL))
    assert completions("release", LOCAL) == ["d" * 20]
    assert "i-00000000000000001" in completions("instance", LOCAL)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ferry status --stage local by-", "{run}"),
        ("ferry push --stage local fl", "fleet"),
        ("ferry logs --stage local latest --instance i-0", "i-00000000000000002"),
        ("ferry rollback --stage local fleet --to d", "d" * 20),
        ("ferry push --profile pro", "production"),
        ("ferry push --stage lo", "local"),
    ],
)
def test_the_shell_gets_them(ferry_command: str, run_id: str, words: str, offered: str) -> None:
    """As bash asks, with the options that were typed before."""
    config = Path(os.environ["HOME"]) / ".aws" / "config"
    config.parent.mkdir(parents=True)
    config.write_text("[default]\n[profile production]\n")
    asking = {
        "_FERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [ferry_command], env=os.environ | asking, capture_output=True, text=True, check=False
    )
    assert offered.format(run=run_id) in done.stdout
    assert done.stderr == ""


def test_what_was_asked_is_kept_for_a_minute(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next key costs no request, and when AWS is away what was known is still offered."""
    known = completions("run", LOCAL)
    asked = []

    def away(_: Any) -> None:
        asked.append(1)
        raise OSError("no network")

    monkeypatch.setattr(module, "_ask_stage", away)
    assert completions("run", LOCAL) == known
    assert not asked
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.FRESH_SECONDS + 1)
    assert completions("run", LOCAL) == known
    assert completions("target", LOCAL)
    assert asked == [1]


def test_aws_that_is_away_is_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """Anything said would stand in the line that is being typed."""
    assert completions("run", {"stage": "nowhere"}) == []
    assert capfd.readouterr() == ("", "")

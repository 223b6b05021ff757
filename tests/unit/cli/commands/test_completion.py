"""`ferry completion`, and what its script asks ferry for."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(ferry: Any, shell: str) -> None:
    """The script asks ferry itself."""
    answer = ferry("completion", shell)
    assert answer.exit == 0
    assert f"_FERRY_COMPLETE={shell}_complete" in answer.out


@pytest.mark.parametrize(
    ("words", "offered"), [("ferry pu", "push"), ("ferry push --max", "--max-errors")]
)
def test_completion_offers_commands_and_options(
    ferry_command: str, words: str, offered: str
) -> None:
    """What the shell would get for a word half typed."""
    environment = os.environ | {
        "_FERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run([ferry_command], env=environment, capture_output=True, text=True)
    assert offered in done.stdout

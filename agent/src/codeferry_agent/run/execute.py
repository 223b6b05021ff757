"""Where a document begins: do what its workflow is for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from codeferry_agent.run import restore
from codeferry_agent.run.apply import answer
from codeferry_agent.run.cancelling import cancel, on_cancel
from codeferry_agent.run.command import CommandRun
from codeferry_agent.run.result_line import result_line
from codeferry_agent.run.script import ScriptRun

WORKFLOWS = {"sync": CommandRun, "script": ScriptRun, "rollback": restore.RestoreRun}


def main(workflow: str, environ: Mapping[str, str]) -> int:
    """Do what the environment asks for; the exit code, 0 or 1.

    Where a command was started this never returns: its last line is printed by another step.
    """
    on_cancel(cancel)
    os.umask(0o022)
    result = answer(environ, WORKFLOWS[workflow])
    print(result_line(result), flush=True)
    return 1 if result["status"] == "failed" else 0

"""Where a document begins: do what its workflow is for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from codeferry_agent.run.command.processes import on_cancel, raise_cancelled
from codeferry_agent.run.command.run import CommandRun
from codeferry_agent.run.command.script import ScriptRun
from codeferry_agent.run.release import rollback
from codeferry_agent.run.release.apply import answer
from codeferry_agent.run.result import result_line

WORKFLOWS = {"sync": CommandRun, "script": ScriptRun, "rollback": rollback.RollbackRun}


def main(workflow: str, environ: Mapping[str, str]) -> int:
    """Do what the environment asks for; the exit code, 0 or 1.

    Where a command was started this never returns: its last line is printed by another step.
    """
    on_cancel(raise_cancelled)
    os.umask(0o022)
    result = answer(environ, WORKFLOWS[workflow])
    print(result_line(result), flush=True)
    return 1 if result["status"] == "failed" else 0

"""Entry point of the documents: run their workflow, and print its result line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeferry_agent.run.command.run import CommandRun
from codeferry_agent.run.command.script import ScriptRun
from codeferry_agent.run.errors import failure_from, on_cancel, raise_cancelled
from codeferry_agent.run.payload import RUN_ID, parse_payload
from codeferry_agent.run.release.apply import Run
from codeferry_agent.run.release.rollback import RollbackRun
from codeferry_agent.run.result import blank_result, result_line

WORKFLOWS = {"sync": CommandRun, "script": ScriptRun, "rollback": RollbackRun}


def main(workflow: str, environ: Mapping[str, str]) -> int:
    """Do what the environment asks for; the exit code, 0 or 1.

    Where a command was started this never returns: its last line is printed by another step.
    """
    on_cancel(raise_cancelled)
    os.umask(0o022)
    result = run(WORKFLOWS[workflow], environ)
    print(result_line(result), flush=True)
    return 1 if result["status"] == "failed" else 0


def run(kind: type[Run], environ: Mapping[str, str]) -> dict[str, Any]:
    """The result, whatever happens."""
    run_id = environ.get("CODEFERRY_RUN_ID", "")
    result = blank_result(run_id if re.fullmatch(RUN_ID, run_id) else "")
    run: Run | None = None
    try:
        payload = parse_payload(environ.get("CODEFERRY_PAYLOAD", ""), kind.fields)
        result.update(run_id=payload.run_id, project=payload.project)
        run = kind(payload, Path(environ.get("CODEFERRY_ROOT", "/opt/codeferry")), result)
        return run.apply(float(environ.get("CODEFERRY_LOCK_SECONDS", "120")))
    except Exception as error:  # noqa: BLE001 - the instance must answer; nothing is hidden
        failure = run.failure_from(error) if run else failure_from(error, "starting")
    return {**result, "status": "failed", "error": failure.fields()}

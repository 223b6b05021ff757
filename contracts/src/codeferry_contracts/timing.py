"""How long the work on an instance may take: the bounds each part is given, in seconds.

Run Command ends a step after its executionTimeout, from without and for good. So that
is always later than the command's own timeout, which ends it in order and says so.
"""

from __future__ import annotations

from codeferry_contracts.names import SCRIPT

SHORTEST_STEP_SECONDS, LONGEST_STEP_SECONDS = 30, 172_800  # the latter is Run Command's own
APPLY_SECONDS = 900  # lock, download, unpack, switch, and the installation of dependencies
# Between a command's timeout and the end of the step: TERM, grace, KILL, and the record.
ENDING_SECONDS = 60
HEALTH_SECONDS = 60  # of a health command
LONGEST_BAKE_SECONDS = 3600
LONGEST_COMMAND_SECONDS = LONGEST_STEP_SECONDS - APPLY_SECONDS - ENDING_SECONDS
SCRIPT_SECONDS = 300  # of a script that states none


def command_seconds(workflow: str, stated: int | None) -> int:
    """How long the command of a run may take."""
    return stated or (SCRIPT_SECONDS if workflow == SCRIPT else LONGEST_COMMAND_SECONDS)


def step_seconds(
    workflow: str, stated: int | None, *, command: bool, bake: int | None = None
) -> int:
    """The executionTimeout of the step: its work, with a command or without one.

    ``bake`` is how long a release is left alone before its health is asked for; None outside
    of roll-outs.
    """
    watching = 0 if bake is None else bake + HEALTH_SECONDS + ENDING_SECONDS
    if not command:
        return max(SHORTEST_STEP_SECONDS, stated or APPLY_SECONDS) + watching
    work = APPLY_SECONDS + command_seconds(workflow, stated) + ENDING_SECONDS + watching
    return min(work, LONGEST_STEP_SECONDS)

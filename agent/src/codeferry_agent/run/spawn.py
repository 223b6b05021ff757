"""A program started in its own session, with both outputs in one pipe."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from codeferry_agent.run.account import Account
from codeferry_agent.run.processes import PR_SET_PDEATHSIG, prctl

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def spawn(
    arguments: Sequence[str], directory: Path, variables: Mapping[str, str], account: Account
) -> tuple[int, int]:
    """Start a program in its own session; its pid and the pipe of both its outputs."""
    ids: dict[str, object] = {}
    if account.ids:
        ids = {"user": account.ids[0], "group": account.ids[1], "extra_groups": account.groups}
    ours, its = os.pipe()
    try:
        started = subprocess.Popen(  # type: ignore[call-overload]
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            cwd=directory,
            env=dict(variables),
            umask=0o022,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # after setuid, which would undo it
            **ids,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    started.returncode = 0  # we reap it, not the object
    os.set_blocking(ours, False)
    return started.pid, ours


def _die_with_supervisor() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

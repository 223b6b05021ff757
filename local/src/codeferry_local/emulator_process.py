"""The process MiniStack runs in. It ends with the process that started it, however that ended."""

from __future__ import annotations

import os
import signal
import sys
import threading

GRACE_SECONDS = 1


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from ministack.app import main as serve  # heavy, and only wanted here

    from codeferry_local import emulator_states
    from codeferry_local.call_journal import keep_journal
    from codeferry_local.emulator_faults import accept_faults
    from codeferry_local.emulator_gaps import close_gaps
    from codeferry_local.emulator_iam import enforce_policies

    emulator_states.close_gaps()
    close_gaps()
    keep_journal()
    enforce_policies()
    accept_faults()
    sys.argv[1:] = []
    serve()


def _end_with_parent() -> None:
    """Standard input is a pipe nobody writes to: it ends when the starter does."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # Threads that wait for task tokens of aborted executions would keep it for their timeout.
    threading.main_thread().join(GRACE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()

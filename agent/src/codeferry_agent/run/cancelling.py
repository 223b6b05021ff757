"""What a signal to the run means."""

from __future__ import annotations

import signal
from typing import Any

from codeferry_agent.run.failures import Refused
from codeferry_agent.run.processes import ENDING


def cancel(number: int, _: object) -> None:
    raise Refused("cancelled", f"The run was cancelled ({signal.Signals(number).name}).")


def on_cancel(action: Any) -> None:
    for each in ENDING:
        signal.signal(each, action)

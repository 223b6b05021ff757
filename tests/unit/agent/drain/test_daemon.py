"""How a drain ends: at a signal, and at the next one."""

from __future__ import annotations

import logging
import signal

import pytest

from codeferry_agent.drain.daemon import Ending


def test_a_second_signal_amidst_the_first_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python runs a handler between any two steps of another, also while that writes its log."""
    halted: list[bool] = []
    ending = Ending(60.0, wake=lambda: None, halt=lambda: halted.append(True))
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)

    class Again(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "last drain" in record.getMessage():
                ending.signalled(signal.SIGTERM, None)

    log = logging.getLogger("codeferry_agent.drain.daemon")
    log.addHandler(again := Again())
    try:
        with caplog.at_level(logging.INFO):
            ending.signalled(signal.SIGTERM, None)
    finally:
        log.removeHandler(again)
    assert halted == [True]
    assert ending.over()

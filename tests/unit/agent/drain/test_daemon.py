"""The end of a drain: at a signal, and at the next one."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace

import pytest

from codeferry_agent.drain.daemon import Daemon, Shutdown
from codeferry_agent.drain.summary import Outcome, Summary


def test_a_second_signal_amidst_the_first_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python runs a handler between any two steps of another, also while that writes its log."""
    halted: list[bool] = []
    shutdown = Shutdown(60.0, wake=lambda: None, halt=lambda: halted.append(True))
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)

    class Again(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "last drain" in record.getMessage():
                shutdown.signalled(signal.SIGTERM, None)

    log = logging.getLogger("codeferry_agent.drain.daemon")
    log.addHandler(again := Again())
    try:
        with caplog.at_level(logging.INFO):
            shutdown.signalled(signal.SIGTERM, None)
    finally:
        log.removeHandler(again)
    assert halted == [True]
    assert shutdown.over()


def test_a_signal_that_cannot_be_logged_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While stderr is written to, Python refuses to write to it once more: what is said is lost,
    the signal is not."""
    halted: list[bool] = []
    shutdown = Shutdown(60.0, wake=lambda: None, halt=lambda: halted.append(True))
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)

    class Busy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    log = logging.getLogger("codeferry_agent.drain.daemon")
    log.addHandler(busy := Busy())
    monkeypatch.setattr(log, "level", logging.INFO)
    try:
        shutdown.signalled(signal.SIGTERM, None)
        assert shutdown.asked
        shutdown.signalled(signal.SIGTERM, None)
    finally:
        log.removeHandler(busy)
    assert halted == [True]
    assert shutdown.over()


def test_a_single_scan_says_why_a_fresh_file_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing comes after it that would take it; who waits for the file has to know."""
    summary = Summary()
    summary.add(Outcome.WAITING, 3, 0.0)
    summary.look_again(30.0)
    drain = SimpleNamespace(sync=lambda _: summary, observing=False, roots={}, bucket_errors={})
    status = SimpleNamespace(scanned=lambda *_, **__: None)
    settings = SimpleNamespace(stability=30.0)
    shutdown = SimpleNamespace(asked=False, over=lambda: False)
    with caplog.at_level("INFO"):
        Daemon(drain, settings, None, shutdown, status).run_once()  # type: ignore[arg-type]
    assert "1 file was written less than 30 s ago and left" in caplog.text
    summary.next_look = None
    caplog.clear()
    Daemon(drain, settings, None, shutdown, status).run_once()  # type: ignore[arg-type]
    assert not caplog.text

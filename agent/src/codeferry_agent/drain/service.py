"""The agent as a process: its parts put together, its signals, its end."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from codeferry_agent.drain.daemon import Daemon, Ending
from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.errors import RootMissing
from codeferry_agent.drain.lease import ignore_signal
from codeferry_agent.drain.naming import shown
from codeferry_agent.drain.notices import NoticeWatch
from codeferry_agent.drain.root import matching
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.status import StatusWriter
from codeferry_agent.drain.stores.s3 import S3Store
from codeferry_agent.drain.surroundings import Clients
from codeferry_agent.drain.wake import Waiter

_log = logging.getLogger(__name__)


def serve(settings: Settings, clients: Clients, *, once: bool) -> int:
    """Drain until a signal ends it, or once; the exit code.

    To be called in the main thread. Raises RootLocked.
    """
    ignore_signal()
    surroundings = clients.surroundings
    with ExitStack() as at_the_end:
        waiter = Waiter()
        at_the_end.callback(waiter.close)
        ending = Ending(settings.last_drain, waiter.interrupt, clients.halt)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ending.signalled)
        signal.signal(signal.SIGALRM, ending.timed_out)
        drain = Drain(settings, S3Store(clients.of), waiter.watch)
        at_the_end.callback(drain.close)
        instance = surroundings.instance
        name = instance.instance_id if instance else socket.gethostname()
        status = StatusWriter(name, settings.stage)
        daemon = Daemon(drain, settings, waiter, ending, status)
        if once:
            # Stopped before its end it has not looked at everything.
            return 1 if daemon.run_once().errors or ending.over() else 0
        if surroundings.metadata is not None:
            watch = NoticeWatch(surroundings.metadata, daemon.notice)
            at_the_end.callback(watch.close)
        clients.introduce()
        _log.info("Draining %s every %g s.", ", ".join(settings.directories), settings.interval)
        daemon.run()
    return 0


def require_directories(directories: Iterable[str], *, once: bool) -> None:
    """Tell of a root that is not there: it may come later, but not to a single scan."""
    for directory in directories:
        if matching([directory]):
            continue
        why = _why_not(directory)
        if once:
            raise RootMissing(why, hint="Name the root with -d/--directory.")
        _log.warning("%s Every scan looks for it.", why)


def _why_not(directory: str) -> str:
    try:
        Path(directory).stat()
    except FileNotFoundError:
        return f"There is no directory {directory}."
    except OSError as error:
        return f"The directory {shown(directory)} cannot be looked at: {error.strerror}."
    return f"{shown(directory)} is no directory."

"""Agents by fork: a process that has imported everything and starts an agent in milliseconds.

    python nursery.py '{"directories": [...], ...}'     the settings; AWS_* in the environment

It reads commands, a line each: ``start ROOT`` answers with the process id of an agent that
drains ROOT from now on, ``reap PID`` with its exit status once it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from codeferry_agent.drain import logs
from codeferry_agent.drain.daemon import serve
from codeferry_agent.drain.errors import DrainError
from codeferry_agent.drain.host.environment import Clients, Environment
from codeferry_agent.drain.host.watcher import Watcher
from codeferry_agent.drain.settings import Settings
from codeferry_transfer import TransferError


def warm_clients(settings: Settings) -> Clients:
    """Clients that know account and buckets already, with no connection open: so an agent
    comes to its files before it is killed."""
    clients = Clients(Environment.find(region=None, profile=None), settings.owners, False)
    clients.account()
    for bucket in settings.owners:
        client = clients.of(bucket)
        try:
            client.head_object(bucket, "nothing")
        except TransferError:
            client.close()
    return clients


def start(root: str, options: dict[str, Any], clients: Clients) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.set_up(as_json=False, verbose=False)
    try:
        os._exit(serve(Settings(directories=(root,), **options), clients, once=False))
    except DrainError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(100)
    except BaseException:  # noqa: BLE001 - told, and never back into the loop below
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(101)


def main() -> None:
    options = json.loads(sys.argv[1])
    clients = warm_clients(Settings(**options))
    Watcher().close()  # the inotify library looks for libc at first use, by a program
    for line in sys.stdin:
        command, _, argument = line.rstrip("\n").partition(" ")
        if command == "start":
            print(start(argument, options, clients), flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(int(argument), 0)[1]), flush=True)


if __name__ == "__main__":
    main()

"""Deliveries without an interpreter's start each: forks of one that has the agent's code loaded.

``ForkServer(python)`` starts that Python once, as a delivery would start it; ``start`` is then what
``subprocess.Popen`` is, for one script under another environment. The interpreter may be 3.9.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

FLAGS = ("-I", "-X", "utf8", "-B")
SOURCES = [str(Path(__file__).parents[3] / part / "src") for part in ("agent", "contracts")]
LENGTH = 1 << 20  # of one request, which holds an environment


class _Reader(threading.Thread):
    """Reads a pipe to its end, and closes it; where there is none, None is what it finds."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self._pipe, self.found = pipe, None
        self.start()

    def run(self):
        if self._pipe:
            with self._pipe as pipe:
                self.found = pipe.read()


class Delivery:
    """A forked process as Popen shows its own: pid, pipes, returncode."""

    def __init__(self, pid, status, out, err, text):
        self.pid, self.returncode, self._status, self._readers = pid, None, status, []
        mode = {"encoding": "utf-8"} if text else {}
        self.stdout, self.stderr = (
            os.fdopen(fd, "r" if text else "rb", **mode) for fd in (out, err)
        )

    def communicate(self, timeout=None):
        """All output, once both pipes are closed and the process has ended; may be asked again."""
        ends = time.monotonic() + (threading.TIMEOUT_MAX / 2 if timeout is None else timeout)
        if not self._readers:
            self._readers = [_Reader(pipe) for pipe in (self.stdout, self.stderr)]
        for reader in self._readers:
            reader.join(max(0, ends - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("delivery", timeout)
        self.wait(max(0, ends - time.monotonic()))
        return tuple(reader.found for reader in self._readers)

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("delivery", timeout)
            told = os.read(self._status, 4)
            os.close(self._status)
            if not told:
                raise AssertionError(
                    "the fork server died, and what became of its child is unknown"
                )
            self.returncode = int.from_bytes(told, "little", signed=True)
        return self.returncode

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """The side of the tests."""

    def __init__(self, python):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LENGTH)
        command = [python, *FLAGS, __file__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._socket = ours

    def start(self, script, arguments, environ, stdin=subprocess.DEVNULL, text=True):
        """Run ``script`` in a session of its own, its output in pipes."""
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        status, their_status = os.pipe()
        their_in = (
            os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin)
        )
        theirs = [their_in, their_out, their_err, their_status]
        asked = [str(script), list(arguments), dict(environ), str(Path.cwd())]
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs))
        try:
            self._socket.sendmsg([json.dumps(asked).encode()], [rights])
            pid = int(self._socket.recv(32))
        finally:
            for fd in theirs:
                os.close(fd)
        return Delivery(pid, status, out, err, text)

    def stop(self):
        self._socket.close()
        self._process.wait()


def serve(requests):
    """Fork for each request; tell of each child's end on the pipe that came with it."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ends = {}
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            os.read(wake, 512)
            _reap(ends)
        if requests in ready:
            request, rights, _, _ = requests.recvmsg(LENGTH, socket.CMSG_SPACE(4 * 4))
            if not request:
                return
            fds = array.array("i")
            fds.frombytes(rights[0][2])
            pid = _fork(
                json.loads(request), fds[:3], (requests, wake, woken, fds[3], *ends.values())
            )
            for fd in fds[:3]:
                os.close(fd)
            ends[pid] = fds[3]
            requests.send(str(pid).encode())


def _reap(ends):
    for pid in list(ends):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            told = ends.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(told, os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
            os.close(told)


def _fork(request, standard, ours):
    """The pid of a child that has left our session and holds nothing of ours."""
    ready, child_ready = os.pipe()
    pid = os.fork()
    if pid:
        os.close(child_ready)
        os.read(ready, 1)  # its end: the child has its session
        os.close(ready)
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in ours:
        each.close() if hasattr(each, "close") else os.close(each)
    os.setsid()
    for fd, to in zip(standard, range(3)):  # noqa: B905 - Python 3.9
        os.dup2(fd, to)
        os.close(fd)
    os.close(child_ready)
    os.close(ready)
    script, arguments, environ, directory = request
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [script, *arguments]
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    raise _Forked


class _Forked(BaseException):
    """In a child: leave the server's frames before the script begins."""


def main():
    sys.path[:0] = SOURCES
    from codeferry_agent.run import execute  # noqa: F401 - what every delivery needs

    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except _Forked:
        return sys.argv[0]
    return None


if __name__ == "__main__":
    script = main()
    if script:
        import runpy

        runpy.run_path(script, run_name="__main__")

"""MiniStack in a process of its own: S3, Step Functions, Lambda and the rest.

The process ends with the one that started it, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from codeferry_local.errors import StartFailed, tail

# What a process needs of its environment; nothing of the user's AWS configuration.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "VIRTUAL_ENV")
START_SECONDS = 60
PROGRAM = ("-m", "codeferry_local.emulator.process")

GRACE_SECONDS = 1


@dataclass
class Emulator:
    """A running MiniStack; ends when ``stop`` is called or this process dies."""

    process: subprocess.Popen[bytes]
    url: str

    @classmethod
    def start(
        cls,
        port: int,
        directory: Path,
        log: Path,
        environment: Mapping[str, str],
        program: Sequence[str] = PROGRAM,
    ) -> Emulator:
        """Start one on ``port`` that keeps all it writes below ``directory``.

        ``environment`` is added to it and so reaches the Lambdas it runs; ``program`` is what
        Python runs. Raises StartFailed with the end of the log when it ends before it answers.
        """
        directory.mkdir(parents=True, exist_ok=True)
        variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        variables |= {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            "IOT_MTLS_PORT": str(free_port()),  # its default is fixed; two of them would collide
            "TMPDIR": str(directory),
            "HOME": str(directory),
            "STATE_DIR": str(directory / "state"),
            "S3_DATA_DIR": str(directory / "s3"),
            "LOG_LEVEL": "WARNING",
            "PYTHONDONTWRITEBYTECODE": "",
        } | dict(environment)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *program],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=variables,
                cwd=directory,
                start_new_session=True,
            )
        emulator = cls(process=process, url=local_url(port))
        emulator._wait(log)
        return emulator

    def _wait(self, log: Path) -> None:
        for attempt in Retrying(
            retry=retry_if_exception_type(urllib.error.URLError),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(START_SECONDS),
            reraise=True,
        ):
            with attempt:
                if self.process.poll() is not None:
                    raise StartFailed(f"MiniStack did not start: {tail(log)}")
                urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5).close()  # noqa: S310 - our own address

    def stop(self) -> None:
        """End it and its Lambda workers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Lambda workers that were busy are of its process group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def local_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from ministack.app import main as serve  # heavy, and only wanted here

    from codeferry_local.emulator import step_functions
    from codeferry_local.emulator.control import accept_faults, keep_journal
    from codeferry_local.emulator.gaps import close_gaps
    from codeferry_local.emulator.iam import enforce_policies

    step_functions.close_gaps()
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

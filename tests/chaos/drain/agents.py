"""The tests' end of a nursery of agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NURSERY = Path(__file__).with_name("nursery.py")


class Nursery:
    """Starts agents that drain with these options; safe to use from many threads."""

    def __init__(self, options: Mapping[str, Any], endpoint: str, log: Path) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CODEFERRY_DRAIN_STATE": str(log.with_name("state")),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        self._lock = threading.Lock()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, NURSERY, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env=environment,
                start_new_session=True,
            )

    def start(self, root: Path) -> int:
        return self._asked(f"start {root}")

    def kill(self, pid: int, number: int = signal.SIGKILL) -> int:
        """Signal an agent and wait for its end; its exit status, negative for a signal."""
        os.kill(pid, number)
        return self._asked(f"reap {pid}")

    def _asked(self, command: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it and whatever agents are still there."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

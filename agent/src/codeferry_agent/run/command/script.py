"""Run a script with its files, in a directory of its own that is removed with it.

<root>/.scripts/work/<run>/    a script and its files, while it runs
<root>/.scripts/runs/          answers to script runs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codeferry_agent.run.command.program import Program
from codeferry_agent.run.command.run import CommandRun
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.files import DIRECTORY, discard, read_json, write_json
from codeferry_agent.run.payload import is_path
from codeferry_agent.run.release.project import prune_records


class ScriptRun(CommandRun):
    """A script with its files, in a directory of its own that goes with it."""

    noun, workflow = "script", "script"

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        super().__init__(payload, root, result)
        if not payload.command or not is_path(payload.command[0]):
            raise RunFailed("payload_invalid", "The payload's command names no script.")
        self.work, runs = root / ".scripts/work", root / ".scripts/runs"
        self.place: Path = self.work / payload.run_id
        self.record = runs / f"{payload.run_id}.json"
        self.tree: Path = self.place / "tree"

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        """As a release's, but scripts do not wait for one another."""
        self.fetch_variables()
        self.work.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.record.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as held:
            with self.phase("lock", "taking the run's directory"):
                held.enter_context(claimed(self.place))
            recorded = read_json(self.record)
            if recorded:
                return self.replay(recorded)
            self.settle()
            self.perform()
        return self.result

    def settle(self) -> None:
        """Clear what killed runs left."""
        prune_records(self.record.parent)
        for leftover in self.work.iterdir():
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                if leftover != self.place:
                    with claimed(leftover, fcntl.LOCK_NB):
                        self.kill_leftovers(leftover.name)

    def perform(self) -> None:
        self.pinned_key.check(self.payload)
        if self.variables_failure:
            raise self.variables_failure
        discard(self.tree)
        archive = self.place / "archive.tar.gz"
        with self.phase("download", "downloading the script"):
            self.download(archive)
        with self.phase("extract", "unpacking the script"):
            self.extract(archive, self.tree)
        self.tree.chmod(0o700)
        self.result["status"] = "ran"
        write_json(self.record, self.recorded(self.result))
        self.execute()

    def arguments(self) -> list[str]:
        """The script by its whole path; RunFailed where it cannot be run, in words."""
        name, *rest = self.payload.command
        Program(self.noun, name, self.tree, self.variables["PATH"]).check()
        return [str(self.tree / name), *rest]

    def directory(self) -> Path:
        return self.tree

    def usual_variables(self) -> dict[str, str]:
        files = self.tree / "files"
        found = {"DEPLOY_FILES_DIR": str(files)} if files.is_dir() else {}
        return {**super().usual_variables(), **found}

    def install(self) -> dict[str, str]:
        self.warn("A script has no dependencies to install.")
        return {}

    def clean(self) -> None:
        discard(self.tree)
        if self.tree.exists():
            self.warn("Not all of the script's files could be removed.")

    def note_work(self, _: str) -> None:
        """Nobody waits for a script but other deliveries of its run."""

    def close(self) -> None:
        super().close()
        # Only now: a delivery that finds the directory free reads the record.
        discard(self.place)


@contextlib.contextmanager
def claimed(place: Path, also: int = 0) -> Iterator[None]:
    """Hold a directory, made if needed, and remove it in the end.

    Another delivery of the same run is waited for, and takes its own away: look again then.
    """
    descriptor = -1
    while descriptor < 0:
        place.mkdir(mode=0o711, exist_ok=True)
        descriptor = os.open(place, DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | also)
            here = os.path.samestat(os.fstat(descriptor), place.stat())
        except FileNotFoundError:
            here = False
        except BaseException:
            os.close(descriptor)
            raise
        if not here:
            os.close(descriptor)
            descriptor = -1
    try:
        yield
    finally:
        discard(place)
        os.close(descriptor)

"""Make an earlier release of a project the current one again.

A rollback run does this and nothing else, and a release that fails in a roll-out is left in the
same way.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.files import write_json
from codeferry_agent.run.payload import FIELDS, text
from codeferry_agent.run.release.apply import Run
from codeferry_agent.run.release.project import Project

RELEASE = text(r"([0-9a-f]{20})?")


class RollbackRun(Run):
    """A rollback to a release that is still here; nothing is downloaded."""

    fields: ClassVar = {
        "run_id": FIELDS["run_id"],
        "project": FIELDS["project"],
        "release": RELEASE,
        "leaving": RELEASE,
    }

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        # A release has its owner already, and its signature was checked when it came.
        payload.user, payload.signature = "", None
        super().__init__(payload, root, result)

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        if not self.project.releases.is_dir():
            raise RunFailed("project_missing", f"There is no project {self.payload.project} here.")
        return super().apply(lock_seconds)

    def goes_on(self) -> bool:
        return False

    def perform(self) -> None:
        current = self.result["previous"] = self.project.current()
        with self.phase("activate", "making the release current"):
            wanted = self.wanted(current)
            with self.project.staged(self.payload.run_id) as staging:
                self.switch(staging, wanted, "restored")
                self.note(staging / "record.json")

    def wanted(self, current: str) -> str:
        """The release to be current at the end."""
        if self.payload.leaving not in ("", current):
            self.warn(f"It has another release than {self.payload.leaving}, and keeps it.")
            return current
        known = present(self.project)
        if self.payload.release:
            if self.payload.release in known:
                return str(self.payload.release)
            have = ", ".join(known) or "none"
            raise RunFailed(
                "release_missing",
                f"There is no release {self.payload.release} here; there are: {have}.",
            )
        before = [each for each in known if each != current]
        if not before:
            raise RunFailed("release_missing", f"There is no release before {current or 'any'}.")
        return before[0]


def present(project: Project) -> list[str]:
    """The releases that can be switched to, last activated first."""
    return [each for each in project.activated() if (project.releases / each).is_dir()]


def roll_back(project: Project, release_id: str) -> str:
    """Return from a release that has failed to the one before it, and forget that it was
    current, so that no rollback leads to it. The release that is current now, or nothing
    where there is none before.

    Only under the project's lock.
    """
    before = [each for each in present(project) if each != release_id]
    if not before or project.current() != release_id:
        return ""
    with project.staged("leaving") as staging:
        project.switch(before[0], staging)
        write_json(project.path / "activations.json", before)
    return before[0]

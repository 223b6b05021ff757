"""Where things lie in the artifact bucket. The one place that spells an S3 key."""

from __future__ import annotations

from dataclasses import dataclass

from codeferry_contracts.errors import RequestInvalid

INBOX_PREFIX = "inbox/"
ARCHIVES_PREFIX = "archives/"
RUNS_PREFIX = "runs/"
ARCHIVE_SUFFIX = ".tar.gz"


def archive_key(run_id: str) -> str:
    return f"{ARCHIVES_PREFIX}{run_id}{ARCHIVE_SUFFIX}"


def inbox_key(target: str, name: str) -> str:
    return f"{INBOX_PREFIX}{target}/{name}{ARCHIVE_SUFFIX}"


@dataclass(frozen=True)
class InboxKey:
    """An upload's target and the name it was uploaded under, without the suffix."""

    target: str
    name: str


def parse_inbox_key(key: str) -> InboxKey:
    """Split ``inbox/<target>/<name>.tar.gz``; the target may itself hold slashes.

    Raises RequestInvalid when the key is not of that form.
    """
    target, _, name = key.removeprefix(INBOX_PREFIX).rpartition("/")
    well_formed = key.startswith(INBOX_PREFIX) and key.endswith(ARCHIVE_SUFFIX)
    if not well_formed or not target or name == ARCHIVE_SUFFIX:
        raise RequestInvalid(
            f"The upload {key!r} names no target and archive.",
            hint="Upload to inbox/<target>/<name>.tar.gz.",
        )
    return InboxKey(target=target, name=name.removesuffix(ARCHIVE_SUFFIX))


def is_archive_key(key: str) -> bool:
    """Whether ``key`` lies where archives lie: only there may cleanup delete anything."""
    return key.startswith((INBOX_PREFIX, ARCHIVES_PREFIX)) and key.endswith(ARCHIVE_SUFFIX)


@dataclass(frozen=True)
class RunKeys:
    """The record of one run: ``runs/<run_id>/…``."""

    run_id: str

    @property
    def prefix(self) -> str:
        return f"{RUNS_PREFIX}{self.run_id}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def targets(self) -> str:
        return f"{self.prefix}targets.json"

    @property
    def report(self) -> str:
        return f"{self.prefix}report.json"

    @property
    def verification(self) -> str:
        return f"{self.prefix}verification.json"

    @property
    def instances(self) -> str:
        return f"{self.prefix}instances/"

    def instance(self, instance_id: str) -> str:
        return f"{self.instances}{instance_id}.json"

    def batch(self, number: int) -> str:
        """The outcomes of one batch in one object, so that a fleet is read in few requests."""
        return f"{self.prefix}batches/{number:05d}.json"

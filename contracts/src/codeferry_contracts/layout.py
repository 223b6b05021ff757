"""The layout of the artifact bucket: the keys of everything in it, and what a key is of."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.names import slug

INBOX_PREFIX = "inbox/"
ARCHIVES_PREFIX = "archives/"
ENVIRONMENTS_PREFIX = "environments/"
RUNS_PREFIX = "runs/"
RELEASES_PREFIX = "releases/"
# Days that what a run takes lies there when nobody deletes it, and so how long a run may need it.
LIFETIME_DAYS = {ARCHIVES_PREFIX: 30, ENVIRONMENTS_PREFIX: 14, INBOX_PREFIX: 7}
ARCHIVE_SUFFIX = ".tar.gz"
ENVIRONMENT_SUFFIX = ".env.json"
RECORD_SUFFIX = ".json"
SIGNATURE_SUFFIX = ".sig"
AGENT_SUFFIX = ".agent"

# What other archives are called.
_OTHER_SUFFIX = re.compile(
    r"\.(tar|tgz|tar\.(xz|zst|bz2|lz4|Z)|txz|tzst|tbz2?|zip|7z|rar)$", re.IGNORECASE
)
_PLAIN_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def agent_key(sha256: str) -> str:
    """Where the agent lies among the CDK's assets, which are another bucket than the stage's."""
    return f"{sha256}{AGENT_SUFFIX}"


def archive_key(run_id: str) -> str:
    return f"{ARCHIVES_PREFIX}{run_id}{ARCHIVE_SUFFIX}"


def environment_key(run_id: str) -> str:
    """Where the variables of a command lie while its run needs them: they may be secrets, so
    nobody who runs ``ferry`` has to be able to read there."""
    return f"{ENVIRONMENTS_PREFIX}{run_id}{ENVIRONMENT_SUFFIX}"


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
    other = _OTHER_SUFFIX.search(name)
    if target and other:
        raise RequestInvalid(
            f"The upload {key!r} is called a {other[0]}, and what is unpacked is a tar.gz.",
            hint="Make it with tar -czf and upload it to inbox/<target>/<name>.tar.gz.",
        )
    if not well_formed or not target or name == ARCHIVE_SUFFIX:
        raise RequestInvalid(
            f"The upload {key!r} names no target and archive.",
            hint="Upload to inbox/<target>/<name>.tar.gz.",
        )
    return InboxKey(target=target, name=name.removesuffix(ARCHIVE_SUFFIX))


def signature_key(archive_key: str) -> str:
    """Where the signature of an upload to the inbox lies: beside it."""
    return archive_key.removesuffix(ARCHIVE_SUFFIX) + SIGNATURE_SUFFIX


def is_archive_key(key: str) -> bool:
    """Whether ``key`` lies where archives lie: only there may cleanup delete anything."""
    return key.startswith((INBOX_PREFIX, ARCHIVES_PREFIX)) and key.endswith(ARCHIVE_SUFFIX)


def is_release_key(key: str) -> bool:
    """Whether ``key`` is a last good release's archive, which a run reads and never deletes."""
    return key.startswith(RELEASES_PREFIX) and key.endswith(ARCHIVE_SUFFIX)


def release_record_key(archive_key: str) -> str:
    """The record beside the archive of a last good release."""
    return archive_key.removesuffix(ARCHIVE_SUFFIX) + RECORD_SUFFIX


def is_source_key(key: str) -> bool:
    """Whether a run may take its archive from ``key``."""
    return is_archive_key(key) or is_release_key(key)


def is_environment_of(key: str, run_id: str) -> bool:
    """Whether the run may use variables at ``key``, and delete them: its own. An older ``ferry``
    puts them beside the archives."""
    beside = key.startswith(ARCHIVES_PREFIX) and key.endswith(ENVIRONMENT_SUFFIX)
    return beside or key == environment_key(run_id)


@dataclass(frozen=True)
class ReleaseKeys:
    """The keys of a target's last good release of a project: ``releases/<target>/…``."""

    target: str
    project: str

    @property
    def prefix(self) -> str:
        return f"{RELEASES_PREFIX}{_key_part(self.target)}/{self.project}"

    @property
    def archive(self) -> str:
        return f"{self.prefix}{ARCHIVE_SUFFIX}"

    @property
    def record(self) -> str:
        return f"{self.prefix}{RECORD_SUFFIX}"


def _key_part(target: str) -> str:
    """A target as one part of a key: itself, or what no target is called, made unique by a hash."""
    if _PLAIN_TARGET.fullmatch(target):
        return target
    return f"_{slug(target)[:60]}-{hashlib.sha256(target.encode()).hexdigest()[:12]}"


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
    def page(self) -> str:
        """The report as one HTML page."""
        return f"{self.prefix}report.html"

    @property
    def verification(self) -> str:
        return f"{self.prefix}verification.json"

    @property
    def instances(self) -> str:
        return f"{self.prefix}instances/"

    def instance(self, instance_id: str) -> str:
        return f"{self.instances}{instance_id}.json"

    @property
    def commands(self) -> str:
        return f"{self.prefix}commands/"

    def command(self, number: int) -> str:
        """The Run Command a batch was sent as: what its output is logged under."""
        return f"{self.commands}{number:05d}.json"

    def batch(self, number: int) -> str:
        """The outcomes of one batch in one object, so that a fleet is read in few requests."""
        return f"{self.prefix}batches/{number:05d}.json"

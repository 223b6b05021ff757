"""Names that travel: stage, project, run id, and what is deployed under them.

A run id is a Step Functions execution name, part of S3 keys, an SSM parameter and a
file name on the instance, so it keeps to the characters all four accept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from codeferry_contracts.errors import NameInvalid

SYNC, SCRIPT, ROLLBACK = "sync", "script", "rollback"
WORKFLOWS = (SYNC, SCRIPT, ROLLBACK)
RECORD = "record"  # the document that asks what instances have on record of a run

DEFAULT_STAGE = "dev"  # what ferry means without --stage
STAGE_PATTERN = r"^[a-z][a-z0-9-]{0,15}$"
PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_LONGEST_PROJECT = 64  # as in the pattern
RUN_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
# "General purpose bucket naming rules", S3 User Guide; without access point ARNs.
BUCKET_PATTERN = (
    r"^(?!xn--|sthree-|\d+(\.\d+){3}$)(?!.*\.\.)"
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)$"
)


def new_run_id(project: str, now: datetime) -> str:
    """A run id for a run started now: sortable by time, readable, unique by chance of 2^-32."""
    return f"{now:%Y%m%d-%H%M%S}-{slug(project)[:40]}-{secrets.token_hex(4)}"


def inbox_run_id(bucket: str, key: str, version_id: str) -> str:
    """The run id of an upload: the same upload always gives the same id.

    S3 delivers events at least once; the execution name is what makes a second
    delivery the same run.
    """
    name = key.rsplit("/", 1)[-1].removesuffix(".tar.gz")
    identity = "\0".join((bucket, key, version_id)).encode(errors="surrogatepass")
    return f"inbox-{slug(name)[:40]}-{hashlib.sha256(identity).hexdigest()[:20]}"


def late_joiners_run_id(project: str, release: str, attempts: Iterable[str]) -> str:
    """The run id that brings a release to late joiners: the same attempts, the same id."""
    identity = "\0".join((release, *sorted(attempts))).encode()
    return f"welcome-{slug(project)[:40]}-{hashlib.sha256(identity).hexdigest()[:20]}"


def return_run_id(run_id: str) -> str:
    """The run id under which a roll-out's failed wave is returned; NameInvalid beyond 75."""
    return require(RUN_ID_PATTERN, f"back-{run_id}", "run id")


def slug(text: str) -> str:
    """``text`` with every run of characters a name cannot hold replaced by one dash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "project"


def project_name(text: str) -> str:
    """The project name nearest to ``text`` (a directory's or an archive's name).

    Where letters of it are lost (all of 日本語), it ends in a hash of the whole, so that two
    such projects never are one: of whatever is not ASCII, beyond 64 characters, or all.
    """
    text = unicodedata.normalize("NFC", text)  # é is one letter, however a file system has it
    name = slug(text)
    if text.isascii() and len(name) <= _LONGEST_PROJECT and re.search(r"[A-Za-z0-9]", text):
        return name
    whole = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: _LONGEST_PROJECT - 9]}-{whole[:8]}"


def require(pattern: str, value: str, what: str) -> str:
    """``value`` if it matches; NameInvalid naming ``what`` it is and the pattern otherwise."""
    if not re.fullmatch(pattern, value):
        raise NameInvalid(
            f"{value!r} cannot be a {what}.", hint=f"A {what} matches {pattern.strip('^$')}."
        )
    return value


@dataclass(frozen=True)
class Stage:
    """One deployment, and the names of what is deployed with it."""

    name: str

    def __post_init__(self) -> None:
        require(STAGE_PATTERN, self.name, "stage")

    @property
    def storage_stack(self) -> str:
        return f"Codeferry-{self.name}-Storage"

    @property
    def documents_stack(self) -> str:
        return f"Codeferry-{self.name}-Documents"

    @property
    def workflow_stack(self) -> str:
        return f"Codeferry-{self.name}-Workflow"

    def document(self, workflow: str) -> str:
        """The SSM document that carries ``workflow`` to an instance."""
        return f"codeferry-{self.name}-{workflow}"

    def state_machine(self, workflow: str) -> str:
        return f"codeferry-{self.name}-{workflow}"

    def function(self, name: str) -> str:
        return f"codeferry-{self.name}-{name}"

    @property
    def fleet_storage_stack(self) -> str:
        return f"Codeferry-{self.name}-FleetStorage"

    @property
    def fleet_stack(self) -> str:
        return f"Codeferry-{self.name}-Fleet"

    @property
    def monitoring_stack(self) -> str:
        return f"Codeferry-{self.name}-Monitoring"

    @property
    def gitops_stack(self) -> str:
        return f"Codeferry-{self.name}-GitOps"

    def fleet(self, target: str) -> str:
        """The Auto Scaling group whose instances are ``target``."""
        return f"codeferry-{self.name}-{target}"

    def named(self, purpose: str) -> str:
        """An alarm or bucket that people and other stacks refer to by name."""
        return f"codeferry-{self.name}-{purpose}"

    def of_account(self, purpose: str, region: str) -> str:
        """A role or policy: IAM's names are an account's, and a stage is in one region of it.

        The region stands before the purpose, so that ``codeferry-<stage>-*`` and
        ``codeferry-*-<purpose>`` name it in policies.
        """
        return f"codeferry-{self.name}-{region}-{purpose}"


# Outputs of the workflow stack: how the CLI finds a stage.
OUTPUT_BUCKET = "ArtifactBucket"
OUTPUT_CHECK_FUNCTION = "CheckFunction"
OUTPUT_SIGNING = "Signing"  # a KMS key's ARN, or "file": how releases are signed, if they are
OUTPUT_SIGNED_BY = "SignedBy"  # the key whose signature instances ask for, by parameters.key_id


def output_state_machine(workflow: str) -> str:
    """The name of the stack output that holds the workflow's state machine ARN."""
    return f"{workflow.capitalize()}StateMachineArn"


# Outputs of the fleet storage stack: buckets by what they are for.
OUTPUT_PERMANENT = "PermanentBucket"
OUTPUT_OUTPUTS = "OutputsBucket"
OUTPUT_CHECKPOINTS = "CheckpointsBucket"

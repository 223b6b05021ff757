"""The record of a run in S3: JSON documents under ``runs/<run_id>/``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts.archive import UNPACKED_BYTES, UNPACKED_FILES
from codeferry_contracts.layout import RunKeys
from codeferry_contracts.names import ROLLBACK, SYNC
from codeferry_contracts.report import CommandRecord, Outcome
from codeferry_contracts.request import RunRequest, parse_request
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import ABSENT, WorkflowError, code_of
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.fleet.unreachable import Unreachable

_THREADS = clients.MOST_THREADS


@dataclass(frozen=True)
class Run:
    """One execution, as the definition names it to every function. Time is ISO 8601."""

    id: str
    started_at: str
    workflow: str

    @property
    def keys(self) -> RunKeys:
        return RunKeys(self.id)


@dataclass(frozen=True)
class PinnedArchive:
    """One object version; ``version_id`` is ``null`` in a bucket without versions."""

    key: str
    version_id: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Unpacked:
    """The most that may come out of an archive: the ``bytes`` of its files; ``files``, links and
    directories."""

    bytes: int
    files: int


@dataclass(frozen=True)
class PinnedEnvironment:
    """The object that holds a command's variables, in one version."""

    key: str
    version_id: str


@dataclass(frozen=True)
class PinnedDocument:
    """``agent`` is the SHA-256 of the code that it has instances run, empty where it carries
    its own, as documents of an earlier version did."""

    name: str
    version: str
    hash: str
    agent: str = ""


@dataclass(frozen=True)
class Plan:
    """The findings and decisions of plan: ``runs/<run_id>/targets.json``.

    ``archive`` is None in a rollback, where ``unpacked`` says nothing. ``digest`` and ``files``
    are the manifest's, empty and -1 without one. ``step_seconds`` is the step's executionTimeout,
    ``sweep`` how often a long wait looks again. ``budget`` is the number of instances that may
    fail, None when the request set none. ``rollout`` has the batches of each wave that was asked
    for, empty without; ``waves`` are those that the workflow goes through, which may be more.
    ``leaving``, ``settles`` and ``settles_run`` are a rollback's: see ``planning.rollback``.
    """

    request: Mapping[str, Any]
    project: str
    archive: PinnedArchive | None
    environment: PinnedEnvironment | None
    step_seconds: int
    sweep: int
    document: PinnedDocument
    digest: str
    files: int
    batches: tuple[tuple[Instance, ...], ...]
    waves: tuple[tuple[int, ...], ...]
    concurrency: int
    budget: int | None
    unreachable: tuple[Unreachable, ...]
    warnings: tuple[str, ...]
    rollout: tuple[tuple[int, ...], ...] = ()
    leaving: str = ""
    settles: str = ""
    settles_run: str = ""
    unpacked: Unpacked = Unpacked(UNPACKED_BYTES, UNPACKED_FILES)

    @property
    def run_request(self) -> RunRequest:
        return parse_request(self.request, SYNC if "archive" in self.request else ROLLBACK)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        fields = dict(document)
        archive = fields["archive"]
        fields["archive"] = PinnedArchive(**archive) if archive else None
        environment = fields["environment"]
        fields["environment"] = PinnedEnvironment(**environment) if environment else None
        if "unpacked" in fields:  # not in a plan made before the stage was deployed again
            fields["unpacked"] = Unpacked(**fields["unpacked"])
        fields["document"] = PinnedDocument(**fields["document"])
        fields["batches"] = tuple(tuple(Instance(**i) for i in b) for b in fields["batches"])
        fields["waves"] = tuple(tuple(wave) for wave in fields["waves"])
        fields["rollout"] = tuple(tuple(wave) for wave in fields["rollout"])
        fields["unreachable"] = tuple(Unreachable(**u) for u in fields["unreachable"])
        fields["warnings"] = tuple(fields["warnings"])
        return cls(**fields)


@dataclass(frozen=True)
class Record:
    """Reads and writes the documents of one run."""

    bucket: str
    keys: RunKeys

    def write(self, key: str, document: Any, *, new: bool = False) -> bool:
        """Put ``document``; with ``new`` only if there is none yet. Whether it was put."""
        body = json.dumps(document, separators=(",", ":")).encode()
        condition: Any = {"IfNoneMatch": "*"} if new else {}
        try:
            clients.s3().put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            if new and code_of(error) == "PreconditionFailed":
                return False
            raise
        return True

    def write_all(self, documents: Mapping[str, Any]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda item: self.write(*item), documents.items()))

    def read(self, key: str) -> Any:
        """The document, or None when there is none.

        Without ListBucket S3 answers 403 for a missing key, so the two look the same;
        the report calls a run without a record failed either way.
        """
        try:
            answer = clients.s3().get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if code_of(error) in ABSENT:
                return None
            raise
        return json.loads(answer["Body"].read())

    def write_plan(self, plan: Plan) -> None:
        self.write(self.keys.targets, asdict(plan))

    def find_plan(self) -> Plan | None:
        document = self.read(self.keys.targets)
        return None if document is None else Plan.from_json(document)

    def plan(self) -> Plan:
        """The plan of a run that has one; WorkflowError when it is gone."""
        plan = self.find_plan()
        if plan is None:
            raise WorkflowError(
                "The run's record in S3 is missing or may not be read.", code="record_missing"
            )
        return plan

    def write_command(
        self, number: int, command_id: str, log_group: str, batch: Sequence[Instance]
    ) -> None:
        """Who follows the run finds the command's output by this."""
        ids = [instance.instance_id for instance in batch]
        command: CommandRecord = {
            "command_id": command_id,
            "log_group": log_group,
            "instances": ids,
        }
        self.write(self.keys.command(number), command)

    def write_outcomes(self, number: int, outcomes: Iterable[Outcome]) -> None:
        """One object per instance, then the batch, which the report reads."""
        found = list(outcomes)
        self.write_all({self.keys.instance(o["instance_id"]): o for o in found})
        self.write(self.keys.batch(number), found)

    def outcomes(self, batches: int) -> list[Outcome]:
        """The outcomes of every batch that recorded some, in the batches' order."""
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(self.read, [self.keys.batch(n) for n in range(batches)])
            return [outcome for batch in found for outcome in batch or ()]


def version_of(archive: PinnedArchive | PinnedEnvironment) -> Any:
    """The ``VersionId`` argument of a call, where there are versions."""
    return {} if archive.version_id == "null" else {"VersionId": archive.version_id}

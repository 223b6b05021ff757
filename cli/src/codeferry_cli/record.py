"""The record of a run in S3, read: its report, its commands, instances as they finish."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from codeferry_cli.aws.stage import DeployedStage
from codeferry_contracts.layout import RunKeys
from codeferry_contracts.report import CommandRecord, Outcome, Report

_READERS = 8
# S3 answers 403 for a missing key to an identity that may not list the bucket.
_ABSENT = {"NoSuchKey", "404", "403", "AccessDenied"}


class RunRecord:
    """What a run leaves under ``runs/<run_id>/``."""

    def __init__(self, stage: DeployedStage, run_id: str) -> None:
        self._stage = stage
        self._keys = RunKeys(run_id)

    def report(self) -> Report | None:
        """The report; None while there is none."""
        return cast("Report | None", self._read(self._keys.report))

    def request(self) -> dict[str, Any] | None:
        return self._read(self._keys.request)

    def planned_instances(self) -> int | None:
        """How many instances the run is about, reachable or not; None until it is planned."""
        plan = self._read(self._keys.targets)
        if plan is None:
            return None
        return sum(map(len, plan["batches"])) + len(plan["unreachable"])

    def page(self) -> bytes | None:
        """The report as an HTML page; None when there is none."""
        return self._body(self._keys.page)

    def commands(self, known: Container[str] = ()) -> Iterator[tuple[str, CommandRecord]]:
        """What the run's batches were sent as so far, by key; less those ``known`` by theirs."""
        for key in self._listed(self._keys.commands):
            if key not in known and (found := self._read(key)):
                yield key, cast("CommandRecord", found)

    def named(self, name: str) -> list[str]:
        """The ids of the run's instances of that name, as its plan has them."""
        plan = self._read(self._keys.targets) or {"batches": []}
        instances = [i for batch in plan["batches"] for i in batch]
        return [str(i["instance_id"]) for i in instances if i["name"] == name]

    def finished_instances(self) -> Iterator[str]:
        """The ids of the instances that have an outcome."""
        for key in self._listed(self._keys.instances):
            yield key.removeprefix(self._keys.instances).removesuffix(".json")

    def outcomes(self, instance_ids: list[str]) -> list[Outcome]:
        """The outcomes of these instances, in this order; one that is gone is left out."""
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(self._read, map(self._keys.instance, instance_ids))
            return [cast("Outcome", outcome) for outcome in found if outcome]

    def _listed(self, prefix: str) -> Iterator[str]:
        pages = self._stage.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._stage.bucket, Prefix=prefix
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def _read(self, key: str) -> dict[str, Any] | None:
        body = self._body(key)
        return None if body is None else json.loads(body)

    def _body(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._stage.s3.get_object(Bucket=self._stage.bucket, Key=key)
            body: bytes = answer["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise
        return body

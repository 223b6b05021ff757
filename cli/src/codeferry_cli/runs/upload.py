"""Upload what a run needs: the archive as it is packed, and the variables of a command.

Variables may be secrets, so they are in no request, no report and no message: only in an object
of their own, which the run deletes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import Interrupted
from codeferry_cli.options.run import Variables
from codeferry_cli.packing.project import BeforeEnd, Packed, Prepared, pack_into
from codeferry_cli.s3.client import Server, open_s3
from codeferry_contracts.layout import environment_key
from codeferry_contracts.request import Archive, Environment

if TYPE_CHECKING:
    from codeferry_transfer.stream import UploadedObject


@contextmanager
def uploaded_variables(
    stage: DeployedStage, run_id: str, variables: Variables
) -> Iterator[Environment | None]:
    """The variables in the stage's bucket while their run is started; gone if it is not.

    Once started, the run deletes them.
    """
    if not variables.values:
        yield None
        return
    environment = _upload_variables(stage, run_id, variables)
    try:
        yield environment
    except BaseException:
        _delete_variables(stage, environment)
        raise


def _upload_variables(stage: DeployedStage, run_id: str, variables: Variables) -> Environment:
    body, key = variables.encode(), environment_key(run_id)
    answer = stage.s3.put_object(
        Bucket=stage.bucket,
        Key=key,
        Body=body,
        ContentType="application/json",
        ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
    )
    return Environment(key, answer.get("VersionId"))


def _delete_variables(stage: DeployedStage, environment: Environment) -> None:
    version = {"VersionId": environment.version_id} if environment.version_id else {}
    stage.s3.delete_object(Bucket=stage.bucket, Key=environment.key, **version)


class UploadProgress(Protocol):
    """Hears how far packing and upload are."""

    def packed(self, archive: int, files: int) -> None:
        """The archive's bytes so far, and those of the files in them."""

    def uploaded(self, size: int) -> None:
        """So many bytes more have arrived."""


@dataclass(frozen=True)
class UploadedArchive:
    """An archive that lies in the bucket."""

    packed: Packed
    archive: Archive


def upload_archive(
    stage: DeployedStage,
    prepared: Prepared,
    key: str,
    progress: UploadProgress,
    before_end: BeforeEnd | None = None,
) -> UploadedArchive:
    """Pack straight into the object ``key`` of the stage's bucket, where nothing is before
    ``before_end`` has returned.

    Raises what packing and transfer raise, Interrupted on Ctrl-C; no upload is left behind.
    """
    from codeferry_transfer.stream import upload_stream

    s3 = open_s3(stage.aws, Server())

    def sink(chunks: Iterator[bytes]) -> UploadedObject:
        return upload_stream(s3, stage.bucket, key, chunks, progress=progress.uploaded)

    try:
        packed, uploaded = pack_into(prepared, sink, progress.packed, before_end)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted while uploading: the upload was aborted, no run was started."
        ) from stop
    finally:
        s3.close()
    return UploadedArchive(packed, Archive(key, packed.sha256, uploaded.version_id))

"""Of several uploads under one key of the inbox, the newest is the one that counts.

Their events come in any order and more than once, and their runs overlap. Versions have no
order of their own and S3's times are whole seconds, so three things are asked: whether
the key's current version is another one, what was planned before, and, within one
second, whether what was planned before is still there: its run deletes it at the end.
"""

from __future__ import annotations

from codeferry_contracts.layout import INBOX_PREFIX
from codeferry_contracts.request import Archive
from codeferry_lambdas import archive_object
from codeferry_lambdas.archive_object import Found
from codeferry_lambdas.errors import ArchiveMissing, ArchiveSuperseded
from codeferry_lambdas.ledger import Ledger, Upload
from codeferry_lambdas.record import PinnedArchive
from codeferry_lambdas.settings import Settings


def require(settings: Settings, key: str, found: Found) -> None:
    """Note the upload as the newest one; ArchiveSuperseded when a newer one is known."""
    current = _version(settings.bucket, Archive(key))
    if current is not None and current.version_id != found.version_id:
        raise superseded(key)
    ledger, upload = Ledger(settings.table), _upload(found)
    noted = ledger.advance(key, upload)
    if noted is None:
        return
    # Being current is no proof: the version before is current again once a run has deleted
    # its own. Two whole runs within one second would be needed for this to refuse the newest.
    if noted.modified != upload.modified or _gone(settings.bucket, key, noted):
        raise superseded(key)
    if not ledger.replace(key, noted, upload):
        raise superseded(key)


def require_still(table: str, archive: PinnedArchive | None) -> None:
    """ArchiveSuperseded when a newer upload was planned after this run was."""
    if archive is None or not archive.key.startswith(INBOX_PREFIX):
        return
    noted = Ledger(table).newest(archive.key)
    if noted is not None and noted.version_id != archive.version_id:
        raise superseded(archive.key)


def superseded(key: str) -> ArchiveSuperseded:
    return ArchiveSuperseded(
        f"There is a newer upload of {key}.",
        hint="Nothing to do: the newer upload is the one that counts.",
    )


def _upload(found: Found) -> Upload:
    return Upload(found.modified.isoformat(), found.version_id)


def _gone(bucket: str, key: str, upload: Upload) -> bool:
    return _version(bucket, Archive(key, version_id=upload.version_id)) is None


def _version(bucket: str, archive: Archive) -> Found | None:
    try:
        return archive_object.look(bucket, archive)
    except ArchiveMissing:
        return None

"""The ledger of runs in DynamoDB, for facts that may be written only once.

| pk | sk | what |
|---|---|---|
| run#<id> | batch#<n> | the reservation, then the command, then how many instances failed |
| run#<id> | closed | nothing may be sent any more |
| command#<id> | token | the task token that waits for the command |
| archive#<key> | newest | the newest version of an upload that was planned |
| signed#<target> | <project> | the highest sequence of a signed release that was planned |
| joiner#<release> | <instance> | how often the release was sent to a late joiner, and when next |

Every item has ``expires_at``, the table's time-to-live attribute."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.conditions import Attr, Key
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import code_of

_LIFETIME_SECONDS = 30 * 24 * 3600  # longer than any event is redelivered and any run lasts


@dataclass(frozen=True)
class BatchEntry:
    """``failed`` is None until the batch was collected, ``ended`` is whether its command was
    seen to end; a ``skipped`` batch was never sent."""

    number: int
    reserved_at: datetime
    command_id: str = ""
    skipped: bool = False
    failed: int | None = None
    ended: bool = False


@dataclass(frozen=True)
class Upload:
    """One version of an object in the inbox; ``modified`` is ISO 8601 in UTC."""

    modified: str
    version_id: str


@dataclass(frozen=True)
class Ledger:
    table: str

    def reserve(self, run_id: str, number: int) -> BatchEntry | None:
        """Claim the batch; the entry that is there already when it was claimed before."""
        now = datetime.now(UTC)
        item = _batch_key(run_id, number) | {"reserved_at": now.isoformat()}
        if self._put_if(item, Attr("pk").not_exists()):
            return None
        return self.batch(run_id, number)

    def batch(self, run_id: str, number: int) -> BatchEntry | None:
        item = self._get(_batch_key(run_id, number))
        return _entry(item) if item else None

    def batches(self, run_id: str) -> Iterator[BatchEntry]:
        """Every batch of the run that was reserved."""
        condition = Key("pk").eq(f"run#{run_id}") & Key("sk").begins_with("batch#")
        more: dict[str, Any] = {}
        while True:
            page = self._items.query(KeyConditionExpression=condition, ConsistentRead=True, **more)
            yield from map(_entry, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def set_command(self, run_id: str, number: int, command_id: str) -> None:
        self._set(_batch_key(run_id, number), command_id=command_id)

    def set_skipped(self, run_id: str, number: int) -> None:
        self._set(_batch_key(run_id, number), skipped=True)

    def set_collected(self, run_id: str, number: int, *, failed: int, ended: bool) -> None:
        """``ended`` is whether the batch's command was seen to end."""
        self._set(_batch_key(run_id, number), failed=failed, ended=ended)

    def close(self, run_id: str) -> None:
        """From now on the run sends nothing."""
        self._put({"pk": f"run#{run_id}", "sk": "closed"})

    def is_closed(self, run_id: str) -> bool:
        return bool(self._get({"pk": f"run#{run_id}", "sk": "closed"}))

    def set_token(self, command_id: str, token: str) -> None:
        self._put(_token_key(command_id) | {"token": token})

    def token(self, command_id: str) -> str | None:
        """The token that waits for the command; None for a command that is not ours."""
        item = self._get(_token_key(command_id))
        return str(item["token"]) if item else None

    def forget_token(self, command_id: str) -> None:
        self._items.delete_item(Key=_token_key(command_id))

    def advance(self, key: str, upload: Upload) -> Upload | None:
        """Note that this upload was planned; the one that was noted when it stays.

        S3 may deliver an older version's event after a newer one's. Its times are whole
        seconds, so of two uploads within one the first to be noted stays: ``replace``.
        """
        older = Attr("modified").not_exists() | Attr("modified").lt(upload.modified)
        same = Attr("modified").eq(upload.modified) & Attr("version_id").eq(upload.version_id)
        try:
            self._items.put_item(
                Item=self._noted(key, upload),
                ConditionExpression=older | same,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                return _noted_before(error.response)
            raise
        return None

    def replace(self, key: str, noted: Upload, upload: Upload) -> bool:
        """Note this upload instead of ``noted``; whether that was still the one noted."""
        return self._put_if(self._noted(key, upload), Attr("version_id").eq(noted.version_id))

    def newest(self, key: str) -> Upload | None:
        """The newest upload under this key that was planned."""
        item = self._get(_upload_key(key))
        return _upload(item) if item else None

    def note_signed(self, target: str, project: str, sequence: int) -> bool:
        """Note the sequence of a signed release; whether it is none below the highest known."""
        item = {"pk": f"signed#{target}", "sk": project, "sequence": sequence}
        known = Attr("sequence")
        return self._put_if(item, known.not_exists() | known.lte(sequence))

    def claim_attempt(self, release: str, instance_id: str, pauses: Sequence[int]) -> int | None:
        """The number of this attempt, from 0, to bring the last good release to an instance.

        None while the pause after the attempt before lasts (seconds, by number), when
        there were as many as there are pauses, or when somebody else claims it just now.
        """
        key, now = {"pk": f"joiner#{release}", "sk": instance_id}, int(time.time())
        known = self._get(key)
        attempt = int(known.get("attempts", 0))
        if attempt >= len(pauses) or now < int(known.get("next_at", 0)):
            return None
        item = key | {"attempts": attempt + 1, "next_at": now + pauses[attempt]}
        unseen = Attr("attempts").not_exists() | Attr("attempts").eq(attempt)
        return attempt if self._put_if(item, unseen) else None

    @staticmethod
    def _noted(key: str, upload: Upload) -> dict[str, Any]:
        return _upload_key(key) | asdict(upload) | {"expires_at": _expiry()}

    @property
    def _items(self) -> Any:
        return clients.table(self.table)

    def _get(self, key: dict[str, str]) -> dict[str, Any]:
        """The item; an empty one when there is none."""
        item: dict[str, Any] = self._items.get_item(Key=key, ConsistentRead=True).get("Item", {})
        return item

    def _set(self, key: dict[str, str], **values: object) -> None:
        values["expires_at"] = _expiry()
        self._items.update_item(
            Key=key,
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
        )

    def _put(self, item: dict[str, Any]) -> None:
        self._items.put_item(Item=item | {"expires_at": _expiry()})

    def _put_if(self, item: dict[str, Any], condition: Any) -> bool:
        try:
            self._items.put_item(
                Item=item | {"expires_at": _expiry()}, ConditionExpression=condition
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _batch_key(run_id: str, number: int) -> dict[str, str]:
    return {"pk": f"run#{run_id}", "sk": f"batch#{number:05d}"}


def _token_key(command_id: str) -> dict[str, str]:
    return {"pk": f"command#{command_id}", "sk": "token"}


def _upload_key(key: str) -> dict[str, str]:
    return {"pk": f"archive#{key}", "sk": "newest"}


def _upload(item: dict[str, Any]) -> Upload:
    return Upload(item["modified"], item.get("version_id", ""))


def _noted_before(response: Any) -> Upload:
    """The item a failed condition leaves, which the answer carries in DynamoDB's own types."""
    read = TypeDeserializer().deserialize
    return _upload({name: read(value) for name, value in response["Item"].items()})


def _expiry() -> int:
    return int(time.time()) + _LIFETIME_SECONDS


def _entry(item: dict[str, Any]) -> BatchEntry:
    failed = item.get("failed")
    # A batch collected without ever being reserved (dispatch failed first) has no time.
    reserved = item.get("reserved_at")
    return BatchEntry(
        number=int(item["sk"].removeprefix("batch#")),
        reserved_at=datetime.fromisoformat(reserved) if reserved else datetime.now(UTC),
        command_id=item.get("command_id", ""),
        skipped=bool(item.get("skipped", False)),
        failed=None if failed is None else int(failed),
        ended=bool(item.get("ended", False)),
    )

"""The target: the instances that a run is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from codeferry_contracts.errors import TargetInvalid

TARGET_TAG = "codeferry:target"
# Says which stage of the account an instance is of; one without it is of every stage.
STAGE_TAG = "codeferry:stage"
FORMS = (
    "i-0123456789abcdef0, tag:Key=Value, asg:NAME, all, or the value of the tag codeferry:target"
)
MOST_INSTANCES = 50  # named one by one, with commas between them

Kind = Literal["instance", "tag", "asg", "all", "name", "run", "wave"]

_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Ids of other AWS resources, and instance ids gone wrong: a typo must not become a name.
_OTHER_ID = re.compile(r"(?:i|vol|ami|sg|subnet|vpc|eni|snap|lt|mi|eipalloc|rtb|igw)-[0-9a-f]*")


@dataclass(frozen=True)
class Target:
    """``key`` and ``value`` are the tag to look for; ``value`` alone is a group name or a run id.

    ``instances`` are ids named one by one. Of kind ``run`` are the instances that a run has
    given its release, of kind ``wave`` those of them that were in the last wave it reached.
    """

    kind: Kind
    text: str
    key: str = ""
    value: str = ""
    instances: tuple[str, ...] = ()


def parse_target(text: str) -> Target:
    """Read a target as a person types it.

    Raises TargetInvalid, whose hint lists the forms, for anything else.
    """
    if text == "all":
        return Target("all", text)
    ids = tuple(text.split(","))
    if len(ids) <= MOST_INSTANCES and all(map(_INSTANCE.fullmatch, ids)):
        return Target("instance", text, value=text, instances=ids)
    prefix, colon, rest = text.partition(":")
    if colon:
        return _prefixed(text, prefix, rest)
    if _NAME.fullmatch(text) and not _OTHER_ID.fullmatch(text):
        return Target("name", text, key=TARGET_TAG, value=text)
    raise _invalid(text)


def _prefixed(text: str, prefix: str, rest: str) -> Target:
    printable = rest.isprintable() and len(rest) <= 400
    if prefix == "asg" and rest and printable:
        return Target("asg", text, value=rest)
    if prefix in ("run", "wave") and _RUN.fullmatch(rest):
        return Target("run" if prefix == "run" else "wave", text, value=rest)
    key, equals, value = rest.partition("=")
    if prefix == "tag" and key and equals and value and printable:
        return Target("tag", text, key=key, value=value)
    raise _invalid(text)


def _invalid(text: str) -> TargetInvalid:
    return TargetInvalid(f"{text!r} is not a target.", hint=f"A target is {FORMS}.")

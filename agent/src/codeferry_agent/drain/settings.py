"""Settings of an agent: options and variables, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codeferry_agent.drain.errors import SettingsInvalid
from codeferry_agent.drain.files.scan import is_bucket_name
from codeferry_agent.drain.upload import Sizes
from codeferry_contracts.names import STAGE_PATTERN

DEFAULT_REGION = "eu-west-1"
_ACCOUNT = re.compile(r"\d{12}")


@dataclass(frozen=True)
class Settings:
    """Seconds and bytes throughout.

    ``directories`` may be patterns. ``bucket_map`` is directory name to bucket. ``owners`` is
    the account that may own a bucket that is not the agent's account's; ``any_owner`` asks
    for none. ``stage`` is whose metrics these are, empty for nobody's.
    """

    directories: tuple[str, ...] = ("output/s3",)
    interval: float = 60.0
    stability: float = 2.0
    bucket_map: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    any_owner: bool = False
    workers: int = 16
    last_drain: float = 60.0
    stage: str = ""
    sizes: Sizes = field(default_factory=Sizes)


def stage_name(value: str) -> str:
    """The stage, or an empty one as it is. Raises SettingsInvalid for what no stage is called."""
    if value and not re.fullmatch(STAGE_PATTERN, value):
        raise SettingsInvalid(f"No stage can be called {value!r}.")
    return value


def bucket_map(values: Sequence[str]) -> dict[str, str]:
    """Directory to bucket. Raises SettingsInvalid, also for an impossible bucket."""
    mapped = dict(_pair(value, "OLD=NEW") for value in values)
    for bucket in mapped.values():
        if not is_bucket_name(bucket):
            raise SettingsInvalid(f"No bucket can be called {bucket!r}.")
    return mapped


def account_of(values: Sequence[str]) -> dict[str, str]:
    """Bucket to the account that may own it. Raises SettingsInvalid."""
    owners = dict(_pair(value, "BUCKET=ACCOUNT") for value in values)
    for account in owners.values():
        if not _ACCOUNT.fullmatch(account):
            raise SettingsInvalid(f"{account!r} is no account: it has 12 digits.")
    return owners


def _pair(value: str, form: str) -> tuple[str, str]:
    old, _, new = value.partition("=")
    if not (old and new):
        raise SettingsInvalid(f"{value!r} is not of the form {form}.")
    return old, new

"""The environment of a function."""

from __future__ import annotations

import pytest

from codeferry_lambdas.errors import SettingsMissing
from codeferry_lambdas.settings import DEFAULT_MAX_ARCHIVE_BYTES, Settings

FULL = {"STAGE": "dev", "ARTIFACT_BUCKET": "b", "RUN_TABLE": "t", "LOG_GROUP": "/g"}


def test_defaults() -> None:
    """The four variables are enough; the size cap has a default of 10 GiB."""
    settings = Settings.from_env(FULL)
    assert (settings.stage.name, settings.bucket) == ("dev", "b")
    assert settings.max_archive_bytes == DEFAULT_MAX_ARCHIVE_BYTES == 10 * 2**30


def test_all_missing_are_named() -> None:
    """One error names every variable that is missing, also one only this function needs."""
    with pytest.raises(SettingsMissing) as raised:
        Settings.from_env({"STAGE": "dev", "RUN_TABLE": ""}, "STATE_MACHINE_ARN_SYNC")
    for name in ("ARTIFACT_BUCKET", "RUN_TABLE", "LOG_GROUP", "STATE_MACHINE_ARN_SYNC"):
        assert name in raised.value.message
    assert "STAGE," not in raised.value.message


def test_cap_is_read() -> None:
    """The size cap can be set."""
    assert Settings.from_env({**FULL, "MAX_ARCHIVE_BYTES": "7"}).max_archive_bytes == 7

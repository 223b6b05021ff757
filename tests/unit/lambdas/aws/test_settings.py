"""The environment of a function."""

from __future__ import annotations

import pytest

from codeferry_lambdas.aws.errors import SettingsMissing
from codeferry_lambdas.aws.settings import DEFAULT_MAX_ARCHIVE_BYTES, Settings

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


def test_the_stage_tag_is_required_only_when_it_says_so() -> None:
    """What a function of before has not in its environment is as it was."""
    assert not Settings.from_env(FULL).require_stage_tag
    assert not Settings.from_env({**FULL, "REQUIRE_STAGE_TAG": "false"}).require_stage_tag
    assert Settings.from_env({**FULL, "REQUIRE_STAGE_TAG": "true"}).require_stage_tag


def test_cap_is_read() -> None:
    """The size cap can be set."""
    assert Settings.from_env({**FULL, "MAX_ARCHIVE_BYTES": "7"}).max_archive_bytes == 7

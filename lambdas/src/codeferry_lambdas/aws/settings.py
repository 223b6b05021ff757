"""The environment of a function: read once, named completely when incomplete."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from codeferry_contracts.names import Stage
from codeferry_lambdas.aws.errors import SettingsMissing

DEFAULT_MAX_ARCHIVE_BYTES = 10 * 1024**3


@dataclass(frozen=True)
class Settings:
    """``max_archive_bytes`` caps what plan accepts. ``start_arn`` is only start's,
    ``agent_bucket`` only dispatch's. ``require_stage_tag``: an instance that no tag puts into a
    stage is not of this one either. ``signing_key``: the hex modulus of the key whose signature
    a release needs, empty where it needs none."""

    stage: Stage
    bucket: str
    table: str
    log_group: str
    max_archive_bytes: int = DEFAULT_MAX_ARCHIVE_BYTES
    start_arn: str = ""
    require_stage_tag: bool = False
    agent_bucket: str = ""
    signing_key: str = ""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, *also: str) -> Settings:
        """Read STAGE, ARTIFACT_BUCKET, RUN_TABLE, LOG_GROUP, MAX_ARCHIVE_BYTES,
        REQUIRE_STAGE_TAG, SIGNING_KEY, for start STATE_MACHINE_ARN_SYNC, and for dispatch
        AGENT_BUCKET.

        ``also`` names variables this function cannot do without. Raises
        SettingsMissing that names every one that is missing.
        """
        env = os.environ if environment is None else environment
        needed = ("STAGE", "ARTIFACT_BUCKET", "RUN_TABLE", "LOG_GROUP", *also)
        missing = [name for name in needed if not env.get(name)]
        if missing:
            raise SettingsMissing(
                f"The function's environment lacks {', '.join(missing)}.",
                hint="Deploy the stage again: its stack sets them.",
            )
        return cls(
            stage=Stage(env["STAGE"]),
            bucket=env["ARTIFACT_BUCKET"],
            table=env["RUN_TABLE"],
            log_group=env["LOG_GROUP"],
            max_archive_bytes=int(env.get("MAX_ARCHIVE_BYTES") or DEFAULT_MAX_ARCHIVE_BYTES),
            start_arn=env.get("STATE_MACHINE_ARN_SYNC", ""),
            require_stage_tag=env.get("REQUIRE_STAGE_TAG") == "true",
            agent_bucket=env.get("AGENT_BUCKET", ""),
            signing_key=env.get("SIGNING_KEY", ""),
        )

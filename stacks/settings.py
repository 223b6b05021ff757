"""The only reader of CDK context."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aws_cdk import App

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import Stage

DEFAULT_STAGE = Stage("dev")
GIB = 1 << 30


class SettingInvalid(CodeferryError):
    """A context value (``-c name=value``) cannot be used."""

    code = "setting_invalid"


@dataclass(frozen=True)
class Settings:
    """What a deployment can choose; ``cdk deploy -c stage=prod -c log_days=90``."""

    stage: Stage = DEFAULT_STAGE
    log_days: int = 30
    record_days: int = 90
    max_archive_gib: int = 10

    @property
    def max_archive_bytes(self) -> int:
        return self.max_archive_gib * GIB

    @classmethod
    def from_context(cls, app: App) -> Settings:
        """Read every setting from the context; SettingInvalid for one that makes no sense."""
        stage = Stage(str(app.node.try_get_context("stage") or "dev"))
        numbers = {f.name: _number(app, f.name) for f in fields(cls) if f.name != "stage"}
        return cls(stage=stage, **{name: n for name, n in numbers.items() if n is not None})


def _number(app: App, name: str) -> int | None:
    value = app.node.try_get_context(name)
    if value is None:
        return None
    if not str(value).isdigit() or int(value) < 1:
        raise SettingInvalid(
            f"{name} is {value!r}, which is not a whole number above zero.",
            hint=f"Pass -c {name}=30, for example.",
        )
    return int(value)

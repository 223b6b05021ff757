"""The only reader of CDK context."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aws_cdk import App, Stack
from aws_cdk import aws_logs as logs

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import BUCKET_PATTERN, Stage
from codeferry_contracts.signing import EXPONENT, LEAST_BITS
from codeferry_contracts.target import parse_target

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_STAGE = Stage("dev")
GIB = 1 << 30
# CloudWatch keeps logs for one of a fixed set of periods.
_RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}

AGENT = "build/codeferry-agent.pyz"
IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"

# AWS's naming: the letters before the first digits are the family, and a "g" among those
# behind them says Graviton ("Amazon EC2 instance type naming conventions").
_TYPE = re.compile(r"([a-z]+)-?\d+([a-z0-9-]*)\.[a-z0-9-]+")
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[A-Za-z0-9._-]+")
_IDS = re.compile(r"\d+/\d+")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BUCKET = re.compile(BUCKET_PATTERN)
# "CreatePolicy", IAM API reference.
_POLICY = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
# "CreatePermissionSet", IAM Identity Center API reference.
_PERMISSION_SET = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)
_ADDRESS = re.compile(r'[^\s@"<>,;]+@[^\s@"<>,;]+\.[^\s@"<>,;.]+')
KMS = "kms"
_SIGNING = re.compile(rf"{KMS}|file")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d")
_ZONE = re.compile(_REGION.pattern + r"[a-z]")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


class SettingInvalid(CodeferryError):
    """A context value (``-c name=value``) cannot be used."""

    code = "setting_invalid"


@dataclass(frozen=True)
class FleetSettings:
    """The fleet: ``target`` is its instances' tag, ``models`` a prefix of the permanent bucket
    that they fetch at their first start ("" for none), ``image`` an SSM parameter with an AMI.
    ``zones`` are those of the network of its own; () for the region's first two."""

    target: str
    types: tuple[str, ...] = ("t4g.small",)
    minimum: int = 1
    maximum: int = 3
    spot: bool = False
    vpc: str = ""
    subnets: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    image: str = ""
    disk_gib: int = 30
    models: str = ""
    agent: Path = ROOT / AGENT

    @property
    def architecture(self) -> str:
        """``arm64`` or ``x86_64``: all types have the same."""
        return architecture(self.types[0])

    @property
    def image_parameter(self) -> str:
        return self.image or IMAGE.format(architecture=self.architecture)


@dataclass(frozen=True)
class GitOpsSettings:
    """Whose workflows may plan and deploy: ``owner/name`` at GitHub and, in ``ids``, the numbers
    of both, which a repository's subject claims carry when they are immutable."""

    repository: str
    ids: str = ""
    environment: str = "production"
    branch: str = "main"
    own_provider: bool = True


@dataclass(frozen=True)
class Settings:
    """What a deployment can choose; ``cdk deploy -c stage=prod -c log_days=90``. ``region`` is
    where it goes, for names that have to be written out; "" leaves them to CloudFormation."""

    stage: Stage = DEFAULT_STAGE
    region: str = ""
    log_days: int = 30
    record_days: int = 90
    max_archive_gib: int = 10
    output_days: int = 30
    checkpoint_days: int = 14
    empty_on_destroy: bool = True
    permanent_bucket: str = ""
    permissions_boundary: str = ""
    break_glass_permission_set: str = ""
    require_stage_tag: bool = False
    signing: str = ""
    signing_key: str = ""
    alarm_email: str = ""
    notify: str = ""
    fleet: FleetSettings | None = None
    gitops: GitOpsSettings | None = None

    @property
    def signing_modulus(self) -> str:
        """Hex modulus of the key whose signature instances ask for; empty where for none."""
        return _modulus(self.signing_key) if self.signing_key else ""

    @property
    def log_retention(self) -> logs.RetentionDays:
        """The shortest period CloudWatch offers that is at least ``log_days``, at most a year."""
        return _RETENTION[min((d for d in _RETENTION if d >= self.log_days), default=365)]

    @property
    def max_archive_bytes(self) -> int:
        return self.max_archive_gib * GIB

    def named_in_iam(self, stack: Stack, purpose: str) -> str:
        """The name of a role or policy of ``stack``."""
        return self.stage.of_account(purpose, self.region or stack.region)

    @classmethod
    def from_context(cls, app: App) -> Settings:
        """Read every setting from the context; SettingInvalid for one that makes no sense."""
        context = _Context(app)
        region = context.text("region", pattern=_REGION)
        return cls(
            stage=Stage(context.text("stage") or DEFAULT_STAGE.name),
            region=region,
            log_days=context.number("log_days", cls.log_days),
            record_days=context.number("record_days", cls.record_days),
            max_archive_gib=context.number("max_archive_gib", cls.max_archive_gib),
            output_days=context.number("output_days", cls.output_days),
            checkpoint_days=context.number("checkpoint_days", cls.checkpoint_days),
            empty_on_destroy=context.switch("empty_on_destroy", cls.empty_on_destroy),
            permanent_bucket=context.text("permanent_bucket", pattern=_BUCKET),
            permissions_boundary=context.text("permissions_boundary", pattern=_POLICY),
            break_glass_permission_set=context.text(
                "break_glass_permission_set", pattern=_PERMISSION_SET
            ),
            require_stage_tag=context.switch("require_stage_tag", cls.require_stage_tag),
            **_signing(context),
            alarm_email=context.address("alarm_email"),
            notify=context.address("notify"),
            fleet=_fleet(context, region),
            gitops=_gitops(context),
        )


def _signing(context: _Context) -> dict[str, str]:
    """How releases are signed. A key that nobody could sign with would end all runs."""
    how, key = context.text("signing", pattern=_SIGNING), context.text("signing_key")
    if key and not how:
        raise SettingInvalid(
            "signing_key is given without signing.",
            hint="Pass -c signing=kms, or -c signing=file where the private key is a file.",
        )
    if key:
        _modulus(key)
    return {"signing": how, "signing_key": key}


@cache
def _modulus(key: str) -> str:
    """Hex modulus of an RSA public key given as KMS gives it: base64 of a SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        found = load_der_public_key(base64.b64decode(key, validate=True))
    except ValueError:
        found = None
    if not isinstance(found, RSAPublicKey) or found.key_size < LEAST_BITS:
        raise SettingInvalid(
            f"signing_key is no RSA public key of {LEAST_BITS} bits or more in base64.",
            hint="Pass what this prints: aws kms get-public-key --key-id ARN "
            "--query PublicKey --output text",
        )
    numbers = found.public_numbers()
    if numbers.e != EXPONENT:
        raise SettingInvalid(f"signing_key has the exponent {numbers.e}, not {EXPONENT}.")
    return f"{numbers.n:x}"


def architecture(instance_type: str) -> str:
    """``arm64`` or ``x86_64``, as an EC2 instance type's name says it."""
    match = _TYPE.fullmatch(instance_type)
    if not match:
        raise SettingInvalid(
            f"{instance_type!r} is not an instance type.", hint="Pass -c fleet_types=t4g.small."
        )
    family, attributes = match.groups()
    return "arm64" if family == "a" or "g" in attributes else "x86_64"


class _Context:
    """The context's values, as text, numbers, lists and switches."""

    def __init__(self, app: App) -> None:
        self._app = app

    def text(self, name: str, default: str = "", pattern: re.Pattern[str] | None = None) -> str:
        value = self._app.node.try_get_context(name)
        text = str(value) if value not in (None, "") else default
        if text and pattern and not pattern.fullmatch(text):
            raise SettingInvalid(
                f"{name} is {text!r}, which it cannot be.", hint=f"It matches {pattern.pattern}."
            )
        return text

    def address(self, name: str) -> str:
        text = self.text(name)
        if text and not _ADDRESS.fullmatch(text):
            raise SettingInvalid(
                f"{name} is {text!r}, which is no e-mail address.",
                hint=f"Pass -c {name}=you@example.org.",
            )
        return text

    def number(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdigit() or int(value) < 1:
            raise SettingInvalid(
                f"{name} is {value!r}, which is not a whole number above zero.",
                hint=f"Pass -c {name}={default}, for example.",
            )
        return int(value)

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(word for word in self.text(name).split(",") if word) or default

    def switch(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false"):
            raise SettingInvalid(
                f"{name} is {value!r}; it is true or false.", hint=f"Pass -c {name}=true."
            )
        return value == "true"


def _fleet(context: _Context, region: str) -> FleetSettings | None:
    """The fleet, when the context names its target (``-c fleet=gpu-workers``)."""
    target = context.text("fleet")
    if not target:
        return None
    settings = FleetSettings(
        target=_target(target),
        types=context.words("fleet_types", FleetSettings.types),
        minimum=context.number("fleet_min", FleetSettings.minimum),
        maximum=context.number("fleet_max", FleetSettings.maximum),
        spot=context.switch("fleet_spot", FleetSettings.spot),
        vpc=context.text("fleet_vpc"),
        subnets=context.words("fleet_subnets"),
        zones=context.words("fleet_zones"),
        image=context.text("fleet_image"),
        disk_gib=context.number("fleet_disk_gib", FleetSettings.disk_gib),
        models=context.text("fleet_models", pattern=_PREFIX).strip("/"),
        agent=ROOT / context.text("agent_pyz", AGENT),
    )
    _check_fleet(settings, region)
    return settings


def _target(name: str) -> str:
    target = parse_target(name)
    if target.kind != "name":
        raise SettingInvalid(
            f"fleet is {name!r}, but it has to be a bare name.",
            hint="It becomes the tag codeferry:target of the instances: -c fleet=gpu-workers.",
        )
    return name


def _check_fleet(fleet: FleetSettings, region: str) -> None:
    regions = {zone[:-1] for zone in fleet.zones} | ({region} if region and fleet.zones else set())
    problems = {
        "fleet_min is above fleet_max.": fleet.minimum > fleet.maximum,
        "fleet_types mixes arm64 and x86_64.": len({architecture(t) for t in fleet.types}) > 1,
        "fleet_vpc and fleet_subnets go together.": bool(fleet.vpc) != bool(fleet.subnets),
        "fleet_zones is for the network of its own: fleet_subnets have their zones.": bool(
            fleet.zones and fleet.vpc
        ),
        "fleet_zones names what is no zone, like eu-west-1a, or one twice.": not all(
            map(_ZONE.fullmatch, fleet.zones)
        )
        or len(set(fleet.zones)) < len(fleet.zones),
        "fleet_zones names zones of several regions.": len(regions) > 1,
    }
    for problem, found in problems.items():
        if found:
            raise SettingInvalid(problem, hint="docs/fleet.md lists the settings of a fleet.")
    if not fleet.agent.is_file():
        raise SettingInvalid(
            f"There is no agent at {fleet.agent}.",
            hint="Build it first: python scripts/build_agent.py",
        )


def _gitops(context: _Context) -> GitOpsSettings | None:
    """The GitOps stack, when the context names the repository (``-c github=owner/name``)."""
    repository = context.text("github", pattern=_REPOSITORY)
    if not repository:
        return None
    return GitOpsSettings(
        repository=repository,
        ids=context.text("github_ids", pattern=_IDS),
        environment=context.text("github_environment", GitOpsSettings.environment, _ENVIRONMENT),
        branch=context.text("github_branch", GitOpsSettings.branch, _ENVIRONMENT),
        own_provider=context.switch("github_provider", GitOpsSettings.own_provider),
    )

"""Reasons for which commands cannot reach an instance, in words, and what to do about each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from codeferry_contracts.formatting import counted
from codeferry_contracts.target import STAGE_TAG, TARGET_TAG, Target
from codeferry_lambdas.aws.errors import NoInstances
from codeferry_lambdas.aws.settings import Settings

_MOST_KNOWN = 20
_WITHOUT_EC2MESSAGES = [3, 3, 40]
UPDATE_AGENT = (
    "Update its agent: aws ssm send-command --document-name AWS-UpdateSSMAgent "
    "--instance-ids {id}; if that does not arrive, on the instance: dnf update amazon-ssm-agent"
)
GONE = ("shutting-down", "terminated")


@dataclass(frozen=True)
class Unreachable:
    """Why a command cannot reach an instance, in words, and what changes that."""

    instance_id: str
    name: str
    code: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Machine:
    """An instance as EC2 knows it."""

    instance_id: str
    state: str
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.tags.get("Name", "")


@dataclass(frozen=True)
class Agent:
    """An instance as SSM knows it; ``version`` is its agent's, "" where SSM does not say."""

    ping: str
    platform: str
    version: str = ""

    @property
    def is_old(self) -> bool:
        """Whether it takes commands by way of ec2messages alone, an endpoint that newer Regions
        have not got ("Reference: ec2messages, ssmmessages, and other API operations", Systems
        Manager User Guide)."""
        numbers = [int(part) for part in self.version.split(".") if part.isdigit()]
        return bool(numbers) and numbers < _WITHOUT_EC2MESSAGES


def is_elsewhere(machine: Machine, settings: Settings) -> bool:
    """Whether its tag puts the machine into another stage."""
    return machine.tags.get(STAGE_TAG, settings.stage.name) != settings.stage.name


def takes_code(machine: Machine, settings: Settings) -> bool:
    """Whether its tags let this stage's commands in: what IAM decides as well, by the condition
    of dispatch's SendCommand (``stacks/permissions/roles.py``)."""
    return _tag_reason(machine, settings) is None


def unreachable_reason(
    machine: Machine, agent: Agent | None, settings: Settings
) -> Unreachable | None:
    """The first thing that keeps commands from this machine, or None."""
    if is_elsewhere(machine, settings):
        return _tag_reason(machine, settings)
    if machine.state != "running":
        return _unreachable(machine, "not_running", f"is {machine.state}", _start(machine))
    mistagged = _tag_reason(machine, settings)
    if mistagged is not None:
        return mistagged
    if agent is None:
        fix = (
            "Attach AmazonSSMManagedInstanceCore to its role, check that the SSM agent runs, "
            "and that it reaches SSM (NAT or VPC endpoints ssm, ssmmessages; and logs for the "
            "output of commands)."
        )
        return _unreachable(machine, "not_managed", "is not known to Systems Manager", fix)
    if agent.ping != "Online":
        reason = f"has an SSM agent that is not online ({agent.ping})"
        fix = "Check its network and restart the agent: systemctl restart amazon-ssm-agent"
        if agent.is_old:
            reason += f" and older than ssmmessages ({agent.version})"
            fix = f"{fix}. {UPDATE_AGENT.format(id=machine.instance_id)}"
        return _unreachable(machine, "agent_offline", reason, fix)
    if agent.platform != "Linux":
        reason = f"runs {agent.platform or 'an unknown platform'}, not Linux"
        return _unreachable(machine, "not_linux", reason, "Take the tag codeferry:target off it.")
    return None


def _tag_reason(machine: Machine, settings: Settings) -> Unreachable | None:
    """The fault of its tags, or None."""
    stage = settings.stage.name
    if is_elsewhere(machine, settings):
        other = machine.tags[STAGE_TAG]
        reason = f"is of the stage {other!r}, by its tag {STAGE_TAG}"
        fix = f"Use that stage, or give it to this one: {_tag(machine, STAGE_TAG, stage)}"
        return _unreachable(machine, "other_stage", reason, fix)
    if TARGET_TAG not in machine.tags:
        fix = f"Tag it: {_tag(machine, TARGET_TAG, 'NAME')}"
        return _unreachable(machine, "not_tagged", f"does not carry the tag {TARGET_TAG}", fix)
    if settings.require_stage_tag and STAGE_TAG not in machine.tags:
        reason = f"does not carry the tag {STAGE_TAG}, without which this stage leaves it alone"
        return _unreachable(
            machine, "no_stage", reason, f"Tag it: {_tag(machine, STAGE_TAG, stage)}"
        )
    return None


def _tag(machine: Machine, key: str, value: str) -> str:
    return f"aws ec2 create-tags --resources {machine.instance_id} --tags Key={key},Value={value}"


def _start(machine: Machine) -> str:
    if machine.state == "stopped":
        return f"Start it: aws ec2 start-instances --instance-ids {machine.instance_id}"
    if machine.state in GONE:
        return "It is gone; choose another target."
    return f"Wait until it is {'running' if machine.state == 'pending' else 'stopped'}."


def _unreachable(machine: Machine, code: str, reason: str, fix: str) -> Unreachable:
    return Unreachable(machine.instance_id, machine.name, code, reason, fix)


def no_instances(
    target: Target, found: Sequence[Unreachable], known: Sequence[Machine] = ()
) -> NoInstances:
    """Why nothing can be reached: a line per instance with its fix; where nothing matches, what
    there is to match of the ``known`` machines."""
    if not found:
        return NoInstances(_unmatched(target), hint="\n".join(_advice(target, known)))
    return NoInstances(
        f"None of the {len(found)} instances of {target.text!r} can be reached: "
        + "; ".join(lines(found)),
        hint=found[0].fix if len(found) == 1 else "Each line names its fix.",
    )


def _unmatched(target: Target) -> str:
    if target.kind == "instance":
        several = len(target.instances) > 1
        which = f"instance of {target.text}" if several else f"instance {target.text}"
        return f"There is no {which} in this account and region."
    return f"No instance matches the target {target.text!r} in this account and region."


def _advice(target: Target, known: Sequence[Machine]) -> Iterator[str]:
    targets = Counter(machine.tags[TARGET_TAG] for machine in known)
    if target.kind == "instance":
        yield "Check the id, --region and --profile: an instance is of one region of one account."
    elif target.kind == "name":
        if any(machine.name == target.value for machine in known):
            yield f"An instance has that name: tag:Name={target.value}"
        elif near := get_close_matches(target.value, targets, n=1):
            yield f"Did you mean {near[0]!r}?"
    if not targets:
        yield "No instance is a target yet: aws ec2 create-tags --resources i-… --tags " + (
            f"Key={TARGET_TAG},Value=NAME"
        )
        return
    shown = [f"{name} ({counted(n, 'instance')})" for name, n in targets.most_common(_MOST_KNOWN)]
    more = [f"{len(targets) - len(shown)} more"] if len(targets) > len(shown) else []
    yield f"Known targets: {', '.join([*shown, *more])}"


def lines(found: Sequence[Unreachable], most: int = 20) -> list[str]:
    """A line per instance with its fix, and how many more there are."""
    shown = [f"{o.instance_id} {o.reason}. {o.fix}" for o in found[:most]]
    more = len(found) - most
    return [*shown, f"and {more} more"] if more > 0 else shown

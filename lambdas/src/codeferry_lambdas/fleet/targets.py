"""Resolve a target to instances, and find out which of them a command can reach."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from codeferry_contracts.target import STAGE_TAG, TARGET_TAG, Target, parse_target
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import NoInstances
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.unreachable import (
    GONE,
    Agent,
    Machine,
    Unreachable,
    is_elsewhere,
    no_instances,
    unreachable_reason,
)

_CHUNK = 50
_THREADS = 4
_GROUP_TAG = "aws:autoscaling:groupName"


@dataclass(frozen=True)
class Instance:
    instance_id: str
    name: str


@dataclass(frozen=True)
class Fleet:
    """``unreachable`` instances run, so they were asked for and failed; ``left_out`` ones
    do not run, so nobody expects code on them. ``of_every_stage`` are the reachable ones that no
    tag puts into a stage, by id; ``old_agents`` those whose agent is, with its version."""

    reachable: tuple[Instance, ...]
    unreachable: tuple[Unreachable, ...]
    left_out: tuple[Unreachable, ...]
    of_every_stage: tuple[str, ...] = ()
    old_agents: Mapping[str, str] = field(default_factory=dict)


def resolve(target: Target, settings: Settings) -> Fleet:
    """The target's instances of this stage, sorted by what EC2 and SSM say now."""
    return _classified(find_machines(target), settings, alone=target.kind == "instance")


def nobody_reachable(target: Target, found: Fleet, settings: Settings) -> NoInstances:
    """The error of a target of which nothing can be reached; where it matches nothing, with what
    this stage's tags would match."""
    away = (*found.unreachable, *found.left_out)
    known = [] if away else [m for m in _tagged(settings) if m.state not in GONE]
    return no_instances(target, away, known)


def _tagged(settings: Settings) -> Iterator[Machine]:
    return (m for m in find_machines(parse_target("all")) if not is_elsewhere(m, settings))


def resolve_ids(instance_ids: Collection[str], settings: Settings) -> Fleet:
    """Those of these instances that can be reached at all, however many they are."""
    tagged = find_machines(parse_target("all"))
    return _classified((m for m in tagged if m.instance_id in instance_ids), settings, alone=False)


def _classified(found: Iterable[Machine], settings: Settings, *, alone: bool) -> Fleet:
    """Another stage's instances are nobody's to speak of, unless the target names them or has no
    others: then they are its answer."""
    machines = sorted(found, key=lambda machine: machine.instance_id)
    if not alone:
        machines = [m for m in machines if not is_elsewhere(m, settings)] or machines
    running = [machine.instance_id for machine in machines if machine.state == "running"]
    return classify(machines, find_agents(running), settings, alone=alone)


def find_machines(target: Target) -> Iterator[Machine]:
    """Every instance the target matches. EC2 compares with wildcards, so it is compared
    again here, to the letter."""
    pages = clients.ec2().get_paginator("describe_instances").paginate(Filters=[_filter(target)])
    for page in pages:
        for reservation in page["Reservations"]:
            for found in reservation["Instances"]:
                machine = _machine(found)
                if matches(target, machine):
                    yield machine


def _machine(found: Any) -> Machine:
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
    return Machine(found["InstanceId"], found["State"]["Name"], tags)


def _filter(target: Target) -> Any:
    match target.kind:
        case "instance":
            return {"Name": "instance-id", "Values": list(target.instances)}
        case "all":
            return {"Name": "tag-key", "Values": [TARGET_TAG]}
        case _:
            return {"Name": f"tag:{_tag(target)}", "Values": [_literal(target.value)]}


def _tag(target: Target) -> str:
    return _GROUP_TAG if target.kind == "asg" else target.key


def _literal(value: str) -> str:
    """``value`` with EC2's wildcards escaped."""
    return "".join(f"\\{c}" if c in "\\*?" else c for c in value)


def matches(target: Target, machine: Machine) -> bool:
    """Whether the target means this machine, to the letter."""
    if target.kind == "all":
        return TARGET_TAG in machine.tags
    if target.kind == "instance":
        return machine.instance_id in target.instances
    return machine.tags.get(_tag(target)) == target.value


def find_agents(instance_ids: Sequence[str]) -> dict[str, Agent]:
    """The agents of these instances as SSM knows them; the ones it does not know are absent."""
    chunks = [instance_ids[i : i + _CHUNK] for i in range(0, len(instance_ids), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(chain.from_iterable(pool.map(_agents, chunks)))


def online(instance_ids: Sequence[str]) -> list[str]:
    """Those of the instances whose agent SSM sees online."""
    agents = find_agents(instance_ids)
    return [i for i in instance_ids if i in agents and agents[i].ping == "Online"]


def _agents(chunk: Sequence[str]) -> list[tuple[str, Agent]]:
    pages = clients.ssm().get_paginator("describe_instance_information")
    wanted: Any = [{"Key": "InstanceIds", "Values": list(chunk)}]
    found = chain.from_iterable(
        page["InstanceInformationList"]
        for page in pages.paginate(Filters=wanted, PaginationConfig={"PageSize": _CHUNK})
    )
    return [
        (
            item["InstanceId"],
            Agent(
                item.get("PingStatus", ""),
                item.get("PlatformType", ""),
                item.get("AgentVersion", ""),
            ),
        )
        for item in found
    ]


def classify(
    machines: Sequence[Machine], agents: Mapping[str, Agent], settings: Settings, *, alone: bool
) -> Fleet:
    """Sort the machines into reachable, unreachable and left out.

    Terminated ones still show for an hour and are not worth a word, unless ``alone``:
    the target named exactly that one.
    """
    reachable: list[Instance] = []
    unreachable: list[Unreachable] = []
    left_out: list[Unreachable] = []
    for machine in machines:
        reason = unreachable_reason(machine, agents.get(machine.instance_id), settings)
        if reason is None:
            reachable.append(Instance(machine.instance_id, machine.name))
        elif machine.state == "running":
            unreachable.append(reason)
        elif alone or machine.state not in GONE:
            left_out.append(reason)
    of_every_stage = {m.instance_id for m in machines if STAGE_TAG not in m.tags}
    return Fleet(
        tuple(reachable),
        tuple(unreachable),
        tuple(left_out),
        tuple(i.instance_id for i in reachable if i.instance_id in of_every_stage),
        {i.instance_id: agents[i.instance_id].version for i in reachable if _old(agents, i)},
    )


def _old(agents: Mapping[str, Agent], instance: Instance) -> bool:
    return agents[instance.instance_id].is_old

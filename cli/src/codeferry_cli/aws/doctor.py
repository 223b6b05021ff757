"""The checks of `ferry doctor`, from what is on this machine outwards to the instances."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from codeferry_cli.aws import errors
from codeferry_cli.aws.deep_checks import Check, deep_checks
from codeferry_cli.aws.session import Access, Aws, state_path
from codeferry_cli.aws.signing import may_sign
from codeferry_cli.aws.stage import DeployedStage, ask_check_function, find_stage
from codeferry_cli.errors import ConfigInvalid
from codeferry_contracts.errors import CodeferryError

OLDEST_PYTHON = (3, 11)
_DEEP = 20  # instances that IAM is asked about, one by one

_TAG_ONE = (
    "Mend one that is listed, or tag another:\n"
    "aws ec2 create-tags --resources i-… --tags Key=codeferry:target,Value=NAME"
)
_CLOSE = (
    "Put each into its stage:\n"
    "aws ec2 create-tags --resources {ids} --tags Key=codeferry:stage,Value={stage}\n"
    "and once all have it, deploy with -c require_stage_tag=true."
)


def examine(
    access: Access,
    target: str | None,
    problem: ConfigInvalid | None = None,
    files: tuple[Path, ...] = (),
    *,
    deep: bool = False,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Check]:
    """All checks, each as soon as it is made; a check that needs a failed one is left out.

    ``waiting`` is entered while the stage is looked for.
    """
    yield python_version(sys.version_info[:2])
    yield git()
    yield configuration(problem, files)
    name = "local stage" if access.is_local else "AWS configuration"
    check, aws = _attempt(access, name, lambda: _open(access), _where)
    yield check
    if not access.is_local:
        yield local_stage()
    if aws is None:
        return
    check, identity = _attempt(access, "credentials", lambda: _identity(aws))
    yield check
    if identity is None:
        return
    check, stage = _attempt(
        access,
        "stage",
        lambda: find_stage(aws, waiting),
        lambda stage: f"'{stage.name}' is deployed in {aws.region}",
    )
    yield check
    if stage is not None:
        yield from _stage_parts(access, stage, target, deep)


def _attempt(
    access: Access, name: str, action: Callable[[], Any], say: Callable[[Any], str] = str
) -> tuple[Check, Any]:
    """The check that ``action`` works, and what it returned; None where it failed."""
    try:
        found = action()
    except CodeferryError as error:
        problem = error
    except Exception as error:
        explained = errors.explain(error, access)
        if explained is None:
            raise
        problem = explained
    else:
        return Check(name, "ok", say(found)), found
    return Check(name, "fail", problem.message, problem.hint), None


def _stage_parts(
    access: Access, stage: DeployedStage, target: str | None, deep: bool
) -> Iterator[Check]:
    yield _attempt(access, "bucket", lambda: _bucket(stage))[0]
    yield _attempt(access, "state machine", lambda: _machine(stage))[0]
    if stage.signing:
        yield _signing(access, stage)
    reached = []
    if target is not None:
        name = f"target {target}"
        check, answer = _attempt(access, name, lambda: ask_check_function(stage, target))
        if answer is None:
            yield check
        else:
            reached = [_instance_id(entry) for entry in answer["reachable"]]
            yield from _instances(stage, name, reached, answer)
    if deep:
        yield from deep_checks(stage, reached[:_DEEP])


def _signing(access: Access, stage: DeployedStage) -> Check:
    """Whether this user may sign, and whether anybody asks for it."""
    if not stage.signed_by:
        said = "releases are signed, and no instance asks for it: no public key is pinned"
        fix = (
            "Deploy with -c signing_key=KEY, which is what this prints:\n"
            f"aws kms get-public-key --key-id {stage.signing} --query PublicKey --output text"
        )
        return Check("signing", "warn", said, fix)
    said = "instances take signed releases, and you may sign"
    return _attempt(access, "signing", lambda: may_sign(stage), lambda _: said)[0]


def python_version(version: tuple[int, int]) -> Check:
    said = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Check("Python", "fail", said, "Install Python 3.11 or newer.")
    return Check("Python", "ok", platform.python_version())


def git() -> Check:
    """Without git the ignore files alone decide, and nobody can see the index."""
    if shutil.which("git"):
        return Check("git", "ok", "found")
    return Check(
        "git",
        "warn",
        "not found; what is tracked though ignored cannot be known, some patterns not be read",
        "Install git.",
    )


def configuration(problem: ConfigInvalid | None, files: tuple[Path, ...]) -> Check:
    if problem:
        return Check("configuration", "fail", problem.message, problem.hint or "Correct the file.")
    named = ", ".join(map(str, files))
    return Check("configuration", "ok", named or "no codeferry.toml; defaults hold")


def local_stage() -> Check:
    """Whether the embedded AWS runs: good to know, needed only for ``--stage local``."""
    running = state_path().is_file()
    return Check("local stage", "ok", "running" if running else "not running (not needed here)")


def _open(access: Access) -> Aws:
    aws = Aws(access)
    if not aws.region:
        raise errors.no_region()
    return aws


def _where(aws: Aws) -> str:
    return f"running at {aws.endpoint}" if aws.endpoint else f"region {aws.region}"


def _identity(aws: Aws) -> str:
    who: str = aws.client("sts").get_caller_identity()["Arn"]
    return who


def _bucket(stage: DeployedStage) -> str:
    stage.s3.head_bucket(Bucket=stage.bucket)
    return f"{stage.bucket} can be reached"


def _machine(stage: DeployedStage) -> str:
    names = []
    for workflow in stage.workflows:
        arn = stage.state_machine_arn(workflow)
        found = stage.workflow.describe_state_machine(stateMachineArn=arn)
        if found["status"] != "ACTIVE":
            raise errors.stage_missing(stage.aws.access, stage.aws.region)
        names.append(found["name"])
    return f"{' and '.join(names)} are active"


def _instances(
    stage: DeployedStage, name: str, reachable: list[str], answer: dict[str, Any]
) -> Iterator[Check]:
    unreachable = answer["unreachable"]
    said = f"{len(reachable)} of {len(reachable) + len(unreachable)} instances can be reached"
    if reachable:
        yield Check(name, "ok", said, of_target=True)
    else:
        yield Check(name, "fail", said, _TAG_ONE, of_target=True)
    for instance_id in reachable:
        yield Check(instance_id, "ok", "can be reached", of_target=True)
    for entry in unreachable:
        yield Check(entry["instance_id"], "warn", entry["reason"], entry["fix"], of_target=True)
    yield from _stages(stage, answer.get("of_every_stage", []))
    yield from _agents(answer.get("old_agents", {}))


def _stages(stage: DeployedStage, ids: list[str], named: int = 20) -> Iterator[Check]:
    """Instances that no tag puts into a stage, which are open to every stage of the account."""
    if ids:
        said = f"{len(ids)} without the tag codeferry:stage, which every stage can run code on"
        shown = " ".join(ids[:named]) + (" …" if len(ids) > named else "")
        fix = _CLOSE.format(ids=shown, stage=stage.name)
        yield Check("stages", "warn", said, fix, of_target=True)


def _agents(old: dict[str, str], named: int = 20) -> Iterator[Check]:
    """A version before 3.3.40 takes commands through an endpoint that newer Regions have not got,
    and that a fleet's own network has not."""
    if old:
        listed = [f"{id_} ({version})" for id_, version in sorted(old.items())]
        shown = ", ".join(listed[:named]) + (", …" if len(listed) > named else "")
        said = f"{shown}: older than 3.3.40, and takes commands by the endpoint ec2messages alone"
        ids = " ".join(sorted(old)[:named])
        fix = f"aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids {ids}"
        yield Check("SSM agents", "warn", said, fix, of_target=True)


def _instance_id(entry: Any) -> str:
    """The function lists ids, or objects that have one."""
    return str(entry["instance_id"]) if isinstance(entry, dict) else str(entry)

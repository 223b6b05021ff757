"""The definition read, not run: what must hold of every state and every path."""

from __future__ import annotations

import json
from math import ceil

import pytest

from codeferry_lambdas import waves
from tests.workflow import definition
from tests.workflow.definition import Machine, State, machines, states, targets

MACHINE = definition.load()
STATES = states(MACHINE)
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
# The CLI maps these names to phases.
KNOWN_TO_CLI = {
    "Plan", "Waves", "Batches", "Dispatch", "Await15", "Await60", "AwaitLong",
    "Collect", "CollectFailure", "Verify", "Cleanup", "Report",
}  # fmt: skip
AWS_TROUBLE = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "AwsUnavailable",
}


def reachable(machine: Machine) -> set[str]:
    """The states of one machine that can be reached from its start."""
    found, open_ = set(), [machine["StartAt"]]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += targets(machine["States"][name])
    return found


def leads_to(machine: Machine, name: str, goal: str) -> bool:
    """Whether every path from a state to an end passes the goal."""
    if name == goal:
        return True
    following = targets(machine["States"][name])
    return bool(following) and all(leads_to(machine, n, goal) for n in following)


def test_names() -> None:
    """Every state the CLI knows is there, and no name is used twice."""
    assert set(STATES) >= KNOWN_TO_CLI
    assert len(STATES) == sum(len(machine["States"]) for machine in machines(MACHINE))


def test_every_target_resolves() -> None:
    """Every Next, Default and Catch names a state of the same machine, and so does StartAt."""
    for machine in machines(MACHINE):
        named = [machine["StartAt"], *(t for s in machine["States"].values() for t in targets(s))]
        assert set(named) <= set(machine["States"])


def test_every_state_is_reachable() -> None:
    """No state is left over."""
    for machine in machines(MACHINE):
        assert reachable(machine) == set(machine["States"])


def test_every_state_goes_on_or_ends() -> None:
    """A state has exactly one of Next, End, choices, or is an end by its type."""
    for name, state in STATES.items():
        ends = state["Type"] in ("Succeed", "Fail") or state.get("End") is True
        assert ends != bool(targets(state)) or (ends and "Catch" in state), name


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_bounded(name: str) -> None:
    """Every Task has a timeout of at most 15 minutes and catches everything that is left."""
    state = TASKS[name]
    assert 0 < state["TimeoutSeconds"] <= 900
    assert any(catcher["ErrorEquals"] == ["States.ALL"] for catcher in state["Catch"])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_retries_aws_trouble_only(name: str) -> None:
    """Every Task is retried, with jitter and a cap, on AWS's trouble and never on our errors."""
    retried = TASKS[name]["Retry"]
    trouble = next(r for r in retried if "AwsUnavailable" in r["ErrorEquals"])
    assert set(trouble["ErrorEquals"]) >= AWS_TROUBLE
    assert trouble["JitterStrategy"] == "FULL"
    assert trouble["MaxDelaySeconds"] <= 60
    names = {error for retrier in retried for error in retrier["ErrorEquals"]}
    assert names - {"AwsUnavailable"} == {n for n in names if n.startswith(("Lambda.", "States."))}
    assert not names & {"States.ALL", "States.TaskFailed"}


def test_every_failure_reaches_cleanup_then_report() -> None:
    """From every catch of the outer machine all paths pass Cleanup, and from it Report."""
    for name, state in MACHINE["States"].items():
        for catcher in state.get("Catch", ()):
            if name in ("Cleanup", "Report"):
                continue
            assert leads_to(MACHINE, catcher["Next"], "Cleanup"), name
    assert leads_to(MACHINE, "Cleanup", "Report")


def test_waves_catch() -> None:
    """What no iteration caught is caught around them, so nothing skips cleanup."""
    assert MACHINE["States"]["Waves"]["Catch"][0]["ErrorEquals"] == ["States.ALL"]


def test_iterations_never_fail() -> None:
    """Inside a batch every error ends in a record of it: no Fail, every catch leads on."""
    inner = STATES["Batches"]["ItemProcessor"]
    assert all(state["Type"] != "Fail" for state in inner["States"].values())
    for name in ("Dispatch", "AwaitLong", "Collect"):
        assert targets(inner["States"][name])[-1] == "CollectFailure"


def test_first_error_stays() -> None:
    """Only the first error is written to $.error; cleanup and report have places of their own."""
    assert MACHINE["States"]["Cleanup"]["Catch"][0]["ResultPath"] == "$.cleanup_error"
    assert MACHINE["States"]["Report"]["Catch"][0]["ResultPath"] == "$.report_error"


def test_maps_pass_no_results_on() -> None:
    """A Map drops what its iterations return."""
    for name in ("Waves", "Batches"):
        assert STATES[name]["ResultSelector"] == {"finished": True}


def test_concurrency() -> None:
    """Waves follow each other; within one, 40 batches at a time, as an inline Map can."""
    assert STATES["Waves"]["MaxConcurrency"] == 1
    assert STATES["Batches"]["MaxConcurrency"] == 40


def test_substitutions() -> None:
    """The stack knows every placeholder, and JSON survives putting them in."""
    assert definition.placeholders() == definition.SUBSTITUTIONS
    whole = definition.substituted(dict.fromkeys(definition.FUNCTIONS, "arn:aws:lambda:::f"))
    assert "${" not in json.dumps(whole)


def test_nothing_the_embedded_aws_lacks() -> None:
    """The definition keeps to what runs unchanged on AWS and on the embedded AWS."""
    text = definition.PATH.read_text()
    for field in ("TimeoutSecondsPath", "MaxConcurrencyPath", "ItemBatcher", "ResultWriter", "{%"):
        assert field not in text


# History events. A Lambda task leaves entered, scheduled, started, succeeded, exited; one
# with a token also submitted; a retried attempt all but entered and exited.


def task_events(state: State, attempts: int = 1) -> int:
    waiting = "waitForTaskToken" in state["Resource"]
    return 2 + (4 if waiting else 3) * attempts


def batch_events(seconds_waited: int) -> int:
    """Events of one batch whose command ends after this long without a status event."""
    waits = [task_events(STATES[name]) for name in ("Await15", "Await60")]
    sweeps = ceil(max(1, seconds_waited - 75) / waves.SWEEP_SECONDS)
    waits.append(task_events(STATES["AwaitLong"], sweeps))
    iteration, sent = 2, 2
    return (
        iteration
        + task_events(STATES["Dispatch"])
        + sent
        + sum(waits)
        + task_events(STATES["Collect"])
    )


def test_model_matches_planning() -> None:
    """What plan reckons with is what the definition does."""
    sweep = STATES["AwaitLong"]["Retry"][0]
    assert sweep["ErrorEquals"] == ["States.Timeout"]
    cycle = STATES["AwaitLong"]["TimeoutSeconds"] + sweep["IntervalSeconds"]
    assert (cycle, sweep["BackoffRate"]) == (waves.SWEEP_SECONDS, 1)
    assert batch_events(76) == waves.BATCH_EVENTS + waves.SWEEP_EVENTS
    tasks = [task_events(MACHINE["States"][n]) for n in ("Plan", "Verify", "Cleanup", "Report")]
    execution, waves_map, outcome, succeeded = 2, 4, 2, 2
    assert sum(tasks) + execution + waves_map + outcome + succeeded == waves.RUN_EVENTS
    assert waves.WAVE_EVENTS == 2 + 4


def test_the_long_wait_outlasts_any_command() -> None:
    """The sweeps go on for longer than the longest command can: 48 h and its delivery."""
    attempts = STATES["AwaitLong"]["Retry"][0]["MaxAttempts"]
    assert attempts * waves.SWEEP_SECONDS > 172_800 + waves.DELIVERY_SECONDS


def test_twelve_hours_stay_under_500_events() -> None:
    """One batch that takes 12 hours leaves fewer than 500 history events."""
    total = waves.RUN_EVENTS + waves.WAVE_EVENTS + batch_events(12 * 3600)
    assert 400 < total < 500


def test_200_batches_stay_under_the_limit() -> None:
    """10,000 instances under the default timeout stay far below 25,000 events, also one
    batch after the other."""
    plan = waves.schedule(10_000, "50")
    assert len(plan.waves) == 200
    assert waves.history_events(plan, 900) < 12_500


def happy_path(machine: Machine) -> list[str]:
    """The states entered when all goes well, each Map with one iteration."""
    entered, name = [], machine["StartAt"]
    while name:
        state = machine["States"][name]
        entered.append(name)
        if state["Type"] == "Map":
            entered += happy_path(state["ItemProcessor"])
        choices = state.get("Choices")
        name = choices[0]["Next"] if choices else state.get("Next")
    return entered


def test_one_instance_takes_twelve_transitions() -> None:
    """A run of one batch enters at most twelve states, from Plan to Succeeded."""
    entered = happy_path(MACHINE)
    assert entered[-1] == "Succeeded"
    assert len(entered) <= 12

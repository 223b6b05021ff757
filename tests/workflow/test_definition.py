"""The definition read, not run: what must hold of every state and every path."""

from __future__ import annotations

import json
from math import ceil

import pytest

from codeferry_contracts.parameters import LONGEST_STEP_SECONDS
from codeferry_lambdas.aws.errors import WaveFailed
from codeferry_lambdas.fleet import batches
from codeferry_lambdas.planning.limits import sweep_for
from tests.workflow import definition
from tests.workflow.definition import Machine, State, machines, states, targets

MACHINE = definition.load()
STATES = states(MACHINE)
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
LAMBDAS = [name for name, state in TASKS.items() if ":lambda:" in state["Resource"]]
# The CLI maps these names to phases.
KNOWN_TO_CLI = {
    "Plan", "Waves", "Batches", "Dispatch", "Await15", "Await60", "AwaitLong", "AwaitHourly",
    "AwaitRarely",
    "Collect", "CollectFailure", "Verify", "Return", "Cleanup", "Report",
}  # fmt: skip
# The state that looks again at each of the intervals plan can choose, in seconds.
SWEEPS = {420: "AwaitLong", 3_600: "AwaitHourly", 14_400: "AwaitRarely"}
AWS_TROUBLE = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
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


def test_a_batch_hands_on_a_constant() -> None:
    """What a Map collects of its batches is part of a state's 256 KiB, however its batch ended."""
    (batches,) = [m for m in machines(MACHINE) if "Dispatch" in m["States"]]
    ends = [state for state in batches["States"].values() if not targets(state) or "End" in state]
    assert len(ends) == 3
    for state in ends:
        assert state.get("ResultSelector", state.get("Result")) == {"finished": True}
        assert state.get("ResultPath", "$") == "$"


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_new_accounts_concurrency_of_ten_is_survived(name: str) -> None:
    """Forty batches at once are throttled by Lambda again and again, and wait for minutes."""
    (busy,) = [
        r for r in STATES[name]["Retry"] if "Lambda.TooManyRequestsException" in r["ErrorEquals"]
    ]
    assert (busy["MaxAttempts"], busy["MaxDelaySeconds"]) == (15, 30)


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
    """Every Task has a timeout, of at most 15 minutes but for the waits that look more rarely,
    and catches everything that is left."""
    state = TASKS[name]
    bounds = {wait: seconds for seconds, wait in SWEEPS.items()}
    assert 0 < state["TimeoutSeconds"] <= bounds.get(name, 900)
    assert any(catcher["ErrorEquals"] == ["States.ALL"] for catcher in state["Catch"])


@pytest.mark.parametrize("name", LAMBDAS)
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


def test_a_failed_wave_alone_is_returned_and_then_cleaned_up_after() -> None:
    """Nothing else leads to a rollback, no transition is spent on it when all goes well, and
    however it ends, cleanup comes next."""
    ways = {name for name, state in STATES.items() if "Return" in targets(state)}
    assert ways == {"Verify"}
    (catcher,) = [c for c in STATES["Verify"]["Catch"] if c["Next"] == "Return"]
    assert catcher["ErrorEquals"] == [WaveFailed.__name__]
    assert targets(STATES["Return"]) == ["Cleanup", "Cleanup"]
    assert STATES["Return"]["Catch"][0]["ResultPath"] == "$.rollback_error"


def test_waves_catch() -> None:
    """What no iteration caught is caught around them, so nothing skips cleanup."""
    assert MACHINE["States"]["Waves"]["Catch"][0]["ErrorEquals"] == ["States.ALL"]


def test_iterations_never_fail() -> None:
    """Inside a batch every error ends in a record of it: no Fail, every catch leads on."""
    inner = STATES["Batches"]["ItemProcessor"]
    assert all(state["Type"] != "Fail" for state in inner["States"].values())
    for name in ("Dispatch", *SWEEPS.values(), "Collect"):
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


def cycle(state: State) -> int:
    """Seconds from one look of a repeated wait to its next."""
    seconds: int = state["TimeoutSeconds"] + state["Retry"][0]["IntervalSeconds"]
    return seconds


def batch_events(seconds_waited: int) -> int:
    """Events of one batch whose command ends after this long without a status event."""
    waits = [task_events(STATES[name]) for name in ("Await15", "Await60")]
    sweeps = ceil(max(1, seconds_waited - 75) / cycle(STATES["AwaitLong"]))
    waits.append(task_events(STATES["AwaitLong"], sweeps))
    iteration, sent, sweep = 2, 2, 2
    return (
        iteration
        + task_events(STATES["Dispatch"])
        + sent
        + sweep
        + sum(waits)
        + task_events(STATES["Collect"])
    )


def test_model_matches_planning() -> None:
    """What plan reckons with is what the definition does."""
    assert tuple(SWEEPS) == batches.SWEEPS
    for seconds, name in SWEEPS.items():
        sweep = STATES[name]["Retry"][0]
        assert (sweep["ErrorEquals"], sweep["BackoffRate"]) == (["States.Timeout"], 1)
        assert cycle(STATES[name]) == seconds + batches.SWEEP_PAUSE
    assert batch_events(76) == batches.BATCH_EVENTS + batches.SWEEP_EVENTS
    tasks = [task_events(MACHINE["States"][n]) for n in ("Plan", "Verify", "Cleanup", "Report")]
    execution, waves_map, outcome, succeeded = 2, 4, 2, 2
    assert sum(tasks) + execution + waves_map + outcome + succeeded == batches.RUN_EVENTS
    assert batches.WAVE_EVENTS == 2 + 4


@pytest.mark.parametrize("name", SWEEPS.values())
def test_the_long_wait_outlasts_any_command(name: str) -> None:
    """The sweeps go on for longer than the longest command can: 48 h and its delivery."""
    attempts = STATES[name]["Retry"][0]["MaxAttempts"]
    assert attempts * cycle(STATES[name]) > 172_800 + batches.DELIVERY_SECONDS


def test_plan_chooses_the_sweep() -> None:
    """Each interval plan can settle on leads to the wait that has it."""
    sweep = STATES["Sweep"]
    chosen = {choice["NumericEquals"]: choice["Next"] for choice in sweep["Choices"]}
    assert {420: sweep["Default"], **chosen} == SWEEPS


def test_ten_thousand_instances_may_work_for_two_days() -> None:
    """A command without a timeout is no reason to refuse a large fleet; a small one is looked
    at as often as ever."""
    longest = LONGEST_STEP_SECONDS
    assert sweep_for(batches.schedule(10_000, "100%"), longest) == 14_400
    assert sweep_for(batches.schedule(3_000, "100%"), longest) == 3_600
    assert sweep_for(batches.schedule(500, "100%"), longest) == 420


def test_twelve_hours_stay_under_500_events() -> None:
    """One batch that takes 12 hours leaves fewer than 500 history events."""
    total = batches.RUN_EVENTS + batches.WAVE_EVENTS + batch_events(12 * 3600)
    assert 400 < total < 500


def test_200_batches_stay_under_the_limit() -> None:
    """10,000 instances under the default timeout stay far below 25,000 events, also one
    batch after the other."""
    plan = batches.schedule(10_000, "50")
    assert len(plan.waves) == 200
    assert batches.history_events(plan, 900) < 12_500


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

"""A roll-out in waves, and the waves that have failed by its instances' outcomes. Values only.

A wave fails when more instances have failed by then than the error budget allows; dispatch
then sends nothing more, so the wave that failed is the last one of which anything was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from codeferry_contracts.formatting import WAVE_RETURNED, current_release
from codeferry_contracts.report import Outcome, RolloutRecord, WaveRecord, WaveStatus
from codeferry_lambdas.aws.errors import WaveFailed, WaveReturned
from codeferry_lambdas.runs.record import Plan, Run


def may_be_changed(outcome: Outcome) -> bool:
    """Whether the instance may have the run's release now and had another one before."""
    if outcome["status"] == "skipped" or not outcome["command_id"] or outcome.get("returned"):
        return False
    unchanged = outcome["release_id"] and outcome["release_id"] == outcome["previous"]
    return outcome["change"] != "unchanged" and not unchanged


def with_waves(plan: Plan, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, each with its wave of the roll-out if there is one."""
    waves = {
        instance.instance_id: number
        for number, wave in enumerate(plan.rollout, start=1)
        for batch in wave
        for instance in plan.batches[batch]
    }
    return [
        {**o, "wave": waves[o["instance_id"]]} if o["instance_id"] in waves else o for o in outcomes
    ]


def by_wave(plan: Plan, outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The outcomes of each wave's instances, as far as there are any."""
    known = {outcome["instance_id"]: outcome for outcome in outcomes}
    return [
        [known[i.instance_id] for n in wave for i in plan.batches[n] if i.instance_id in known]
        for wave in plan.rollout
    ]


def last_wave(plan: Plan, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of the last wave of which anything was sent."""
    waves = by_wave(plan, outcomes)
    return waves[_last(waves)] if waves else []


def _last(waves: Sequence[Sequence[Outcome]]) -> int:
    sent = [n for n, wave in enumerate(waves) if any(o["status"] != "skipped" for o in wave)]
    return sent[-1] if sent else 0


def failed_wave(plan: Plan, outcomes: Sequence[Outcome]) -> int | None:
    """The number, from 0, of the wave that has failed."""
    failed = sum(outcome["status"] == "failed" for outcome in outcomes)
    if not plan.rollout or failed <= (plan.budget or 0):
        return None
    return _last(by_wave(plan, outcomes))


def require_healthy(plan: Plan, run: Run, outcomes: Sequence[Outcome], stage: str) -> None:
    """WaveFailed when a wave has failed of which instances are to be returned, WaveReturned
    when all of it has returned by itself."""
    number = failed_wave(plan, outcomes)
    if number is None:
        return
    wave = by_wave(plan, outcomes)[number]
    failed = [outcome for outcome in wave if outcome["status"] == "failed"]
    reason = (failed[0]["error"] or {"message": "unknown"})["message"] if failed else "unknown"
    message = (
        f"Wave {number + 1} of {len(plan.rollout)} failed on {len(failed)} of {len(wave)} "
        f"instances. {failed[0]['instance_id'] if failed else '-'}: {reason}"
    )
    kind = WaveFailed if any(map(may_be_changed, wave)) else WaveReturned
    raise kind(message, hint=_hint(number, run, stage))


def _hint(failed: int, run: Run, stage: str) -> str:
    if not failed:
        return "Read why it failed, then push again. Nothing else was touched."
    keeping = "Wave 1 keeps" if failed == 1 else f"Waves 1 to {failed} keep"
    return (
        f"Read why it failed, then push again. {keeping} the new release; "
        f"to return that too: ferry rollback run:{run.id} --stage {stage}"
    )


def describe(
    plan: Plan, outcomes: Sequence[Outcome], state: Mapping[str, Any]
) -> RolloutRecord | None:
    """The roll-out as the report has it."""
    if not plan.rollout or plan.run_request.options.rollout is None:
        return None
    asked, failed = plan.run_request.options.rollout, failed_wave(plan, outcomes)
    waves = by_wave(plan, outcomes)
    after = {o["instance_id"]: o for o in returned(plan, outcomes, state)}
    given = Counter(o["release_id"] for o in outcomes if o["release_id"])
    release = plan.digest[:20] or (given.most_common(1)[0][0] if given else None)
    left = {i for i, outcome in after.items() if release and current_release(outcome) == release}
    back = {i for i, outcome in after.items() if outcome.get("returned")}
    records = [
        _wave(n, wave, failed, state)
        | {
            "left": sum(o["instance_id"] in left for o in wave),
            "back": sum(o["instance_id"] in back for o in wave),
        }
        for n, wave in enumerate(waves)
    ]
    return {
        "waves": records,
        "bake_seconds": asked.bake_seconds,
        "health": list(asked.health),
        "rollback": str(state.get("rollback", {}).get("run_id", "")),
    }


def _wave(
    number: int, wave: Sequence[Outcome], failed: int | None, state: Mapping[str, Any]
) -> WaveRecord:
    return {
        "instances": len(wave),
        "succeeded": sum(outcome["status"] == "succeeded" for outcome in wave),
        "status": _status(number, wave, failed, state),
    }


def _status(
    number: int, wave: Sequence[Outcome], failed: int | None, state: Mapping[str, Any]
) -> WaveStatus:
    if failed is None or number < failed:
        started = any(outcome["status"] != "skipped" for outcome in wave)
        return "done" if started else "untouched"
    if number > failed:
        return "untouched"
    return "returned" if is_returned(wave, state) else "failed"


def is_returned(wave: Sequence[Outcome], state: Mapping[str, Any]) -> bool:
    """Whether all of a failed wave has the release before again: by itself, or by the rollback
    that the workflow has started."""
    rolled_back = state.get("rollback", {}).get("status") == "SUCCEEDED"
    return rolled_back or not any(map(may_be_changed, wave))


def returned(plan: Plan, outcomes: Sequence[Outcome], state: Mapping[str, Any]) -> list[Outcome]:
    """The outcomes, those of the failed wave's healthy instances turned to failures: whoever
    was sent back does not have the release."""
    number = failed_wave(plan, outcomes)
    if number is None or state.get("rollback", {}).get("status") != "SUCCEEDED":
        return list(outcomes)
    wave = {o["instance_id"] for o in by_wave(plan, outcomes)[number]}
    return [
        _sent_back(outcome)
        if outcome["instance_id"] in wave
        and outcome["status"] == "succeeded"
        and may_be_changed(outcome)
        else outcome
        for outcome in outcomes
    ]


def _sent_back(outcome: Outcome) -> Outcome:
    message = f"Its wave failed, so it was returned to release {outcome['previous']}."
    return {
        **outcome,
        "status": "failed",
        "returned": outcome["previous"],
        "error": {"code": WAVE_RETURNED, "message": message, "hint": ""},
    }

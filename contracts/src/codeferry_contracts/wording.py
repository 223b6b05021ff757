"""What became of a run and its instances, in the words of the terminal and the page alike.

Values only. Texts come out as instances have written them: whoever shows one makes it harmless.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from codeferry_contracts.amounts import counted
from codeferry_contracts.report import Outcome, Report, WaveRecord

WAVE_RETURNED = "wave_returned"  # the error of a healthy instance whose wave has failed
_UNSPENT = "error_budget_spent"
_NAMED = 5

K = TypeVar("K", bound=Hashable)


def kind(outcome: Outcome) -> str:
    """The outcome's status, or ``returned``: failed only because its wave has."""
    returned = outcome["error"] and outcome["error"]["code"] == WAVE_RETURNED
    return "returned" if returned else outcome["status"]


def worst_first(outcome: Outcome) -> int:
    """A key to sort by: what needs a person, then what followed from it, then successes."""
    return ("failed", "returned", "skipped", "succeeded").index(kind(outcome))


def result(outcome: Outcome) -> str:
    """What became of an instance, in a word or two."""
    if outcome["status"] == "succeeded":
        return outcome["change"] or "applied"
    code = str(outcome["error"]["code"]) if outcome["error"] else str(outcome["status"])
    if code == WAVE_RETURNED:
        return "returned with its wave"
    if code == _UNSPENT and outcome.get("wave"):
        return "untouched"
    words = code.replace("_", " ")
    return f"{words}, returned" if outcome.get("returned") else words


def release(outcome: Outcome) -> str:
    """The release an instance has now, as far as it is known; empty otherwise."""
    return outcome.get("returned") or outcome["release_id"]


def wave(record: WaveRecord) -> str:
    """What became of a wave of a roll-out."""
    total, succeeded = record["instances"], record["succeeded"]
    everybody = counted(total, "instance")
    failed = f"failed on {total - succeeded:,} of {everybody}"
    match record["status"]:
        case "done":
            whom = everybody if succeeded == total else f"{succeeded:,} of {everybody}"
            return f"{whom} {'has' if total == 1 else 'have'} the release"
        case "returned":
            return f"{failed}, and the release before is back"
        case "failed":
            return f"{failed}, and was not returned in whole"
        case "untouched":
            return f"{everybody} untouched"


def warnings(report: Report) -> list[str]:
    """Warnings of the run, of its verification and of instances, each text once.

    Verification already has the unmet expectations; without one the instances' own count.
    """
    general = list(report["warnings"])
    said = [(str(text), o["instance_id"]) for o in report["instances"] for text in o["warnings"]]
    if report["verification"]:
        general += report["verification"]["warnings"]
    else:
        said += [
            (f"{path} does not exist.", o["instance_id"])
            for o in report["instances"]
            for path in o["unmet"]
        ]
    general += [f"{named(ids)}: {text}" for text, ids in grouped(said).items()]
    return list(dict.fromkeys(general))


def reasons(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[str]]:
    """Message and hint of each different error, with the instances it holds for."""
    errors = [(outcome["instance_id"], outcome["error"]) for outcome in outcomes]
    return grouped(((str(e["message"]), str(e["hint"])), i) for i, e in errors if e)


def grouped(found: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    """Instance ids by what is said of them, so that a fleet's common fate is one line."""
    groups: dict[K, list[str]] = {}
    for said, instance_id in found:
        groups.setdefault(said, []).append(instance_id)
    return groups


def named(ids: Sequence[str]) -> str:
    """``i-1, i-2 and 998 more``."""
    shown = ", ".join(ids[:_NAMED])
    return f"{shown} and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else shown

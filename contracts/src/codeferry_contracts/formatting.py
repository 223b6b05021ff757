"""Amounts, times and outcomes as people read them, in the terminal and on the page alike.

Values only. Texts come out as instances have written them: whoever shows one makes it harmless.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from codeferry_contracts.names import DEFAULT_STAGE, ROLLBACK, SCRIPT
from codeferry_contracts.report import Outcome, Report, WaveRecord


def seconds(value: float) -> str:
    """``0.4 s``, ``1 min 5 s``, ``2 h 3 min``."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: int) -> str:
    """Bytes in decimal units, such as ``4.1 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2,113 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def when(moment: datetime) -> str:
    """To the second and in UTC, as in the ids of runs, on their pages and in the logs."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


WAVE_RETURNED = "wave_returned"  # the error of a healthy instance whose wave has failed
_BUDGET_USED_UP = "error_budget_spent"
_NAMED = 5

# What a request's fields are called on the command line.
FLAGS = {
    "options.timeout_seconds": "--timeout",
    "options.max_concurrency": "--max-concurrency",
    "options.max_errors": "--max-errors",
    "options.keep_releases": "--keep-releases",
    "options.strict": "--strict",
    "options.install": "--install",
    "options.user": "--user",
    "options.persist": "--persist",
    "options.rollout.waves": "--waves",
    "options.rollout.bake_seconds": "--bake",
    "options.rollout.health": "--health",
    "expect.files": "--expect-file",
    "expect.directories": "--expect-dir",
}
_FIELD = re.compile(rf"(?<![\w.(-])({'|'.join(map(re.escape, FLAGS))})(?!\w|\.\w)")
_COMMAND = re.compile(r"\bferry (?:logs|status|cancel|rollback) (?>[\w:.-]*\w)(?! --stage)")

K = TypeVar("K", bound=Hashable)


def with_flags(text: str) -> str:
    """``text`` with each field of a request called by its option first: ``--timeout
    (options.timeout_seconds)``."""
    return _FIELD.sub(lambda found: f"{FLAGS[found[1]]} ({found[1]})", text)


def remedy(hint: str, run_id: str, stage: str) -> str:
    """A hint as whoever reads it can use it: options by their flags, ``RUN`` as this run, and
    commands with the stage they are for."""
    hint = re.sub(r"\bferry logs RUN\b", f"ferry logs {run_id}", with_flags(hint))
    at = "" if stage == DEFAULT_STAGE else f" --stage {stage}"
    return _COMMAND.sub(lambda found: found[0] + at, hint)


def status(outcome: Outcome) -> str:
    """The outcome's status, or ``returned``: failed only because its wave has."""
    returned = outcome["error"] and outcome["error"]["code"] == WAVE_RETURNED
    return "returned" if returned else outcome["status"]


def severity(outcome: Outcome) -> int:
    """A key to sort by: what needs a person, then what followed from it, then successes."""
    return ("failed", "returned", "skipped", "succeeded").index(status(outcome))


def result(outcome: Outcome) -> str:
    """What became of an instance, in a word or two."""
    if outcome["status"] == "succeeded":
        return outcome["change"] or "applied"
    code = str(outcome["error"]["code"]) if outcome["error"] else str(outcome["status"])
    if code == WAVE_RETURNED:
        return "returned with its wave"
    if code == _BUDGET_USED_UP and outcome.get("wave"):
        return "untouched"
    words = code.replace("_", " ")
    return f"{words}, returned" if outcome.get("returned") else words


def release(outcome: Outcome) -> str:
    """The release an instance has now, as far as it is known; empty otherwise."""
    return current_release(outcome) or ""


def current_release(outcome: Outcome) -> str | None:
    """The release an instance has now; empty where it has none, None where it did not say.

    What failed before its switch has kept the one before, which it looks up when it has the lock.
    """
    switched = outcome.get("returned") or outcome["release_id"]
    looked = outcome["seconds"].keys() & {"download", "activate"}
    return switched or (outcome["previous"] if looked else None)


def run_release(report: Report) -> str:
    """The release that the run is about; empty where it is not known, or there is none."""
    stated = report["verification"]["release_id"] if report["verification"] else ""
    given = Counter(o["release_id"] for o in report["instances"] if o["release_id"])
    return stated or (given.most_common(1)[0][0] if given else "")


def release_summary(report: Report) -> str:
    """Who has the run's release now, such as ``2/3 instances have release 0123…, 1 did not say``.

    Derived from what each instance has, not from how it fared: one that failed may have it.
    """
    wanted, total = run_release(report), len(report["instances"])
    now = [current_release(outcome) for outcome in report["instances"]]
    have = now.count(wanted) if wanted else 0
    again = " again" if report["workflow"] == ROLLBACK else ""
    verb = "are known to have" if None in now else "have"  # who did not say may have it as well
    what = f"release {wanted}" if wanted else "the release"
    line = f"{have:,}/{total:,} instances {verb} {what}"
    unknown = f", {now.count(None):,} did not say" if None in now else ""
    ill = sum(
        o["status"] != "succeeded" and current_release(o) == wanted for o in report["instances"]
    )
    failed = f", {ill:,} of them failed" if wanted and ill else ""
    return f"{line}{again}{failed}{unknown}"


def verified(report: Report) -> int:
    """How many instances have what was sent and compared, now: of a script, had it."""
    found = report["verification"]
    if found is None or report["workflow"] == ROLLBACK:  # nothing was sent that could be compared
        return 0
    if report["workflow"] == SCRIPT:
        return found["verified"]
    return sum(
        current_release(o) == found["release_id"] != ""
        and o["instance_id"] not in found["mismatched"]
        for o in report["instances"]
    )


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
            left = record.get("left", 0)
            if left == total:
                return f"{failed}, which had the release before and keep{'s' * (total == 1)} it"
            if not record.get("back", 1):
                few = f" but {left:,}, which had it before," if left else ""
                return f"{failed}, and none{few} has the release"
            but = f" but on {left:,}, which had this one before" if left else ""
            return f"{failed}, and the release before is back{but}"
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
    general += [f"{some_ids(ids)}: {text}" for text, ids in grouped(said).items()]
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


def some_ids(ids: Sequence[str]) -> str:
    """``i-1, i-2 and 998 more``."""
    first = ", ".join(ids[:_NAMED])
    return f"{first} and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else first

"""Reports for the page to show: what the workflow might write, small, large and hostile."""

from __future__ import annotations

from typing import Any

from codeferry_contracts.report import CommandOutcomeRecord, Outcome, Report
from codeferry_lambdas.fleet.batches import Schedule, schedule
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.runs.outcomes import blank
from codeferry_lambdas.runs.report import count

RELEASE, BEFORE = "4be1c0d2a97f6b3e8c51", "b015f7af66ecea078e39"
DISK_FULL = {
    "code": "disk_full",
    "message": "The archive's 412.0 MB do not fit: /opt/codeferry has 96.3 MB free.",
    "hint": "Make room or raise the volume's size, then run again.",
}
COMMAND_FAILED = {
    "code": "command_failed",
    "message": "The command ended with exit code 3.",
    "hint": "The end of its output is below; ferry logs has all of it.",
}
NOT_SENT = {
    "code": "error_budget_spent",
    "message": "SSM stopped before this instance because too many others had failed.",
    "hint": "Read the failed instances first; options.max_errors sets how many may fail.",
}
ILL = {
    "code": "health_failed",
    "message": "The health command failed: exit code 1. "
    f"Release {BEFORE} is current again, not {RELEASE}.",
    "hint": "See the end of its output.",
}
UNREACHABLE = {
    "code": "agent_offline",
    "message": "The instance is running but its SSM agent is not online.",
    "hint": "Look at its network and its role.",
}
TRACEBACK = """\
epoch 9/10  loss 0.0412  2,113 samples  1.9 s
epoch 10/10 loss 0.0398  2,113 samples  1.8 s
Traceback (most recent call last):
  File "/opt/codeferry/demo/current/training/train.py", line 35, in <module>
    main(sys.argv[1:])
  File "/opt/codeferry/demo/current/training/train.py", line 28, in main
    model.save(Path("checkpoints") / name)
FileNotFoundError: [Errno 2] No such file or directory: 'checkpoints/model-10.json'
"""
# Each of these acts on whoever does not take it for text.
HOSTILE = "".join(
    (
        "<script>window.pwned = 1</script>",
        "</pre></details><img src=http://evil.test/x onerror='window.pwned = 2'>",
        "<style>body { display: none }</style>",
        "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00 \x7f \x9b31m \r\n",
        "\u202egnp.exe\u202c \u2066isolated\u2069 \u200bhidden \udc80 \ud800 \ufeff",
        "\"quoted\" 'single' & &amp; {{7*7}} {% raw %} ${7*7} <!-- --> ]]>",
        "x" * 1_000_000,
        "</script><script>window.pwned = 3</script>",
    )
)


def ran(tail: str = "", **changes: Any) -> CommandOutcomeRecord:
    """A command that ended well."""
    known: CommandOutcomeRecord = {
        "ending": "exited",
        "exit_code": 0,
        "signal": 0,
        "seconds": 19.4,
        "output_bytes": len(tail.encode(errors="replace")),
        "tail": tail,
    }
    return {**known, **changes}  # type: ignore[typeddict-item]


def outcome(number: int = 0, **changes: Any) -> Outcome:
    """A success; phases and names differ from one number to the next."""
    known: Outcome = {
        **blank(
            Instance(f"i-{0x0A1B2C3D00000000 + number * 0x9E3779B1:017x}", f"gpu-{number:02d}")
        ),
        "status": "succeeded",
        "ssm_status": "Success",
        "change": "applied",
        "release_id": RELEASE,
        "files": 2113,
        "seconds": {
            "lock": 0.02,
            "download": 1.1 + number % 7 * 0.3,
            "extract": 0.6 + number % 3 * 0.1,
            "activate": 0.09,
        },
    }
    return {**known, **changes}  # type: ignore[typeddict-item]


def failed(number: int = 0, error: Any = DISK_FULL, **changes: Any) -> Outcome:
    known = {
        "status": "failed",
        "error": error,
        "change": "",
        "seconds": {"lock": 0.02, "download": 2.4 + number % 5},
    }
    return outcome(number, **{**known, **changes})


def skipped(number: int = 0) -> Outcome:
    return outcome(number, status="skipped", error=NOT_SENT, change="", release_id="", seconds={})


def report(outcomes: list[Outcome] | None = None, **changes: Any) -> Report:
    """A run of ``outcomes``, three successes by default."""
    instances = [outcome(n) for n in range(3)] if outcomes is None else outcomes
    counts = count(instances)
    whole = counts["succeeded"] == counts["total"]
    known: Report = {
        "format": 1,
        "run_id": "20261112-093000-demo-4f1c22aa",
        "workflow": "sync",
        "stage": "prod",
        "status": "SUCCEEDED" if whole else "FAILED",
        "project": "demo",
        "target": "gpu-workers",
        "command": [],
        "started_at": "2026-11-12T09:30:00.000Z",
        "finished_at": "2026-11-12T09:30:27.412+00:00",
        "archive": {"key": "archives/x.tar.gz", "size": 4_100_000, "sha256": "c" * 64},
        "counts": counts,
        "instances": instances,
        "verification": {
            "source": "manifest",
            "release_id": RELEASE,
            "digest": "4be1c0d2a97f6b3e8c51" + "0" * 44,
            "files": 2113,
            "bytes": 18_400_000,
            "verified": counts["succeeded"],
            "mismatched": [],
            "python_files": ["training/__init__.py", "training/model.py", "train.py"],
            "python_file_count": 3,
            "warnings": [],
        },
        "warnings": [],
        "error": None if whole else first_error(instances),
        "cost": {
            "usd": 0.00047,
            "state_transitions": 12,
            "function_calls": 8,
            "s3_writes": 8,
            "s3_reads": 15,
            "ledger_writes": 7,
            "ledger_reads": 6,
        },
    }
    return {**known, **changes}  # type: ignore[typeddict-item]


def first_error(outcomes: list[Outcome]) -> Any:
    found = next((o for o in outcomes if o["error"]), None)
    if found is None or found["error"] is None:
        return None
    counts = count(outcomes)
    message = f"{counts['succeeded']}/{counts['total']} instances succeeded. "
    return {
        **found["error"],
        "code": "instances_failed",
        "message": f"{message}{found['instance_id']}: {found['error']['message']}",
        "phase": "apply",
    }


def failed_run() -> Report:
    """A command on a dozen instances: one failed, one was killed, one has a full disk."""
    times = {"lock": 0.02, "download": 1.4, "extract": 0.7, "activate": 0.1, "install": 6.2}
    outcomes = [
        outcome(n, seconds=times | {"execute": 14.0 + n}, ran=ran(f"epoch 10/10 loss 0.0{n}\n"))
        for n in range(12)
    ]
    end = {"seconds": times | {"execute": 8.3}}
    outcomes[4] = failed(4, COMMAND_FAILED, ran=ran(TRACEBACK, exit_code=3), **end)
    killed = {**COMMAND_FAILED, "message": "The command was killed by signal 9."}
    outcomes[7] = failed(
        7, killed, ran=ran("epoch 3/10\n", ending="signalled", exit_code=-1, signal=9), **end
    )
    outcomes[9] = failed(9)
    return report(
        outcomes,
        command=["python3", "training/train.py", "--epochs", "10", "--note", "it's"],
        warnings=["Left out: 3 files that git ignores."],
    )


def fleet(size: int) -> Report:
    """A large run: one in 60 failed, a batch was not sent, every instance printed something."""
    made = [outcome(n, ran=ran(f"worker {n} done\n" * 40)) for n in range(size)]
    made = [failed(n) if n % 61 == 7 else one for n, one in enumerate(made)]
    made[-20:] = [skipped(size - 20 + n) for n in range(20)]
    return report(made)


def roll_out(size: int = 12, *, waves: tuple[str, ...] = ("1", "50%", "100%")) -> Report:
    """A roll-out whose second wave failed on an instance and was returned; one was unreachable."""
    cut = schedule(size, "100%", waves)
    numbers = [n for n, stage in enumerate(cut.stages, start=1) for _ in range(_size(cut, stage))]
    times = {"lock": 0.02, "download": 1.4, "extract": 0.7, "bake": 5.0, "health": 0.3}
    made = [
        _in_wave(n, wave, times | {"download": 1.1 + n % 7 * 0.3}) for n, wave in enumerate(numbers)
    ]
    absent = failed(size, UNREACHABLE, release_id="", seconds={})
    found = report([*made, absent])
    found["error"] = {
        "code": "wave_failed",
        "message": f"Wave 2 of {len(cut.stages)} failed on 1 of {numbers.count(2)} instances. "
        f"{made[1]['instance_id']}: {ILL['message']}",
        "hint": "Read why it failed, then push again. Wave 1 keeps the new release; to return "
        f"that too: ferry rollback run:{found['run_id']} --stage prod",
        "phase": "apply",
    }
    found["rollout"] = {
        "waves": [
            {
                "instances": numbers.count(number),
                "succeeded": {1: 1, 2: numbers.count(2) - 1}.get(number, 0),
                "status": {1: "done", 2: "returned"}.get(number, "untouched"),  # type: ignore[typeddict-item]
            }
            for number in range(1, len(cut.stages) + 1)
        ],
        "bake_seconds": 5,
        "health": ["curl", "-fsS", "http://localhost:8080/health"],
        "rollback": f"back-{found['run_id']}",
    }
    return found


def _size(cut: Schedule, stage: tuple[int, ...]) -> int:
    return sum(cut.sizes[batch] for batch in stage)


def _in_wave(number: int, wave: int, seconds: dict[str, float]) -> Outcome:
    """Wave 1 went well; the first of wave 2 is ill and the rest of it was returned."""
    if wave == 1:
        return outcome(number, wave=wave, seconds=seconds, previous=BEFORE)
    if wave > 2:
        return {**skipped(number), "wave": wave}
    back: Any = {"wave": wave, "seconds": seconds, "previous": BEFORE, "returned": BEFORE}
    if number == 1:
        return failed(number, ILL, ran=ran("no CUDA device\n", exit_code=1), **back)
    message = f"Its wave failed, so it was returned to release {BEFORE}."
    return failed(number, {"code": "wave_returned", "message": message, "hint": ""}, **back)


def hostile() -> Report:
    """Hostile text wherever somebody else's text can be."""
    error = {"code": HOSTILE, "message": HOSTILE, "hint": HOSTILE, "phase": HOSTILE}
    bad = failed(
        0,
        error,
        name=HOSTILE,
        release_id=HOSTILE,
        change=HOSTILE,
        warnings=[HOSTILE],
        unmet=[HOSTILE],
        seconds={HOSTILE: 1.0, "download": 2.0, "lock": float("nan"), "extract": HOSTILE},
        ran=ran(HOSTILE, ending=HOSTILE, exit_code=HOSTILE, signal=HOSTILE),
    )
    made = report([bad, outcome(1, name=HOSTILE, ran=ran(HOSTILE))], command=["sh", "-c", HOSTILE])
    verification: Any = made["verification"]
    verification |= {"python_files": [HOSTILE] * 3, "mismatched": [HOSTILE], "digest": HOSTILE}
    return {**made, "project": HOSTILE, "target": HOSTILE, "warnings": [HOSTILE], "error": error}  # type: ignore[typeddict-item]

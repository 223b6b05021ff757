"""Words the shell offers for a target, run, release, instance, stage or profile.

They come from a cache or a quick request; silent whatever goes wrong, because a person is typing.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeferry_cli.errors import FerryError
from codeferry_cli.options import config
from codeferry_contracts.names import DEFAULT_STAGE

FRESH_SECONDS = 60
_RUNS, _REPORTS = 30, 5


def completions(kind: str, given: Mapping[str, Any]) -> list[str]:
    """All words of a ``kind``: target, run, release, instance, stage or profile.

    ``given`` are the command's parameters so far, of which stage, profile and region count.
    """
    try:
        chosen = {**_configured(), **{name: value for name, value in given.items() if value}}
        if kind == "profile":
            return _profiles()
        if kind == "stage":
            return list(dict.fromkeys([str(chosen.get("stage") or DEFAULT_STAGE), "local"]))
        return _known(chosen).get(kind, [])
    except Exception:  # noqa: BLE001 - anything said here would be in the line being typed
        return []


def _configured() -> Mapping[str, Any]:
    with contextlib.suppress(FerryError):
        return config.load(Path()).values
    return {}


def _profiles() -> list[str]:
    found: list[str] = []
    for variable, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        parser = configparser.RawConfigParser()
        parser.read(Path(os.environ.get(variable) or default).expanduser())
        found += [name.removeprefix("profile ") for name in parser.sections()]
    return [name for name in dict.fromkeys(found) if not name.startswith(("sso-", "services "))]


def _known(chosen: Mapping[str, Any]) -> dict[str, list[str]]:
    from codeferry_cli.aws.session import Access

    access = Access(
        str(chosen.get("stage") or DEFAULT_STAGE), chosen.get("profile"), chosen.get("region")
    )
    path = _cache_file(access)
    kept = _read_cache(path)
    if kept and time.time() - kept["at"] < FRESH_SECONDS:
        return dict(kept["words"])
    try:
        words = _ask_stage(access)
    except Exception:  # noqa: BLE001 - AWS is away, or says no: what was known is better than nothing
        words = kept["words"] if kept else {}
    # Also a failure is kept: the next key shall not wait for it again.
    _write_cache(path, {"at": time.time(), "words": words})
    return words


def _ask_stage(access: Any) -> dict[str, list[str]]:
    """From the newest runs and the reports of some, which whoever runs ferry may read."""
    from codeferry_cli.aws.session import Aws
    from codeferry_cli.aws.stage import find_stage
    from codeferry_cli.runs.find import LATEST, list_runs
    from codeferry_cli.runs.record import RunRecord

    stage = find_stage(Aws(access, hurried=True))
    runs = list_runs(stage, _RUNS)
    ended = [run.execution.run_id for run in runs if not run.execution.running][:_REPORTS]
    reports = [found for run_id in ended if (found := RunRecord(stage, run_id).report())]
    outcomes = [outcome for report in reports for outcome in report["instances"]]
    return {
        "run": [LATEST, *(run.execution.run_id for run in runs)],
        "target": _once("all", *(run.target for run in runs)),
        "release": _once(*(outcome["release_id"] for outcome in outcomes)),
        "instance": _once(*(outcome["instance_id"] for outcome in outcomes)),
    }


def _once(*words: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word]


def _cache_file(access: Any) -> Path:
    from platformdirs import user_cache_path

    from codeferry_cli.aws.session import read_state

    place = read_state().endpoint if access.is_local else ""
    name = hashlib.sha256(repr((access, place)).encode()).hexdigest()[:16]
    return user_cache_path("codeferry") / f"completion-{name}.json"


def _read_cache(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def _write_cache(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(found))
    new.replace(path)

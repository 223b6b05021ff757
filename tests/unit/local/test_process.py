"""The pace of the embedded agent, as the command, the demo and the process are given it."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from codeferry_local import cli, demo, process, supervisor
from codeferry_local.home import Home


class Started(Exception):
    """Says what something was started with, instead of starting it."""


def refuse(*arguments: Any, **options: Any) -> Any:
    raise Started(arguments, options)


@pytest.mark.parametrize(("flags", "paced"), [([], True), (["--unpaced"], False)])
def test_ferry_local_up_takes_its_time_unless_told(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], paced: bool
) -> None:
    """The genuine way is the default."""
    monkeypatch.setattr(cli.Supervisor, "start", refuse)
    started = CliRunner().invoke(cli.local, ["up", *flags]).exception
    assert isinstance(started, Started)
    assert started.args[1]["paced"] is paced


def test_demo_takes_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the demo is about the agent's pace."""
    monkeypatch.setattr(demo.Supervisor, "start", refuse)
    shown = demo.Demo(Console(file=io.StringIO()), refuse, 1)
    with pytest.raises(Started) as started, shown._aws(Home(tmp_path), keep=False):
        pass
    assert started.value.args[1]["paced"] is False


@pytest.mark.parametrize("paced", [True, False])
def test_the_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paced: bool) -> None:
    """By an option, from which its SSM is made."""
    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    with pytest.raises(Started) as started:
        process.Supervisor.start(
            Home(tmp_path), instances=1, target="t", attached=True, paced=paced
        )
    (command,), _ = started.value.args
    assert json.loads(command[-1])["paced"] is paced
    monkeypatch.setattr(supervisor, "SsmServer", refuse)
    monkeypatch.setattr(supervisor, "synthesise", lambda *_: None)
    options = process.Options(1, "t", attached=True, paced=paced)
    with pytest.raises(Started) as served:
        supervisor.serve(Home(tmp_path), options, threading.Event(), io.StringIO())
    assert served.value.args[1]["paced"] is paced

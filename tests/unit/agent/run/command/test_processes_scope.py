"""A command that runs out of memory must not take the SSM agent with it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from codeferry_agent.run.command import processes

IN_UNIT = "0::/system.slice/amazon-ssm-agent.service\n"
# A busctl that keeps what it was asked, and moves who asked as systemd does; refuses REFUSED.
BUSCTL = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "asked").open("a") as asked:
    asked.write(json.dumps(sys.argv[1:]) + chr(10))
refused = (here / "refused").read_text().split()
if set(refused) & set(sys.argv):
    sys.exit(1)
(here / "cgroup").write_text("0::/system.slice/" + sys.argv[8] + chr(10))
"""


class Systemd:
    """A process's cgroup, and the busctl it would find."""

    def __init__(self, place: Path) -> None:
        self.place, self.cgroup = place, place / "cgroup"
        self.cgroup.write_text(IN_UNIT)
        (place / "refused").touch()
        busctl = place / "busctl"
        busctl.write_text(BUSCTL)
        busctl.chmod(0o755)

    def asked(self) -> list[list[str]]:
        found = self.place / "asked"
        lines = found.read_text().splitlines() if found.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd(tmp_path)
    monkeypatch.setattr(processes, "OWN_CGROUP", made.cgroup)
    return made


def test_a_supervisor_leaves_the_ssm_agents_unit(systemd: Systemd) -> None:
    """For a scope of its own, whose policy is to go on."""
    processes.leave_agents_unit("run-1", str(systemd.place))
    (asked,) = systemd.asked()
    name = f"codeferry-run-1-{os.getpid()}.scope"
    assert asked == [
        *("--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
        *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
        *(
            name,
            "fail",
            "2",
            "PIDs",
            "au",
            "1",
            str(os.getpid()),
            "OOMPolicy",
            "s",
            "continue",
            "0",
        ),
    ]
    assert systemd.cgroup.read_text() == f"0::/system.slice/{name}\n"


def test_an_older_systemd_makes_a_scope_without_a_policy(systemd: Systemd) -> None:
    """It has none for scopes, and does nothing to them either."""
    (systemd.place / "refused").write_text("OOMPolicy")
    processes.leave_agents_unit("run-1", str(systemd.place))
    assert len(systemd.asked()) == 2
    assert "OOMPolicy" not in systemd.asked()[1]
    assert systemd.asked()[1][8:] == ["fail", "1", "PIDs", "au", "1", str(os.getpid()), "0"]


def test_elsewhere_nobody_is_asked(systemd: Systemd) -> None:
    """On a laptop, in a container, or under another supervisor."""
    systemd.cgroup.write_text("0::/user.slice/session-1.scope\n")
    processes.leave_agents_unit("run-1", str(systemd.place))
    assert systemd.asked() == []


@pytest.mark.parametrize("how", ["refused", "missing"])
def test_where_it_cannot_be_the_run_goes_on(systemd: Systemd, how: str) -> None:
    """A command in the agent's unit is better than none."""
    if how == "refused":
        (systemd.place / "refused").write_text("PIDs")
    else:
        (systemd.place / "busctl").unlink()
    processes.leave_agents_unit("run-1", str(systemd.place))
    assert systemd.cgroup.read_text() == IN_UNIT

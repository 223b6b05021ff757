"""Releases: listed, found by what any place prints, and whose they are."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from codeferry_cli.errors import ReleaseNotFound
from codeferry_cli.runs import reach, releases
from codeferry_cli.runs.execution import Execution
from codeferry_cli.runs.find import Run
from codeferry_cli.runs.reach import Reach, warn_of_another_owner
from codeferry_cli.runs.releases import GivenReleases, find_release, list_releases
from codeferry_cli.terminal.output import Output
from codeferry_contracts.request import Archive, RunRequest, StartedBy
from tests.unit.cli.stage_function import DIGEST, IDS

OLD, NEW, NEAR = "41967ebe10bd78e4308c", "5a" * 10, "41967ebe10" + "0" * 10
ANN = StartedBy("ann", "laptop", "/home/ann/train")


class Stage:
    def option(self) -> str:
        return " --stage s"


def run(name: str, by: StartedBy | None = None) -> Run:
    return Run(Execution("sync", name, "SUCCEEDED", datetime.now(UTC)), "gpu", "train", by=by)


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> list[GivenReleases]:
    """What runs have given, newest first; a test fills it."""
    told: list[GivenReleases] = []
    monkeypatch.setattr(releases, "given_releases", lambda *_, **__: iter(told))
    monkeypatch.setattr(reach, "given_releases", lambda *_, **__: iter(told))
    return told


def test_a_release_has_who_gave_it_first_and_who_has_it_now(history: list[GivenReleases]) -> None:
    """The newest run that says something of an instance is what it has."""
    history += [
        GivenReleases(run("third"), {"i-1": OLD}),
        GivenReleases(run("second"), {"i-1": NEW, "i-2": NEW}),
        GivenReleases(run("first"), {"i-1": OLD, "i-2": OLD, "i-3": OLD}),
    ]
    old, new = list_releases(Stage(), "train", {"i-1", "i-2", "i-3"})  # type: ignore[arg-type]
    assert (old.release_id, old.given.execution.run_id) == (OLD, "first")
    assert (old.current, old.instances) == (("i-1", "i-3"), ("i-1", "i-2", "i-3"))
    assert (new.release_id, new.current) == (NEW, ("i-2",))


def test_a_release_is_found_by_its_first_digits(history: list[GivenReleases]) -> None:
    """Those that are printed; two that begin so are listed, none says where to look."""
    history += [
        GivenReleases(run("one"), {"i-1": OLD}),
        GivenReleases(run("two"), {"i-1": NEAR, "i-2": NEW}),
    ]

    def find(typed: str) -> str:
        return find_release(Stage(), "train", {"i-1"}, typed, "gpu")  # type: ignore[arg-type]

    assert find(OLD[:12]) == OLD
    assert find("5a5a5a") == NEW
    with pytest.raises(ReleaseNotFound, match="2 releases begin with '41967e'"):
        find("41967e")
    with pytest.raises(ReleaseNotFound) as none:
        find("777777")
    assert none.value.hint == "List them: ferry releases gpu --project train --stage s"


@pytest.mark.parametrize(
    ("by", "ci", "warned"),
    [
        (ANN, "", False),
        (None, "", False),
        (StartedBy("bob", "laptop", ANN.root), "", True),
        (StartedBy("ann", "laptop", "/home/ann/other/train"), "", True),
        (StartedBy("ann", "another", ANN.root), "", True),
        (StartedBy("ann", "another", ANN.root), "true", False),
    ],
)
def test_a_push_over_anothers_release_warns(
    history: list[GivenReleases],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    by: StartedBy | None,
    ci: str,
    warned: bool,
) -> None:
    """Another person's, or from another directory: named, with the ways out. A job of CI is on
    another host each time."""
    monkeypatch.setenv("CI", ci)
    history += [GivenReleases(run("theirs", by), {"i-1": OLD})]
    request = RunRequest(Archive("archives/x.tar.gz"), "gpu", "train", started_by=ANN)
    warn_of_another_owner(Stage(), Reach("gpu", ("i-1",)), request, Output().note)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert said.startswith("Warning: the release of train there is") == warned
    if warned and by:
        assert f"{by.user}@{by.host}'s, from {by.root} (run theirs)" in said
        assert "--project NAME" in said


def test_releases_are_listed_from_the_reports(ferry: Any, world: Any) -> None:
    """Of the project and target alone; every column also in --json."""
    by_hand = f"by-hand-{secrets.token_hex(4)}"
    world.start(by_hand, "fleet")
    world.await_end(by_hand)
    found = ferry("releases", "fleet", "--project", "demo", "--json").json()
    (release,) = found["releases"]
    assert release["release_id"] == DIGEST[:20]
    assert release["current"] == IDS[:2]
    lines = ferry("releases", "fleet", "--project", "demo").out.splitlines()
    assert lines[1].split()[:3] == [DIGEST[:20], "2/2", "2/2"]
    nothing = ferry("releases", "fleet", "--project", "other")
    assert "No run has given a release of other to fleet." in nothing.err
    assert ferry("releases", "nobody", "--project", "demo").exit == 4


def test_a_rollback_takes_what_is_printed(ferry: Any, world: Any) -> None:
    """A run by the beginning of its name or as its row in `ferry runs` has it; a release by the 12
    digits of the page, or the whole digest of `pack`."""
    by_hand = f"{secrets.token_hex(4)}-by-hand"
    world.start(by_hand, "fleet", project="demo")
    world.await_end(by_hand)

    def rehearsed(*arguments: str) -> Any:
        answer = ferry("rollback", *arguments, "--project", "demo", "--dry-run", "--json")
        assert answer.exit == 0, answer.out
        return answer.json()["request"]

    assert rehearsed(f"run:{by_hand[:10]}")["target"] == f"run:{by_hand}"
    assert rehearsed("run:latest")["target"].startswith("run:")
    assert rehearsed("fleet", "--to", DIGEST[:12])["release"] == DIGEST[:20]
    assert rehearsed("fleet", "--to", DIGEST)["release"] == DIGEST[:20]
    assert rehearsed(f"run:{by_hand}", "--to", DIGEST[:12])["release"] == DIGEST[:20]
    assert ferry("rollback", "run:none-such", "--dry-run").exit == 2
    assert ferry("rollback", "fleet", "--project", "demo", "--to", "777777").exit == 2
    assert ferry("status", f"run:{by_hand}", "--json").json()["run_id"] == by_hand

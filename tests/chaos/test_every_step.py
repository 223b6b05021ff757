"""A kill and a full disk before each change that a delivery makes to the disk."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.releases import check_releases, release_of
from tests.unit.agent.archives import SMALL, Tree, pack
from tests.unit.agent.conftest import Answer, Instance

OLDEST: Tree = {"oldest": b"0"}
OLD: Tree = {"old": b"old", "keep/me": b"1"}
NEWER: Tree = {"newer": b"2"}
STEPS = Path(__file__).with_name("steps.py")


class Rehearsal:
    """One delivery, again and again from the same state, disturbed one step later each time."""

    def __init__(self, instance: Instance) -> None:
        self.instance, self.body = instance, pack(SMALL)
        instance.push(OLDEST)
        instance.push(OLD)
        self.template = instance.root / "template"
        shutil.copytree(instance.project, self.template, symlinks=True)
        self.payload = instance.payload(
            self.body, run_id="disturbed", keep_releases=1, persist=("output",)
        )

    def disturbed(self, action: str) -> Iterator[Answer]:
        """The answer for each step, until the delivery has fewer steps than asked for."""
        for step in range(1, 1000):
            self.reset()
            self.instance.script = STEPS
            answer = self.instance.send(
                self.payload,
                CODEFERRY_STEP=str(step),
                CODEFERRY_STEP_DOES=action,
            )
            filler = self.instance.root / "filler"
            if answer.exit == 0 and not filler.exists():
                return
            shutil.rmtree(filler, ignore_errors=True)
            yield answer
        raise AssertionError("the delivery never ended")

    def reset(self) -> None:
        shutil.rmtree(self.instance.project)
        shutil.copytree(self.template, self.instance.project, symlinks=True)
        self.instance.store.body = self.body

    def again(self) -> Answer:
        """The delivery once more, undisturbed."""
        self.instance.script = Instance.script
        self.instance.store.body = self.body
        return self.instance.send(self.payload)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_before_any_change_leaves_whole_releases(instance: Instance) -> None:
    """Then the delivery comes again: done if it was not, answered if it was, also later."""
    rehearsal, steps = Rehearsal(instance), 0
    for answer in rehearsal.disturbed("kill"):
        steps += 1
        assert answer.exit == -signal.SIGKILL
        check_releases(instance)
        assert instance.current_id in (release_of(OLD), release_of(SMALL))
        switched = instance.current_id == release_of(SMALL)
        if switched:
            instance.script = Instance.script
            instance.push(NEWER, run_id="newer")
        again = rehearsal.again()
        assert (again.exit, again.result.replayed) == (0, switched), (steps, again.out)
        assert instance.current_id == release_of(NEWER if switched else SMALL), steps
        check_releases(instance)
    assert steps > 40


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["bytes", "inodes"])
def test_a_disk_that_fills_at_any_moment_is_named_or_no_matter(
    small_disk: Instance, action: str
) -> None:
    """Failed means disk_full and the old release; once current, a full disk undoes nothing."""
    rehearsal, outcomes = Rehearsal(small_disk), list[str]()
    for answer in rehearsal.disturbed(action):
        outcomes.append(answer.result.status)
        check_releases(small_disk)
        if answer.exit == 0:
            assert small_disk.current_id == release_of(SMALL), (outcomes, answer.out)
            continue
        assert answer.code == "disk_full", answer.out
        assert small_disk.current_id == release_of(OLD), (outcomes, answer.out)
        again = rehearsal.again()
        assert (again.exit, again.result.status) == (0, "applied")
        assert small_disk.current_id == release_of(SMALL)
    assert {"failed", "applied"} == set(outcomes)

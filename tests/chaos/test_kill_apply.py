"""A hundred kills at random moments: current is always a complete release."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field

import pytest

from tests.chaos.releases import check_current, check_releases, release_of
from tests.unit.agent.archives import SMALL, Link, Tree, pack
from tests.unit.agent.conftest import Instance

KILLS, SEED = 100, 20261120
# What a delivery says on its way: a kill comes some time after one of these, or after the start.
SIGNS = ("", "Downloading", "Unpacked", "Release")


def _tree(seed: int, files: int, size: int) -> Tree:
    noise = random.Random(seed)
    tree = {
        f"d{n % 37}/e{n % 5}/f{n}": noise.randbytes(noise.randrange(size)) for n in range(files)
    }
    return {**tree, "latest": Link("d1/e1"), "bin/run": (b"#!/bin/sh", 0o755)}


TREES: list[Tree] = [SMALL, _tree(1, 60, 2000), _tree(2, 500, 2000), _tree(3, 20, 400_000)]


@dataclass
class Kills:
    """Kills deliveries of an instance, each at a moment of its own."""

    instance: Instance
    moments: random.Random = field(default_factory=lambda: random.Random(SEED))
    bodies: list[bytes] = field(default_factory=lambda: [pack(tree) for tree in TREES])
    after: dict[tuple[int, str], float] = field(default_factory=dict)

    def measure(self) -> None:
        """Push each tree, and note how long a delivery goes on after each sign."""
        for which, tree in enumerate(TREES):
            run = self._start(which)
            seen = {"": time.monotonic()}
            for line in run.stderr or ():
                seen.setdefault(line.split()[0], time.monotonic())
            run.communicate()
            for sign in SIGNS:
                self.after[which, sign] = time.monotonic() - seen[sign]
            assert self.instance.current_id == release_of(tree)

    def kill_one(self) -> tuple[str, bool]:
        """After which sign the kill was meant to come, and whether it came in time."""
        which = self.moments.randrange(len(TREES))
        sign = self.moments.choice(SIGNS)
        before = self.instance.current_id
        run = self._start(which)
        _wait_for(sign, run)
        delay = self.moments.uniform(0, self.after[which, sign])
        try:
            run.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        check_current(self.instance)
        assert self.instance.current_id in (before, release_of(TREES[which]))
        return sign, run.returncode == -signal.SIGKILL

    def _start(self, which: int) -> subprocess.Popen[str]:
        body = self.instance.store.body = self.bodies[which]
        payload = self.instance.payload(body, keep_releases=2, persist=("output",))
        return self.instance.start(payload)


def _wait_for(sign: str, run: subprocess.Popen[str]) -> None:
    if sign:
        for line in run.stderr or ():
            if line.startswith(sign):
                return


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_kills_leave_current_whole(instance: Instance) -> None:
    """Each leaves the old or the new release whole; the next run clears what is left of all."""
    kills, killed = Kills(instance), list[str]()
    kills.measure()
    (instance.current / "output/kept").write_text("by a program")
    for _ in range(4 * KILLS):
        sign, came = kills.kill_one()
        killed += [sign] * came
        if len(killed) == KILLS:
            break
    assert len(killed) == KILLS
    assert set(killed) == set(SIGNS)
    check_releases(instance)
    instance.push({"last": b"one"}, persist=("output",))
    check_releases(instance)
    assert (instance.current / "output/kept").read_text() == "by a program"

"""The record of the last good release, its keys, and the requests that have to do with it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts import layout
from codeferry_contracts.errors import NameInvalid, RequestInvalid, TargetInvalid
from codeferry_contracts.last_good import LastGoodRelease, ReleaseArchive, parse_last_good
from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.names import RUN_ID_PATTERN, late_joiners_run_id, require, return_run_id
from codeferry_contracts.request import Rollout, parse_request
from codeferry_contracts.target import parse_target

ARCHIVES = [
    ReleaseArchive(
        letter * 20, letter * 64, 2, "releases/web/demo.tar.gz", f"v{letter}", 9, "c" * 64
    )
    for letter in "abc"
]
KEPT = LastGoodRelease(
    "demo", "web", "a" * 20, "run-1", "2026-11-12", ARCHIVES[0], tuple(ARCHIVES[1:]),
    {"files": ["x"]}, {"user": "app"}, {"i-1": "then", "i-2": "then"},
)  # fmt: skip


def test_a_kept_release_survives_its_json() -> None:
    """With an archive and without one."""
    for kept in (KEPT, dataclasses.replace(KEPT, archive=None, earlier=())):
        assert parse_last_good(json.loads(json.dumps(kept.to_json()))) == kept


def test_instances_come_and_go() -> None:
    """Each with the time at which it was noted last."""
    joined = {"i-1": "then", "i-2": "now", "i-3": "now"}
    assert KEPT.joined_by(["i-3", "i-2"], "now").instances == joined
    assert KEPT.without(["i-1", "i-9"]).instances == {"i-2": "then"}


def test_archives_are_listed_once_each_with_the_right_one_first() -> None:
    """A release that was kept twice counts as its newest copy."""
    again = dataclasses.replace(ARCHIVES[1], version_id="older")
    found = dataclasses.replace(KEPT, earlier=(*KEPT.earlier, again)).archives()
    assert list(found) == ARCHIVES
    assert dataclasses.replace(KEPT, archive=None).archives() == tuple(ARCHIVES[1:])


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_no_two_targets_share_a_key(one: str, other: str) -> None:
    """Whatever a target is called, its key is one path of safe characters, and its own."""
    try:
        targets = [parse_target(f"tag:Name={text}").text for text in (one, other)]
    except TargetInvalid:
        return
    keys = [ReleaseKeys(target, "demo").archive for target in targets]
    assert (keys[0] == keys[1]) == (targets[0] == targets[1])
    for key in keys:
        assert key.isascii()
        assert key.count("/") == 2
        assert layout.is_release_key(key)
        assert not layout.is_archive_key(key)


def test_a_target_by_name_is_its_own_key() -> None:
    """People can read it in the console; the record lies beside the archive."""
    keys = ReleaseKeys("gpu-workers", "demo")
    assert keys.archive == "releases/gpu-workers/demo.tar.gz"
    assert layout.release_record_key(keys.archive) == keys.record


def test_run_ids_of_what_starts_by_itself() -> None:
    """The same news is the same run, whatever its order; other news is another one."""
    one = late_joiners_run_id("demo", "r", ["i-1 0", "i-2 0"])
    assert one == late_joiners_run_id("demo", "r", ["i-2 0", "i-1 0"])
    assert one != late_joiners_run_id("demo", "r", ["i-1 1", "i-2 0"])
    require(RUN_ID_PATTERN, one, "run id")
    assert return_run_id("run-1") == "back-run-1"
    with pytest.raises(NameInvalid):
        return_run_id("r" * 76)


def test_targets_of_several_instances_and_of_runs() -> None:
    """Ids with commas, up to fifty; run: and wave: name a run."""
    ids = [f"i-{n:017x}" for n in range(51)]
    assert parse_target(",".join(ids[:50])).instances == tuple(ids[:50])
    assert parse_target("run:run-1").value == "run-1"
    assert (parse_target("wave:run-1").kind, parse_target("run:run-1").kind) == ("wave", "run")
    for wrong in (",".join(ids), f"{ids[0]},", f"{ids[0]},web", "run:", "wave:a/b"):
        with pytest.raises(TargetInvalid):
            parse_target(wrong)


ARCHIVE = {"key": "archives/x.tar.gz"}


def test_a_roll_out_survives_its_json() -> None:
    """As part of a request, with what equals its default left out."""
    asked = {"waves": ["1", "50%"], "health": ["true"]}
    request = parse_request({"archive": ARCHIVE, "target": "web", "options": {"rollout": asked}})
    assert request.options.rollout == Rollout(("1", "50%"), 0, ("true",))
    assert request.to_json()["options"]["rollout"] == asked


@pytest.mark.parametrize(
    "rollout",
    [{}, {"waves": []}, {"waves": ["0"]}, {"waves": ["101%"]}, {"waves": ["1"], "health": []},
     {"waves": ["1"], "bake_seconds": -1}, {"waves": ["1"], "other": 1}],
)  # fmt: skip
def test_a_roll_out_that_cannot_be_is_named(rollout: dict[str, Any]) -> None:
    """By the path of what is wrong."""
    with pytest.raises(RequestInvalid, match=r"options\.rollout"):
        parse_request({"archive": ARCHIVE, "target": "web", "options": {"rollout": rollout}})


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"target": "web"}, "project is missing"),
        ({"target": "web", "project": "demo", "archive": ARCHIVE}, "archive is not a known key"),
        ({"target": "web", "project": "demo", "release": "x"}, "release"),
        ({"target": "web", "project": "demo", "options": {"strict": True}}, "options.strict"),
    ],
)
def test_a_rollback_has_a_shape_of_its_own(request_: dict[str, Any], problem: str) -> None:
    """It has no archive, and needs a project unless a run names it."""
    with pytest.raises(RequestInvalid, match=problem):
        parse_request(request_, "rollback")
    assert parse_request({"target": "run:run-1"}, "rollback").archive is None


def test_what_a_run_has_changed_is_no_target_of_another_push() -> None:
    """And an archive has to be one."""
    with pytest.raises(TargetInvalid, match="rolled back"):
        parse_request({"archive": ARCHIVE, "target": "run:run-1"})
    kept = {"key": "releases/web/demo.tar.gz"}
    assert parse_request({"archive": kept, "target": "web"}).archive is not None

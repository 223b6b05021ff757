"""ferry push: a real project arrives, is proven, and replaces what was there whole."""

from __future__ import annotations

import json
import os
import stat

import pytest

from codeferry_contracts.layout import RunKeys

pytestmark = pytest.mark.e2e


def files(tree):
    """Relative path to content of every file of a release, our own directory left out."""
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and ".codeferry" not in path.parts
    }


def test_what_compresses_extremely_well_arrives(aws, project):
    """A mask of 80 MiB of zeros is 80 kB of archive, and as good as any other file."""
    with (project / "mask.npy").open("wb") as file:
        file.truncate(80 << 20)
    ran = aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    assert ran.json["archive_bytes"] < 1 << 20
    for record in aws.state.instances:
        mask = aws.root(record, project.name) / "current" / "mask.npy"
        assert mask.stat().st_size == 80 << 20
        mask.unlink()


def test_a_project_arrives_on_every_instance(aws, project):
    """What git would take is what every instance has, byte for byte, with its modes."""
    (project / "link").symlink_to("main.py")
    ran = aws.ferry("push", "demo", project)
    assert ran.exit == 0, ran.err
    for record in aws.state.instances:
        root = aws.root(record, project.name)
        assert files(root / "current") == {
            ".gitignore": b"*.log\nsecret-notes/\n",
            "main.py": b"print('hello')\n",
            "pkg/__init__.py": b"",
            "pkg/tool.sh": b"#!/bin/sh\n",
            "requirements.txt": b"",
        }
        assert (root / "current" / "link").readlink().name == "main.py"
        assert stat.S_IMODE((root / "current/pkg/tool.sh").stat().st_mode) == 0o755
        assert not list((root / "staging").iterdir())


def test_the_json_answer_and_the_record_agree(aws, project):
    """--json is one document that names the run; report.json is the same story."""
    ran = aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    answer = ran.json
    assert answer["success"] is True
    report = aws.report(answer["run_id"])
    assert report["status"] == "SUCCEEDED"
    assert report["counts"] == {"total": 3, "succeeded": 3, "failed": 0, "skipped": 0}
    assert report["verification"]["source"] == "manifest"
    assert report["verification"]["verified"] == 3
    assert report["verification"]["python_files"] == ["main.py", "pkg/__init__.py"]
    release = report["verification"]["release_id"]
    assert {outcome["release_id"] for outcome in report["instances"]} == {release}
    for record in aws.state.instances:
        current = (aws.root(record, project.name) / "current").resolve()
        assert current.name == release


def test_nothing_of_the_transfer_is_left_behind(aws, project):
    """The archive is gone, all versions of it, and so is every unfinished upload."""
    run_id = aws.ferry("push", "demo", project, "--json").json["run_id"]
    assert aws.keys("archives/") == []
    uploads = aws.client("s3").list_multipart_uploads(Bucket=aws.bucket)
    assert uploads.get("Uploads", []) == []
    kept = {key.removeprefix(RunKeys(run_id).prefix) for key in aws.keys(RunKeys(run_id).prefix)}
    assert {"request.json", "targets.json", "report.json"} <= kept


def test_an_edit_is_a_new_release_and_the_old_one_stays(aws, project):
    """Changed files change, deleted files disappear, the last release can be gone back to."""
    first = aws.ferry("push", "demo", project, "--json").json["run_id"]
    (project / "main.py").write_text("print('changed')\n")
    (project / "pkg" / "__init__.py").unlink()
    second = aws.ferry("push", "demo", project, "--json").json["run_id"]
    old, new = (aws.report(run)["verification"]["release_id"] for run in (first, second))
    assert old != new
    for record in aws.state.instances:
        root = aws.root(record, project.name)
        assert (root / "current").resolve().name == new
        assert (root / "current/main.py").read_text() == "print('changed')\n"
        assert not (root / "current/pkg/__init__.py").exists()
        assert (root / "releases" / old / "pkg/__init__.py").exists()


def test_the_same_tree_is_the_same_release(aws, project):
    """Pushing without a change switches nothing and says so."""
    aws.ferry("push", "demo", project)
    ran = aws.ferry("push", "demo", project, "--json")
    changes = {outcome["change"] for outcome in aws.report(ran.json["run_id"])["instances"]}
    assert changes == {"unchanged"}


def test_what_a_program_wrote_lives_on(aws, project):
    """output/ is kept from release to release."""
    aws.ferry("push", "demo", project)
    roots = [aws.root(record, project.name) for record in aws.state.instances]
    for root in roots:
        (root / "current/output/metrics.json").write_text("{}")
    (project / "main.py").write_text("print(2)\n")
    assert aws.ferry("push", "demo", project).exit == 0
    assert [(root / "current/output/metrics.json").read_text() for root in roots] == ["{}"] * 3


def test_old_releases_are_pruned(aws, project):
    """keep-releases keeps so many, the current one among them."""
    for number in range(4):
        (project / "main.py").write_text(f"print({number})\n")
        assert aws.ferry("push", "demo", project, "--keep-releases", 2).exit == 0
    root = aws.root(aws.state.instances[0], project.name)
    kept = sorted(path.name for path in (root / "releases").iterdir())
    assert len(kept) == 2
    assert (root / "current").resolve().name in kept


def test_an_unmet_expectation_warns_and_with_strict_fails(aws, project):
    """Without --strict the run succeeds with a warning; with it the old release stays."""
    expecting = ("push", "demo", project, "--expect-file", "train.py", "--json")
    loose = aws.ferry(*expecting)
    assert loose.exit == 0, loose.err
    assert "train.py" in json.dumps(aws.report(loose.json["run_id"])["warnings"])
    before = (aws.root(aws.state.instances[0], project.name) / "current").resolve()
    (project / "main.py").write_text("print('not to be activated')\n")
    strict = aws.ferry(*expecting, "--strict")
    assert strict.exit == 4
    assert (aws.root(aws.state.instances[0], project.name) / "current").resolve() == before


def test_one_instance_by_its_id(aws, project):
    """A target may be one instance; the others get nothing."""
    chosen, *others = aws.state.instances
    assert aws.ferry("push", chosen.instance_id, project).exit == 0
    assert (aws.root(chosen, project.name) / "current/main.py").exists()
    assert not [record for record in others if aws.root(record, project.name).exists()]


def test_a_target_without_instances_fails_with_the_fix(aws, project):
    """No instance matches: exit 4, the reason, the targets there are, no archive sent."""
    ran = aws.ferry("push", "nobody-here", project)
    assert ran.exit == 4
    assert "nobody-here" in ran.err
    assert "Known targets: demo (3 instances)" in ran.err
    assert "Packing" not in ran.err
    assert aws.keys("archives/") == []


def test_an_archive_of_many_parts_arrives(aws, project):
    """More than one part goes up as a multipart upload and comes out whole."""
    blob = os.urandom(40 << 20)
    (project / "weights.bin").write_bytes(blob)
    ran = aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    for record in aws.state.instances:
        assert (aws.root(record, project.name) / "current/weights.bin").read_bytes() == blob


def test_progress_says_each_step_with_numbers(aws, project):
    """Not on a terminal: plain lines for packing, upload, each phase, each instance."""
    err = aws.ferry("push", "demo", project).err
    for words in ("Packing 5 files", "Archive", "Uploading", "plan", "dispatch", "apply", "verify"):
        assert words.lower() in err.lower()
    for record in aws.state.instances:
        assert record.instance_id in err
    assert "\x1b[" not in err
    assert "X-Amz-Signature" not in err

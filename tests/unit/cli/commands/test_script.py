"""`ferry script` against a stage: what it packs, refuses, sends and ends with."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.runs.find import started_by


@pytest.fixture
def script(clean_environment: Path) -> Path:
    """An executable script in a directory of its own."""
    path = clean_environment / "ops" / "setup.sh"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    return path


def plant(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)
    return directory


def packed(world: Any, run_id: str) -> tarfile.TarFile:
    key = f"archives/{run_id}.tar.gz"
    body = world.client("s3").get_object(Bucket=world.bucket, Key=key)["Body"].read()
    return tarfile.open(fileobj=io.BytesIO(body))


def members(world: Any, run_id: str) -> set[str]:
    with packed(world, run_id) as tar:
        return {name for name in tar.getnames() if not name.startswith(".codeferry/")}


def test_a_script_goes_out_alone_and_runs_everywhere(ferry: Any, world: Any, script: Path) -> None:
    """Its name and arguments are the command, its name the project; exit 0."""
    answer = ferry("script", "fleet", str(script), "--json", "--", "a b", "--json", "$x")
    assert answer.exit == 0, answer.err
    run_id = answer.json()["run_id"]
    assert world.request_of(run_id, "script") == {
        "archive": {
            "key": f"archives/{run_id}.tar.gz",
            "sha256": answer.json()["archive_sha256"],
            "version_id": answer.json()["version_id"],
        },
        "project": "setup.sh",
        "target": "fleet",
        "command": ["setup.sh", "a b", "--json", "$x"],
        "started_by": asdict(started_by(Path.cwd())),
    }
    assert members(world, run_id) == {"setup.sh"}
    with packed(world, run_id) as tar:
        assert tar.getmember("setup.sh").mode == 0o755


def test_the_last_line_counts_where_the_script_ran(ferry: Any, world: Any, script: Path) -> None:
    """2/3 is exit 1, and what was printed is shown on the way."""
    answer = ferry("script", "partial", str(script))
    assert answer.exit == 1
    assert answer.out.rstrip().endswith("Script ran on 2/3 instances")
    assert "i-00000000000000001 | running setup.sh" in answer.err
    assert "exit code 3" in answer.out
    assert (
        ferry("script", "fleet", str(script)).out.rstrip().endswith("Script ran on 3/3 instances")
    )


def test_files_beside_the_script_go_along(ferry: Any, world: Any, script: Path) -> None:
    """All of them: ignored ones too, with modes and structure; never a repository's .git."""
    files = plant(script.parent / "files", **{"a.conf": "1", ".gitignore": "*\n", "run": "#!x\n"})
    (files / "run").chmod(0o750)
    plant(files / "deep" / "er", x="1")
    plant(files / ".git", HEAD="ref: x\n")
    (files / "link").symlink_to("deep/er/x")
    run_id = ferry("script", "fleet", str(script), "--json").json()["run_id"]
    assert members(world, run_id) == {
        "setup.sh", "files/a.conf", "files/.gitignore", "files/run", "files/deep/er/x",
        "files/link",
    }  # fmt: skip
    with packed(world, run_id) as tar:
        assert tar.getmember("files/run").mode == 0o755
        assert tar.getmember("files/link").linkname == "deep/er/x"


def test_another_directory_may_go_along_or_none(ferry: Any, world: Any, script: Path) -> None:
    """--files takes its place, whatever it is called; --no-files leaves both behind."""
    plant(script.parent / "files", beside="1")
    other = plant(script.parent.parent / "patches", named="1")
    run_id = ferry("script", "fleet", str(script), "--files", str(other), "--json").json()["run_id"]
    assert members(world, run_id) == {"setup.sh", "files/named"}
    run_id = ferry("script", "fleet", str(script), "--no-files", "--json").json()["run_id"]
    assert members(world, run_id) == {"setup.sh"}


def test_a_linked_script_and_linked_files_go_as_what_they_stand_for(
    ferry: Any, world: Any, script: Path
) -> None:
    """Under their own names: what was typed is what runs."""
    real = plant(script.parent.parent / "real", x="1")
    (script.parent / "files").symlink_to(real)
    link = script.parent / "alias.sh"
    link.symlink_to(script)
    run_id = ferry("script", "fleet", str(link), "--json").json()["run_id"]
    assert members(world, run_id) == {"alias.sh", "files/x"}


def refusals() -> dict[str, Any]:
    def absent(path: Path) -> None:
        path.unlink()

    def directory(path: Path) -> None:
        path.unlink()
        path.mkdir()

    return {
        "script_missing": absent,
        "script_not_a_file": directory,
        "script_not_executable": lambda path: path.chmod(0o644),
        "script_without_interpreter": lambda path: path.write_text("echo hello\n"),
        "script_line_endings": lambda path: path.write_bytes(b"#!/bin/sh\r\necho\r\n"),
    }


@pytest.mark.parametrize("code", refusals())
def test_what_cannot_run_anywhere_is_refused_with_its_name(
    ferry: Any, world: Any, script: Path, code: str
) -> None:
    """Exit 2, the path and a remedy, nothing uploaded."""
    refusals()[code](script)
    before = world.objects("archives/")
    answer = ferry("script", "fleet", str(script), "--json")
    assert answer.exit == 2
    assert answer.json()["error"]["code"] == code
    assert str(script) in answer.json()["error"]["message"]
    assert answer.json()["error"]["hint"]
    assert world.objects("archives/") == before


def test_an_empty_script_says_what_its_first_line_should_be(ferry: Any, script: Path) -> None:
    """The hint has an example."""
    script.write_text("")
    assert "#!/usr/bin/env python3" in ferry("script", "fleet", str(script)).err


@pytest.mark.parametrize("there", [True, False])
def test_files_that_are_no_directory_are_named(ferry: Any, script: Path, there: bool) -> None:
    """Exit 2 for what does not exist and for what is a file."""
    path = script if there else script.parent / "nowhere"
    answer = ferry("script", "fleet", str(script), "--files", str(path))
    assert answer.exit == 2
    assert str(path) in answer.err


def test_files_and_no_files_contradict_each_other(ferry: Any, script: Path) -> None:
    """Neither is silently the stronger."""
    answer = ferry("script", "fleet", str(script), "--files", ".", "--no-files")
    assert answer.exit == 2


def test_a_script_called_files_is_refused_beside_files(ferry: Any, script: Path) -> None:
    """Both would want the same name in the archive."""
    named = script.rename(script.parent / "files")
    answer = ferry("script", "fleet", str(named), "--files", str(script.parent))
    assert answer.exit == 2
    assert "cannot be called 'files'" in answer.err


def test_a_script_whose_name_is_not_text_is_refused(ferry: Any, script: Path) -> None:
    """The request could not name it."""
    named = script.rename(script.parent / os.fsdecode(b"\xff.sh"))
    answer = ferry("script", "fleet", str(named), "--dry-run")
    assert answer.exit == 2
    assert "UTF-8" in answer.err


def test_secrets_among_the_files_are_refused(ferry: Any, world: Any, script: Path) -> None:
    """Naming a directory is not naming the key in it; --allow-secret does."""
    plant(script.parent / "files", **{".env": "AWS_SECRET=hunter2hunter2\n"})
    before = world.objects("archives/")
    answer = ferry("script", "fleet", str(script), "--json")
    assert answer.exit == 4
    assert answer.json()["error"]["code"] == "secrets_found"
    assert "files/.env" in answer.json()["error"]["message"]
    assert world.objects("archives/") == before
    allowed = ferry("script", "fleet", str(script), "--allow-secret", "files/.env", "--json")
    assert allowed.exit == 0


def test_a_link_that_leaves_the_files_is_refused(ferry: Any, world: Any, script: Path) -> None:
    """Also one that only reaches the script beside them."""
    files = plant(script.parent / "files")
    (files / "out").symlink_to("../setup.sh")
    answer = ferry("script", "fleet", str(script), "--json")
    assert answer.exit == 4
    assert answer.json()["error"]["code"] == "link_leaves_tree"
    assert "out -> ../setup.sh" in answer.json()["error"]["message"]


def test_dry_run_says_what_would_go_and_be_asked(ferry: Any, script: Path) -> None:
    """Without any stage."""
    plant(script.parent / "files", x="123")
    answer = ferry("script", "fleet", str(script), "--dry-run", "--timeout", "1m", "--", "deep")
    assert answer.exit == 0, answer.err
    assert f"Root {script.parent}" in answer.err
    assert "Would pack 2 files" in answer.out
    assert "files/x" in answer.out
    assert '"timeout_seconds": 60' in answer.out
    assert '"deep"' in answer.out


def test_configuration_is_looked_for_beside_the_script(ferry: Any, script: Path) -> None:
    """As for a project: nearest upwards from what is named."""
    (script.parent / "codeferry.toml").write_text('user = "deploy"\n')
    answer = ferry("script", "fleet", str(script), "--dry-run", "--json")
    assert answer.json()["request"]["options"] == {"user": "deploy"}

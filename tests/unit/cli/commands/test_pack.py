"""`ferry pack`: works without any AWS."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.main import run


def test_pack_writes_the_archive_of_the_project(ferry: Any, project: Path) -> None:
    """The default name is the project's, in the current directory."""
    answer = ferry("pack", str(project))
    assert answer.exit == 0
    path = project.parent / "demo.tar.gz"
    with tarfile.open(path) as tar:
        assert "pkg/model.py" in tar.getnames()
        assert ".codeferry/manifest.json" in tar.getnames()
    assert f"Wrote {path}" in answer.out
    assert "release " in answer.out


def test_pack_json_describes_the_file_it_wrote(ferry: Any, project: Path) -> None:
    """Size and checksum are those of the file on disk."""
    document = ferry("pack", str(project), "-o", "out.tar.gz", "--json").json()
    body = Path(document["path"]).read_bytes()
    assert document["archive_bytes"] == len(body)
    assert document["archive_sha256"] == hashlib.sha256(body).hexdigest()
    assert (document["success"], document["file_count"]) == (True, 3)


def test_an_archive_inside_the_project_never_holds_itself(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing twice in the project gives the same bytes, and says what will follow."""
    monkeypatch.chdir(project)
    first = ferry("pack", "--json").json()
    again = ferry("pack", "--json")
    assert again.json()["archive_sha256"] == first["archive_sha256"]
    assert "lies in the project" in again.err


def test_a_failed_pack_leaves_the_old_archive_and_nothing_beside_it(
    ferry: Any, project: Path
) -> None:
    """The file appears whole or not at all."""
    out = project.parent / "out.tar.gz"
    out.write_text("the old one")
    (project / "id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    answer = ferry("pack", str(project), "-o", str(out))
    assert answer.exit == 4
    assert out.read_text() == "the old one"
    assert {path.name for path in project.parent.iterdir()} == {"demo", "out.tar.gz"}


def test_a_replaced_archive_keeps_its_mode_and_a_link_its_place(
    ferry: Any, project: Path, tmp_path: Path
) -> None:
    """A private archive stays private, and a link that was named leads to the new one."""
    (tmp_path / "real.tar.gz").write_bytes(b"old")
    (tmp_path / "real.tar.gz").chmod(0o600)
    (tmp_path / "latest").symlink_to("real.tar.gz")
    assert ferry("pack", str(project), "-o", str(tmp_path / "latest")).exit == 0
    assert (tmp_path / "latest").is_symlink()
    assert tarfile.is_tarfile(tmp_path / "real.tar.gz")
    assert (tmp_path / "real.tar.gz").stat().st_mode & 0o777 == 0o600


def test_an_archive_replaces_nothing_but_a_file(ferry: Any, project: Path, tmp_path: Path) -> None:
    """Not a pipe or a device, which root could; and what ends in / is a directory."""
    os.mkfifo(tmp_path / "pipe")
    refused = ferry("pack", str(project), "-o", str(tmp_path / "pipe"), "--json")
    assert refused.json()["error"]["code"] == "output_refused"
    assert (tmp_path / "pipe").is_fifo()
    assert ferry("pack", str(project), "-o", f"{tmp_path}/new/").exit == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "work"]


def test_the_archive_file_has_ordinary_permissions(ferry: Any, project: Path) -> None:
    """Not those of a temporary file."""
    before = os.umask(0o022)
    try:
        ferry("pack", str(project), "-o", "out.tar.gz")
    finally:
        os.umask(before)
    assert (project.parent / "out.tar.gz").stat().st_mode & 0o777 == 0o644


def test_stdout_takes_the_archive_through_a_pipe(ferry_command: str, project: Path) -> None:
    """`ferry pack -o - | tar -t` works, with the talk on stderr."""
    packed = subprocess.run(
        [ferry_command, "pack", str(project), "-o", "-"], capture_output=True, check=True
    )
    listed = subprocess.run(["tar", "-tz"], input=packed.stdout, capture_output=True, check=True)
    assert b"train.py\n" in listed.stdout
    assert b"Packing 3 files" in packed.stderr


def test_an_archive_is_not_written_to_a_terminal(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and the way to do it, instead of a screen of bytes."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["pack", str(project), "-o", "-"]) == 2
    assert "not written to a terminal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "-", "--json"), "both want stdout"),
        (("--list", "-o", "x"), "writes no archive"),
        (("-o", "nowhere/x.tar.gz"), "nowhere' does not exist"),
    ],
)
def test_contradictions_are_usage_errors(
    ferry: Any, project: Path, arguments: tuple[str, ...], said: str
) -> None:
    """What cannot be done at once, or where, is refused before packing."""
    answer = ferry("pack", str(project), *arguments)
    assert answer.exit == 2
    assert said in answer.out + answer.err


def test_list_prints_a_name_a_line(ferry: Any, project: Path) -> None:
    """Names only, each on its own line even with a newline in it."""
    (project / "two\nlines").write_text("")
    answer = ferry("pack", str(project), "--list")
    assert answer.out.splitlines() == [
        "pkg/model.py",
        "requirements.txt",
        "train.py",
        r"two\nlines",
    ]


def test_a_directory_that_was_typed_is_the_root(
    ferry: Any, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a home directory that is a repository ignoring all but its dotfiles."""
    home = clean_environment / "h"
    (home / "proj").mkdir(parents=True)
    (home / ".gitignore").write_text("*\n")
    (home / ".vimrc").touch()
    for name in ("main.py", "pyproject.toml"):
        (home / "proj" / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    subprocess.run(["git", "add", "-f", ".vimrc"], cwd=home, check=True)
    typed = ferry("pack", "--list", str(home / "proj"))
    assert typed.out.splitlines() == ["main.py", "pyproject.toml"]
    assert f"Root {home / 'proj'}" in typed.err
    monkeypatch.chdir(home / "proj")
    assert ferry("pack", "--list").out == typed.out
    assert ferry("pack", "--json").json()["project"] == "proj"
    assert ferry("pack", "--list", "..").out.splitlines() == [".vimrc"]


@pytest.mark.parametrize(
    "command",
    ["pack", "pack --list", "push x --dry-run", "run x --dry-run", "upload x --dry-run"],
)
def test_every_command_that_packs_says_its_root_and_what_to_know_first(
    ferry: Any, project: Path, command: str
) -> None:
    """Root and warnings of the selection come on stderr, before the packing, once."""
    os.mkfifo(project / "pipe")
    words = command.split()
    behind = ["--", "true"] if words[0] == "run" else []
    answer = ferry(*words, str(project), *behind)
    assert answer.exit == 0, answer.err
    said = answer.err.splitlines()
    assert said[:2] == [f"Root {project}", "Warning: pipe is a FIFO: left out."]
    assert answer.err.count("pipe") == 1


def test_list_json_has_size_mode_digest_and_odd_names(ferry: Any, project: Path) -> None:
    """Bytes that are not UTF-8 come as surrogate escapes, links with their target."""
    name = os.fsdecode(b"caf\xe9")
    (project / name).write_text("x")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "link").symlink_to("train.py")
    document = ferry("pack", str(project), "--list", "--json").json()
    files = {file["path"]: file for file in document["files"]}
    assert files[name]["sha256"] == hashlib.sha256(b"x").hexdigest()
    assert (files["run.sh"]["mode"], files["run.sh"]["size"]) == ("755", 10)
    assert files["link"]["link"] == "train.py"
    assert document["file_count"] == len(files) == 6


def test_project_and_root_can_be_chosen(ferry: Any, project: Path) -> None:
    """--root packs less than the project, --project names it otherwise."""
    document = ferry("pack", "--root", str(project / "pkg"), "--list", "--json").json()
    assert [file["path"] for file in document["files"]] == ["model.py"]
    assert document["project"] == "pkg"
    named = ferry("pack", str(project), "--project", "other", "--list", "--json").json()
    assert named["project"] == "other"


def test_a_listing_marks_what_a_push_would_refuse(ferry: Any, project: Path) -> None:
    """By name and kind of credential; what is allowed on purpose is not marked."""
    (project / ".env").write_text("AWS_SECRET=hunter2hunter2\n")
    answer = ferry("pack", str(project), "--list")
    (marked,) = (line for line in answer.out.splitlines() if "!" in line)
    assert marked.startswith(".env  ! refused: ")
    assert "hunter2" not in answer.out
    assert "Push refuses 1 file:" in answer.err
    allowed = ferry("pack", str(project), "--list", "--allow-secret", ".env")
    assert "!" not in allowed.out
    assert "Push refuses" not in allowed.err

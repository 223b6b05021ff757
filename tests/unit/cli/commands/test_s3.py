"""The commands of `ferry s3` as a command line: help, usage, and what needs no server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from codeferry_cli.commands.s3 import s3
from codeferry_cli.errors import PlaceUnusable
from codeferry_cli.s3 import places
from codeferry_transfer.location import Location

VERBS = ["upload", "download", "sync", "list"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_and_explains_its_options(ferry: Any, verb: str) -> None:
    """Help shows how it is typed, and no option goes without a word."""
    said = ferry("s3", verb, "--help")
    assert said.exit == 0
    assert f"ferry s3 {verb}" in said.out.partition("Examples:")[2]
    options = [p for p in s3.commands[verb].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("upload", "here"), "usage"),
        (("sync", ".", "s3://bucket"), "usage"),
        (("sync", ".", "s3://bucket", "--direction", "both"), "usage"),
        (("upload", ".", "no-place"), "place_unusable"),
        (("download", "s3://a bucket/x"), "place_unusable"),
        (("upload", ".", "s3://bucket", "--concurrency", "0"), "usage"),
    ],
)
def test_what_makes_no_sense_is_exit_2_before_anything_is_asked_of_s3(
    ferry: Any, arguments: tuple[str, ...], code: str
) -> None:
    """One document with a code, without credentials or network."""
    answer = ferry("s3", *arguments, "--json")
    assert (answer.exit, answer.json()["error"]["code"]) == (2, code)


def test_a_pipe_is_called_a_pipe(ferry: Any, tmp_path: Path) -> None:
    """What can be read only once, or never ends, is refused before anything is asked of S3."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for arguments in (("upload", pipe, "s3://bucket/x"), ("download", "s3://bucket/x", pipe)):
        answer = ferry("s3", *arguments, "--json")
        assert answer.exit == 2
        assert "a pipe" in answer.json()["error"]["message"]
    assert "a device" in ferry("s3", "upload", "/dev/null", "s3://bucket/x").err


@pytest.mark.parametrize(
    ("typed", "file"),
    [
        ("new", "new"),
        ("new/", "new/e"),
        ("new/deep/", "new/deep/e"),
        ("there", "there/e"),
        (".", "e"),
    ],
)
def test_a_destination_that_ends_in_a_slash_is_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, file: str
) -> None:
    """Also one that is not there yet; and one that is needs no slash."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert places.file_for(Location("b", "d/e"), typed) == Path(file)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """With the slash it was meant to be one."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlaceUnusable):
        places.file_for(Location("b", "e"), f"{tmp_path}/file/")


def test_a_file_that_may_not_be_looked_at_is_no_errno(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's word, with the path."""
    stat = Path.stat

    def denied(path: Path, **options: bool) -> os.stat_result:
        if path.name == "x":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", denied)
    answer = ferry("s3", "upload", "secret/x", "s3://bucket/x", "--json")
    assert answer.json()["error"]["message"] == "secret/x: Permission denied."


@pytest.fixture
def s5cmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``s5cmd(script)`` puts a program of that name on the PATH; it notes its arguments."""

    def make(script: str = "") -> None:
        program = tmp_path / "bin" / "s5cmd"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    return make


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync", ".", "s3://bucket/x", "--direction", "up", "--delete", "--exclude", "keep"),
        ("sync", ".", "s3://bucket/x", "--direction", "down", "--delete", "--include", "*.csv"),
        ("upload", ".", "s3://bucket/x", "-r", "--exclude", "private/*"),
        ("sync", ".", "s3://bucket/x", "--direction", "up", "--exclude", "private"),
    ],
)
def test_s5cmd_is_not_given_what_it_would_delete_or_upload_all_the_same(
    ferry: Any, s5cmd: Callable[..., None], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """It deletes what patterns leave out, and uploads what lies in excluded directories."""
    s5cmd()
    answer = ferry("s3", *arguments, "--use-s5cmd", "--json")
    assert (answer.exit, answer.json()["error"]["code"]) == (2, "place_unusable")
    assert "Leave --use-s5cmd away" in answer.json()["error"]["hint"]
    assert not (tmp_path / "arguments").exists()


def test_s5cmd_is_told_what_patterns_and_directories_mean_here(
    ferry: Any, s5cmd: Callable[..., None], tmp_path: Path
) -> None:
    """And not to go on to delete when it could not list."""
    s5cmd()
    there = tmp_path / "arguments"
    ferry("s3", "download", "s3://bucket/e", "new/", "--use-s5cmd")
    assert there.read_text().splitlines()[-2:] == ["s3://bucket/e", "new/e"]
    ferry("s3", "download", "s3://bucket/x", "d", "-r", "--use-s5cmd", "--exclude", "./keep")
    assert "--exclude\nkeep\n--exclude\nkeep/*\n" in there.read_text()
    ferry("s3", "sync", ".", "s3://bucket/x", "--direction", "up", "--delete", "--use-s5cmd")
    assert "--delete\n--exit-on-error\n" in there.read_text()


def test_an_error_that_s5cmd_only_tells_of_is_one(
    ferry: Any, s5cmd: Callable[..., None], tmp_path: Path
) -> None:
    """Of a directory that it cannot read it says so, and ends with 0."""
    s5cmd("""echo '{"operation":"sync","command":"d","error":"permission denied"}' >&2""")
    answer = ferry("s3", "upload", ".", "s3://bucket/x", "-r", "--use-s5cmd", "--json")
    assert (answer.exit, answer.json()["error"]["code"]) == (1, "objects_failed")
    assert answer.json()["failures"][0]["message"] == "permission denied"


def test_include_of_the_project_file_is_not_for_transfers(
    ferry: Any, clean_environment: Any
) -> None:
    """What a project packs although it is ignored does not choose what is uploaded."""
    (clean_environment / "codeferry.toml").write_text('include = ["data"]\n')
    seen = {}

    def remember(**values: Any) -> None:
        seen.update(values)

    upload = s3.commands["list"]
    kept, upload.callback = upload.callback, remember
    try:
        ferry("s3", "list", "s3://bucket")
    finally:
        upload.callback = kept
    assert seen["includes"] == ()

"""The commands of `ferry s3` as a command line: help, usage, and what needs no server."""

from __future__ import annotations

from typing import Any

import click
import pytest

from codeferry_cli.commands.s3 import s3

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

"""Names and keys: what is unique, what is stable, what fits everywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts import layout, names
from codeferry_contracts.errors import NameInvalid, RequestInvalid

NOW = datetime(2026, 11, 20, 15, 44, 30, tzinfo=UTC)


@given(st.text(max_size=200))
def test_a_run_id_fits_everywhere(project):
    """Whatever the project is called, the run id is an execution name, key part and file name."""
    assert re.fullmatch(names.RUN_ID_PATTERN, names.new_run_id(project, NOW))


def test_run_ids_of_one_second_differ():
    """Two pushes in the same second are two runs."""
    assert names.new_run_id("demo", NOW) != names.new_run_id("demo", NOW)


@given(st.text(max_size=1100), st.text(max_size=40))
def test_the_same_upload_is_the_same_run(key, version):
    """A redelivered event gives the same run id; another version gives another."""
    first = names.inbox_run_id("bucket", key, version)
    assert first == names.inbox_run_id("bucket", key, version)
    assert first != names.inbox_run_id("bucket", key, f"{version}x")
    assert re.fullmatch(names.RUN_ID_PATTERN, first)


@given(st.text(max_size=200))
def test_any_directory_name_gives_a_project_name(text):
    """A project can always be named after its directory."""
    assert re.fullmatch(names.PROJECT_PATTERN, names.project_name(text))


def test_what_a_name_loses_tells_projects_apart():
    """Two directories of other letters, of a long common beginning, or of none are two projects."""
    directories = [
        "日本語",
        "项目",
        "項目1",
        "作品1",
        "データ-v2",
        "モデル-v2",
        "🚀",
        "()",
        "a" * 65,
        "a" * 66,
    ]
    given = [names.project_name(directory) for directory in directories]
    assert len(set(given)) == len(directories)
    assert all(re.fullmatch(names.PROJECT_PATTERN, name) for name in given)
    assert names.project_name("cafe\u0301") == names.project_name("caf\u00e9") != "caf"


@pytest.mark.parametrize(
    ("text", "name"),
    [("demo", "demo"), ("My project (2)", "My-project-2"), ("2024", "2024"), ("a" * 64, "a" * 64)],
)
def test_what_loses_only_punctuation_keeps_its_name(text, name):
    """A name once given is where the instances have the project."""
    assert names.project_name(text) == names.project_name(name) == name


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("codeferry-prod-models-1-eu-west-1", True),
        ("a.b", True),
        ("abc", True),
        ("ab", False),
        ("a" * 64, False),
        ("With_Underscore", False),
        ("a..b", False),
        ("192.168.5.4", False),
        ("xn--bucket", False),
        ("bucket-s3alias", False),
        ("-abc", False),
        ("abc.", False),
    ],
)
def test_a_bucket_is_called_as_s3_allows(name, allowed):
    """By the rules of the S3 User Guide, so that a wrong name is refused before anything is."""
    assert bool(re.fullmatch(names.BUCKET_PATTERN, name)) is allowed


@pytest.mark.parametrize("name", ["", "Dev", "-x", "a" * 17, "a b", "dev\n"])
def test_a_stage_that_cannot_be_a_name_is_refused(name):
    """The stage is part of every name in the account."""
    with pytest.raises(NameInvalid):
        names.Stage(name)


@pytest.mark.parametrize("target", ["demo", "tag:a/b=c", "i-0123456789abcdef0", "all"])
def test_an_inbox_key_names_its_target(target):
    """The key a client uploads to is read back into target and name."""
    parsed = layout.parse_inbox_key(layout.inbox_key(target, "my.project"))
    assert (parsed.target, parsed.name) == (target, "my.project")


@pytest.mark.parametrize(
    "key",
    ["inbox/a.tar.gz", "inbox//a.tar.gz", "inbox/t/.tar.gz", "inbox/t/a.zip", "x/t/a.tar.gz", ""],
)
def test_a_key_without_target_or_archive_is_refused(key):
    """An upload in the wrong place gets to know where uploads go."""
    with pytest.raises(RequestInvalid, match="inbox/<target>"):
        layout.parse_inbox_key(key)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.xz", ".tgz", ".tar.zst", ".tar.BZ2"])
def test_an_upload_that_is_named_otherwise_is_called_what_it_is(suffix):
    """Who uploads another kind of archive to the right place gets to know which kind goes there."""
    with pytest.raises(RequestInvalid, match=re.escape(f"is called a {suffix}, and")) as raised:
        layout.parse_inbox_key(f"inbox/demo/project{suffix}")
    assert "inbox/<target>/<name>.tar.gz" in raised.value.hint
    assert layout.parse_inbox_key("inbox/demo/a.zip.tar.gz").name == "a.zip"


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("archives/a.tar.gz", True),
        ("inbox/t/a.tar.gz", True),
        ("runs/x/report.json", False),
        ("archives/a", False),
        ("other/a.tar.gz", False),
    ],
)
def test_only_archives_may_be_deleted(key, allowed):
    """Cleanup deletes nothing but archives, whatever a request names."""
    assert layout.is_archive_key(key) is allowed

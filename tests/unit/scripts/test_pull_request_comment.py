"""One comment per pull request, however often it is planned."""

from __future__ import annotations

import json

import pytest

from scripts.pull_request_comment import main

MARKER = "<!-- codeferry: plan -->"
BOT = {"login": "github-actions[bot]"}
# Pages of comments as `gh api --paginate --slurp` gives them, from a file; calls written down.
GH = """
import json, pathlib, sys
here = pathlib.Path({directory!r})
given = sys.stdin.read() if "--input" in sys.argv else ""
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], given]) + "\\n")
if "--slurp" in sys.argv:
    print((here / "comments").read_text())
"""


@pytest.fixture
def github(tmp_path, stand_in):
    stand_in("gh", GH.format(directory=str(tmp_path)))
    (tmp_path / "comments").write_text("[[]]")

    class GitHub:
        def has(self, *pages):
            (tmp_path / "comments").write_text(json.dumps(pages))

        def comment(self, text):
            body = tmp_path / "plan.md"
            body.write_text(text)
            return main(["--repository", "acme/app", "--number", "7", str(body)])

        @property
        def written(self):
            calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
            return [(a[2], a[3], json.loads(given)["body"]) for a, given in calls if given]

    return GitHub()


def test_the_first_plan_is_a_new_comment(github):
    """Nothing is there yet."""
    assert github.comment(f"{MARKER}\nfirst") == 0
    assert github.written == [("POST", "repos/acme/app/issues/7/comments", f"{MARKER}\nfirst")]


def test_the_next_plan_replaces_it(github):
    """Also when it is on the second page."""
    other = {"id": 1, "user": BOT, "body": "unrelated"}
    github.has([other], [{"id": 42, "user": BOT, "body": f"{MARKER}\nfirst"}])
    assert github.comment(f"{MARKER}\nsecond") == 0
    assert github.written == [("PATCH", "repos/acme/app/issues/comments/42", f"{MARKER}\nsecond")]


def test_somebody_elses_comment_is_left_alone(github):
    """Anyone can write the marker; only what the workflow wrote is its own."""
    github.has([{"id": 1, "user": {"login": "mallory"}, "body": f"{MARKER}\nlooks fine"}])
    github.comment(f"{MARKER}\nplan")
    ((method, path, _),) = github.written
    assert (method, path) == ("POST", "repos/acme/app/issues/7/comments")


def test_a_refusal_fails_the_job_with_githubs_words(stand_in, tmp_path, capsys):
    """A plan nobody can see is no plan."""
    stand_in("gh", "import sys\nsys.exit('HTTP 403: Resource not accessible')")
    body = tmp_path / "plan.md"
    body.write_text(f"{MARKER}\nplan")
    assert main(["--repository", "acme/app", "--number", "7", str(body)]) == 1
    assert "HTTP 403" in capsys.readouterr().err

"""One comment on a pull request, written once and then kept up to date.

It is found again by its first line, among the comments of whoever runs this. Uses the GitHub
CLI, which runners have; standard library only, so it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# What a workflow's own token writes as.
AUTHOR = "github-actions[bot]"


class GitHubRefused(Exception):
    """The GitHub CLI ended with an error; the message is its own."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write or update the one comment.")
    parser.add_argument("--repository", required=True, metavar="OWNER/NAME")
    parser.add_argument("--number", required=True, type=int)
    parser.add_argument("body", type=Path)
    chosen = parser.parse_args(arguments)
    body = chosen.body.read_text()
    marker = body.splitlines()[0]
    comments = f"repos/{chosen.repository}/issues/{chosen.number}/comments"
    try:
        found = find(existing(comments), marker)
        if found is None:
            write("POST", comments, body)
        else:
            write("PATCH", f"repos/{chosen.repository}/issues/comments/{found}", body)
    except GitHubRefused as error:
        print(f"The comment could not be written: {error}", file=sys.stderr)
        return 1
    return 0


def existing(path: str) -> list[dict[str, Any]]:
    """All comments, of every page."""
    pages = json.loads(gh("api", "--paginate", "--slurp", path))
    return [comment for page in pages for comment in page]


def find(comments: list[dict[str, Any]], marker: str) -> int | None:
    """The id of our own comment: somebody else may have quoted its first line."""
    for comment in comments:
        ours = comment["user"]["login"] == AUTHOR
        if ours and comment["body"].startswith(marker):
            return int(comment["id"])
    return None


def write(method: str, path: str, body: str) -> None:
    gh("api", "--method", method, path, "--input", "-", given=json.dumps({"body": body}))


def gh(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(
        ["gh", *arguments], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise GitHubRefused(done.stderr.strip() or f"gh ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

"""The GitHub CLI as far as the page and the workflows use it, on the GitHub beside this file.

``FAKE_GITHUB`` names its directory. An option that is not written here is an error; what would
wait for ever says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.gitops.github import REPOSITORY, GitHub
from tests.gitops.github_api import Refused

_STEP = re.compile(r"\.?\[(\d+)\]|\.(\w+)")


def main(arguments=None):
    chosen = _parser().parse_args(arguments)
    github = GitHub(Path(os.environ["FAKE_GITHUB"]))
    try:
        return chosen.run(github, chosen) or 0
    except Refused as error:
        print(f"gh: {error}", file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(prog="gh", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    api = _command(commands, "api", call_api)
    api.add_argument("path")
    api.add_argument("--method")
    api.add_argument("-H", dest="headers", action="append", default=[])
    api.add_argument("-f", dest="fields", action="append", default=[], type=_text)
    api.add_argument("-F", dest="fields", action="append", type=_typed)
    api.add_argument("--input", choices=["-"])
    api.add_argument("--jq")
    api.add_argument("--paginate", action="store_true")
    api.add_argument("--slurp", action="store_true")
    variable = _command(_group(commands, "variable"), "set", set_variable)
    variable.add_argument("name")
    variable.add_argument("--body", required=True)
    pull = _group(commands, "pr")
    _command(pull, "create", create_pull).add_argument("--fill", action="store_true", required=True)
    _command(pull, "checks", watch_checks).add_argument(
        "--watch", action="store_true", required=True
    )
    _command(pull, "view", view_pull).add_argument("--comments", action="store_true", required=True)
    _command(pull, "merge", merge_pull).add_argument("--merge", action="store_true", required=True)
    run = _group(commands, "run")
    listing = _command(run, "list", list_runs)
    for option in ("--workflow", "--event", "--jq"):
        listing.add_argument(option, required=True)
    listing.add_argument("--limit", type=int, required=True)
    listing.add_argument("--json", choices=["databaseId"], required=True)
    watching = _command(run, "watch", watch_run)
    watching.add_argument("id", type=int)
    watching.add_argument("--exit-status", action="store_true", required=True)
    return parser


def _group(commands, name):
    return commands.add_parser(name, allow_abbrev=False).add_subparsers(required=True)


def _command(commands, name, run):
    parser = commands.add_parser(name, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _text(field):
    name, _, value = field.partition("=")
    return name, value


def _typed(field):
    """As ``-F`` does: numbers and literals are what they look like."""
    name, value = _text(field)
    return name, json.loads(value) if re.fullmatch(r"\d+|true|false|null", value) else value


def call_api(github, chosen):
    given = {}
    for name, value in chosen.fields:
        if name.endswith("[]"):
            given.setdefault(name[:-2], []).append(value)
        else:
            given[name] = value
    body = json.loads(sys.stdin.read()) if chosen.input else given or None
    method = chosen.method or ("POST" if body else "GET")
    answer = github.api(method, chosen.path, body, os.environ.get("GH_TOKEN", ""))
    if chosen.paginate:
        answer = [answer] if chosen.slurp else answer
    print(_query(chosen.jq, answer) if chosen.jq else json.dumps(answer))


def _query(expression, value):
    """The jq that the page uses: a path, or a string with paths in it."""
    if text := re.fullmatch(r'"(.*)"', expression):
        return re.sub(r"\\\((.*?)\)", lambda path: str(_follow(path[1], value)), text[1])
    return _follow(expression, value)


def _follow(path, value):
    if re.sub(_STEP, "", path):
        raise Refused(f"jq {path!r} is not written here")
    for index, name in _STEP.findall(path):
        value = value[name] if name else value[int(index)]
    return value


def set_variable(github, chosen):
    _of_this_repository()
    if not re.fullmatch(r"(?!GITHUB_)[A-Za-z_]\w*", chosen.name) or not chosen.body:
        raise Refused(f"HTTP 422: {chosen.name!r} cannot be {chosen.body!r}")
    state = github.state
    state["variables"][chosen.name] = chosen.body
    github.save(state)


def create_pull(github, _chosen):
    number = github.open_pull(_branch())
    print(f"https://github.com/{REPOSITORY}/pull/{number}")


def watch_checks(github, _chosen):
    head = _git("rev-parse", "HEAD")
    checks = github.checks(head)
    for name, ended in checks.items():
        print(f"{name}\t{ended}")
    if not checks or "pending" in checks.values():
        raise Refused("this would wait for ever")
    return int("failure" in checks.values())


def view_pull(github, _chosen):
    pull = github.pull(_branch())
    print(pull["title"])
    for comment in github.api("GET", f"repos/{REPOSITORY}/issues/{pull['number']}/comments"):
        print(f"{comment['user']['login']}:\n{comment['body']}")


def merge_pull(github, _chosen):
    github.merge(_branch())


def list_runs(github, chosen):
    ids = [
        run["id"]
        for run in github.state["runs"]
        if run["workflow"] == chosen.workflow and run["event"] == chosen.event
    ]
    newest = sorted(ids, reverse=True)[: chosen.limit]
    print(_query(chosen.jq, [{"databaseId": id_} for id_ in newest]))


def watch_run(github, chosen):
    (run,) = [run for run in github.state["runs"] if run["id"] == chosen.id]
    for name, ended in run["checks"].items():
        print(f"{name}\t{ended}")
    if "pending" in run["checks"].values():
        raise Refused("this would wait for ever")
    return int("failure" in run["checks"].values())


def _branch():
    _of_this_repository()
    return _git("branch", "--show-current")


def _of_this_repository():
    """``gh`` finds the repository by the remote of the directory it runs in."""
    if (
        _git("config", "remote.origin.url").removesuffix(".git")
        != f"https://github.com/{REPOSITORY}"
    ):
        raise Refused("this directory is no clone of a repository at GitHub")


def _git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

"""GitHub, as far as the page and the workflows see it: a repository and what is known about it.

The repository is a bare one, the rest a JSON file, so that ``gh`` (a process of its own) and the
runner share both.
"""

from __future__ import annotations

import fnmatch
import json
import subprocess
from dataclasses import dataclass

from tests.gitops.github_api import Refused, endpoint

REPOSITORY, OWNER_ID, REPOSITORY_ID = "acme/app", 12, 34
PERSON = {"login": "maintainer", "id": 7}
# What the token of a job writes as.
BOT = {"login": "github-actions[bot]", "id": 41898282}
GITHUB_ACTIONS_APP = 15368
NOTHING = {
    "subject": {"use_default": True, "use_immutable_subject": False},
    "variables": {},
    "environments": {},
    "rulesets": [],
    "pulls": {},
    "comments": [],
    "runs": [],
    "tokens": {},
    "seen": {},
    "last_id": 100,
}


@dataclass(frozen=True)
class Event:
    """What starts workflows: ``sha`` is checked out, ``head`` the commit that gets the checks."""

    name: str
    ref: str
    sha: str
    head: str
    number: int = 0


class GitHub:
    """Everything is written through to ``directory`` at once."""

    def __init__(self, directory):
        self.repository = directory / "repository.git"
        self._file = directory / "state.json"

    def create(self, sources):
        """The repository, with the commits of a local one, before anything was set up."""
        self.git("clone", "--quiet", "--bare", sources, self.repository, anywhere=True)
        self.save(NOTHING | {"seen": self.branches()})

    @property
    def state(self):
        return json.loads(self._file.read_text())

    def save(self, state):
        self._file.write_text(json.dumps(state, indent=1))

    def git(self, *arguments, anywhere=False):
        where = () if anywhere else ("--git-dir", self.repository)
        command = ["git", *map(str, where), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout.strip()

    # --- the REST API -------------------------------------------------------------------------

    def api(self, method, path, body=None, token=""):
        """The answer's JSON. ``token`` is a job's, "" is the person at the laptop."""
        wanted, named = endpoint(method, path, body)
        if named.pop("repository", REPOSITORY) != REPOSITORY:
            raise Refused("HTTP 404: Not Found")
        state = self.state
        if token and state["tokens"].get(token, {}).get(wanted.job_needs) != "write":
            raise Refused("HTTP 403: Resource not accessible by integration")
        if body is not None:
            named["body"] = body
        if wanted.name == "post_comment":
            named["author"] = BOT if token else PERSON
        answer = getattr(self, f"_{wanted.name}")(state, **named)
        self.save(state)
        return answer

    def _get_user(self, _state):
        return PERSON

    def _get_repository(self, _state):
        owner, name = REPOSITORY.split("/")
        return {"id": REPOSITORY_ID, "name": name, "owner": {"id": OWNER_ID, "login": owner}}

    def _put_subject(self, state, body):
        state["subject"] = body
        return {}

    def _put_environment(self, state, name, body):
        known = state["environments"].get(name, {"id": _next_id(state), "branches": []})
        state["environments"][name] = known | {"rules": body}
        return self._get_environment(state, name)

    def _get_environment(self, state, name):
        return {"id": _known(state["environments"], name)["id"], "name": name}

    def _post_branch_policy(self, state, name, body):
        environment = _known(state["environments"], name)
        policy = environment["rules"].get("deployment_branch_policy")
        if not policy or not policy["custom_branch_policies"]:
            raise Refused("HTTP 404: the environment has no custom branch policies")
        environment["branches"].append(body)
        return body

    def _post_ruleset(self, state, body):
        state["rulesets"].append(body)
        return {"id": _next_id(state), **body}

    def _post_review(self, state, run, body):
        (found,) = [r for r in state["runs"] if r["id"] == int(run)] or [{"waiting": {}}]
        if not set(body["environment_ids"]) <= set(found["waiting"].values()):
            raise Refused("HTTP 422: no deployment to that environment is waiting")
        found["reviews"] = {str(id_): body["state"] for id_ in body["environment_ids"]}
        return []

    def _get_comments(self, state, number):
        return [comment for comment in state["comments"] if comment["issue"] == int(number)]

    def _post_comment(self, state, number, body, author):
        comment = {"id": _next_id(state), "issue": int(number), "user": author, **body}
        state["comments"].append(comment)
        return comment

    def _patch_comment(self, state, id_, body):
        (comment,) = [c for c in state["comments"] if c["id"] == int(id_)]
        comment |= body
        return comment

    # --- branches and pull requests -----------------------------------------------------------

    def branches(self):
        """Name to commit."""
        lines = self.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
        return dict(line.split() for line in lines.splitlines())

    def open_pull(self, branch):
        """A pull request of that branch into main, titled as its last commit."""
        if branch not in self.branches():
            raise Refused(f"{branch} has not been pushed")
        state = self.state
        number = len(state["pulls"]) + 1
        title = self.git("log", "-1", "--format=%s", branch)
        state["pulls"][branch] = {"number": number, "title": title, "open": True, "seen": ""}
        self.save(state)
        return number

    def pull(self, branch):
        return _known(self.state["pulls"], branch)

    def merge(self, branch):
        """Into main, if every rule of its rulesets is kept."""
        head = self.branches()[branch]
        checks = self.checks(head)
        for ruleset in self.state["rulesets"]:
            for rule in ruleset["rules"]:
                for check in rule.get("parameters", {}).get("required_status_checks", []):
                    if check["integration_id"] != GITHUB_ACTIONS_APP:
                        raise Refused(f"{check['context']!r} is expected from somebody else")
                    if checks.get(check["context"]) not in ("success", "skipped"):
                        raise Refused(f"{check['context']!r} has not succeeded: {checks}")
        self.git("update-ref", "refs/heads/main", self._merged(branch))
        state = self.state
        state["pulls"][branch]["open"] = False
        self.save(state)

    def _merged(self, branch):
        """The merge commit of a branch that is up to date, as its ruleset wants it to be."""
        self.git("merge-base", "--is-ancestor", "main", branch)
        person = ("-c", "user.name=GitHub", "-c", "user.email=noreply@github.com")
        commit = ("commit-tree", f"{branch}^{{tree}}", "-p", "main", "-p", branch)
        return self.git(*person, *commit, "-m", f"Merge {branch}")

    def checks(self, head):
        """Job name to how it ended, for a commit; "pending" while it has not."""
        found = {}
        for run in self.state["runs"]:
            if run["head"] == head:
                found |= run["checks"]
        return found

    # --- what the runner asks -----------------------------------------------------------------

    def new_events(self):
        """What has happened since the last time."""
        state, branches = self.state, self.branches()
        events = [
            Event("push", f"refs/heads/{branch}", sha, head=sha)
            for branch, sha in branches.items()
            if state["seen"].get(branch) != sha
        ]
        state["seen"] = branches
        for branch, pull in state["pulls"].items():
            head = branches[branch]
            if pull["open"] and pull["seen"] != head:
                pull["seen"] = head
                number = pull["number"]
                ref = f"refs/pull/{number}/merge"
                merged = self._merged(branch)
                self.git("update-ref", ref, merged)
                events.append(Event("pull_request", ref, merged, head, number))
        self.save(state)
        return events

    def next_id(self):
        state = self.state
        id_ = _next_id(state)
        self.save(state)
        return id_

    def record(self, run):
        """Keep what is known of a run; what was said about it stays."""
        state = self.state
        earlier = [r for r in state["runs"] if r["id"] == run["id"]]
        reviews = earlier[0]["reviews"] if earlier else {}
        kept = [r for r in state["runs"] if r["id"] != run["id"]]
        state["runs"] = [*kept, {"reviews": reviews, **run}]
        self.save(state)

    def token(self, permissions):
        """A job's token, which may no more than ``permissions`` say."""
        state = self.state
        token = f"ghs_{_next_id(state)}"
        state["tokens"][token] = permissions
        self.save(state)
        return token

    def admits(self, environment, run_id, ref):
        """True, False, or None when a reviewer has not said yet."""
        state = self.state
        known = _known(state["environments"], environment)
        branch = ref.removeprefix("refs/heads/")
        if not any(fnmatch.fnmatchcase(branch, policy["name"]) for policy in known["branches"]):
            return False
        if not known["rules"].get("reviewers"):
            return True
        (run,) = [r for r in state["runs"] if r["id"] == run_id]
        review = run["reviews"].get(str(known["id"]))
        return None if review is None else review == "approved"

    def environment_id(self, environment):
        return _known(self.state["environments"], environment)["id"]

    def subject(self, event, environment):
        """The ``sub`` of a job's token ("OpenID Connect reference", GitHub Docs)."""
        owner, name = REPOSITORY.split("/")
        immutable = self.state["subject"]["use_immutable_subject"]
        who = f"{owner}@{OWNER_ID}/{name}@{REPOSITORY_ID}" if immutable else REPOSITORY
        if environment:
            return f"repo:{who}:environment:{environment}"
        if event.name == "pull_request":
            return f"repo:{who}:pull_request"
        return f"repo:{who}:ref:{event.ref}"


def _known(things, name):
    if name not in things:
        raise Refused(f"HTTP 404: there is no {name}")
    return things[name]


def _next_id(state):
    state["last_id"] += 1
    return state["last_id"]

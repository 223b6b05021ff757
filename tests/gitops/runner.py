"""Runs the workflows of the repository's own commits, as GitHub would, on this machine.

It knows what the two workflows use of GitHub's language, and stops at anything else. Left out,
because one machine shows nothing of it: ``concurrency``, time limits, and forks.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.gitops.actions import ACTIONS, StepFailed
from tests.gitops.cloud import Cloud
from tests.gitops.expressions import evaluate, fill
from tests.gitops.github import REPOSITORY, Event, GitHub
from tests.gitops.workplace import Workplace

FOLDER = ".github/workflows"
WORKFLOW_KEYS = {"name", "on", "permissions", "concurrency", "jobs"}
JOB_KEYS = {
    *("name", "runs-on", "timeout-minutes", "permissions", "outputs", "steps"),
    *("needs", "if", "environment"),
}
STEP_KEYS = {"name", "id", "uses", "with", "run", "env"}
FINISHED = ("success", "failure", "skipped")


@dataclass
class Job:
    """One job of a run, and what is known of it so far."""

    id: str
    spec: dict
    run: Run
    github: GitHub
    cloud: Cloud
    workplace: Workplace
    environment: dict
    state: str = "pending"
    outputs: dict = field(default_factory=dict)
    steps: dict = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    role: str = ""
    began: float = 0.0
    ended: float = 0.0

    @property
    def name(self):
        return self.spec["name"]

    @property
    def permissions(self):
        return self.spec["permissions"]

    @property
    def environment_name(self):
        return self.spec.get("environment", "")

    @property
    def needs(self):
        named = self.spec.get("needs", [])
        return [named] if isinstance(named, str) else named

    def context(self, token=""):
        event = self.run.event
        pull_request = {"number": event.number, "head": {"repo": {"full_name": REPOSITORY}}}
        return {
            "github": {
                "event_name": event.name,
                "event": {"pull_request": pull_request} if event.number else {},
                "ref": event.ref,
                "repository": REPOSITORY,
                "token": token,
            },
            "vars": self.github.state["variables"],
            "needs": {name: {"outputs": self.run.jobs[name].outputs} for name in self.needs},
            "steps": {id_: {"outputs": outputs} for id_, outputs in self.steps.items()},
        }

    def wanted(self):
        """Whether its ``if`` says so."""
        return "if" not in self.spec or bool(evaluate(self.spec["if"], self.context()))

    def work(self):
        """Every step, until one fails."""
        context = self.context(self.github.token(self.permissions))
        self.began = time.time()
        try:
            for step in self.spec["steps"]:
                self._step(step, context)
                context = context | {"steps": self.context()["steps"]}
            told = self.spec.get("outputs", {})
            self.outputs = {name: fill(text, context) for name, text in told.items()}
            self.state = "success"
        except StepFailed as error:
            self.log += f"{error}\n"
            self.state = "failure"
        finally:
            self.ended = time.time()
            self.workplace.keep_set_up()

    def _step(self, step, context):
        given = {name: filled(value, context) for name, value in step.get("with", {}).items()}
        if "uses" in step:
            ACTIONS[step["uses"].partition("@")[0]](self, given)
            return
        variables = {name: fill(value, context) for name, value in step.get("env", {}).items()}
        output, summary = (self.run.artifacts.parent / f for f in ("output", "summary"))
        output.write_text("")
        summary.write_text("")
        told = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        try:
            self.bash(fill(step["run"], context), **variables, **told)
        finally:
            self.summary += summary.read_text()
        lines = output.read_text().splitlines()
        self.steps[step.get("id", "")] = dict(line.split("=", 1) for line in lines)

    def bash(self, script, **variables):
        """What it prints. ``-e`` and no more: GitHub's bash when ``shell`` is not given."""
        file = self.run.artifacts.parent / "step.sh"
        file.write_text(script)
        done = subprocess.run(
            ["bash", "-e", file],
            cwd=self.workplace.checkout,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log += f"$ {script}\n{done.stdout}\n"
        if done.returncode != 0:
            raise StepFailed(f"exit code {done.returncode}")
        return done.stdout


@dataclass
class Run:
    """One run of one workflow."""

    id: int
    workflow: str
    event: Event
    artifacts: Path
    jobs: dict = field(default_factory=dict)

    @property
    def log(self):
        return "\n".join(f"=== {job.id}: {job.state}\n{job.log}" for job in self.jobs.values())


@dataclass
class Runner:
    """``only_read`` names workflows whose jobs are read and taken for successful, not run."""

    github: GitHub
    cloud: Cloud
    directory: Path
    environment: dict
    only_read: tuple = ()
    runs: list = field(default_factory=list)

    def __post_init__(self):
        self.workplace = Workplace(self.directory)

    def settle(self):
        """Run what has been started and what has been waiting, as far as it goes."""
        for event in self.github.new_events():
            self.start(event)
        for run in self.runs:
            self._advance(run)

    def start(self, event):
        """A run of each workflow that the event starts."""
        names = self.github.git("ls-tree", "--name-only", f"{event.sha}:{FOLDER}").split()
        for name in names:
            workflow = parse(self.github.git("show", f"{event.sha}:{FOLDER}/{name}"))
            if starts(workflow["on"], event):
                self.runs.append(self._run(name, workflow, event))

    def again(self, run, job):
        """GitHub's "re-run job": with the same commit and the variables of now."""
        run.jobs[job] = self._job(run, job, run.jobs[job].spec)
        self._advance(run)
        return run.jobs[job]

    def _run(self, name, workflow, event):
        id_ = self.github.next_id()
        directory = self.directory / str(id_)
        directory.mkdir(parents=True)
        run = Run(id_, name, event, directory / "artifacts")
        for job, spec in workflow["jobs"].items():
            run.jobs[job] = self._job(run, job, spec)
        self._record(run)
        return run

    def _job(self, run, id_, spec):
        github = {"CI": "true", "GITHUB_ACTIONS": "true"}
        environment = self.environment | github
        return Job(id_, spec, run, self.github, self.cloud, self.workplace, environment)

    def _advance(self, run):
        for job in run.jobs.values():
            if job.state not in FINISHED:
                self._try(run, job)
                self._record(run)

    def _try(self, run, job):
        states = {run.jobs[name].state for name in job.needs}
        if not states <= set(FINISHED):
            return
        if states - {"success"} or not job.wanted():
            job.state = "skipped"
            return
        admitted = self._admitted(run, job)
        if admitted is None:
            job.state = "waiting"
        elif not admitted:
            job.state = "failure"
        elif run.workflow in self.only_read:
            job.state = "success"
        else:
            job.work()

    def _admitted(self, run, job):
        if not job.environment_name:
            return True
        return self.github.admits(job.environment_name, run.id, run.event.ref)

    def _record(self, run):
        waiting = [job for job in run.jobs.values() if job.state == "waiting"]
        names = {job.environment_name for job in waiting}
        self.github.record(
            {
                "id": run.id,
                "workflow": run.workflow,
                "event": run.event.name,
                "head": run.event.head,
                "checks": {
                    job.name: job.state if job.state in FINISHED else "pending"
                    for job in run.jobs.values()
                },
                "waiting": {name: self.github.environment_id(name) for name in names},
            }
        )


def parse(text):
    """A workflow that uses nothing but what this runner knows."""
    # YAML 1.1 takes the key "on" for a boolean.
    workflow = yaml.safe_load(re.sub(r"(?m)^on:", "'on':", text))
    _only(workflow, WORKFLOW_KEYS)
    for job in workflow["jobs"].values():
        _only(job, JOB_KEYS)
        assert job["runs-on"] == "ubuntu-24.04"
        for step in job["steps"]:
            _only(step, STEP_KEYS)
            assert ("uses" in step) != ("run" in step), step
            assert "run" in step or step["uses"].partition("@")[0] in ACTIONS, step
    return workflow


def _only(mapping, known):
    assert set(mapping) <= known, f"not known to this runner: {set(mapping) - known}"


def starts(triggers, event):
    """Whether a workflow's ``on`` names the event, for its branch."""
    if event.name not in triggers:
        return False
    if event.name == "schedule":
        return True
    rule = triggers[event.name] or {}
    _only(rule, {"branches"})
    # A pull request's is the branch it goes into.
    branch = "main" if event.name == "pull_request" else event.ref.removeprefix("refs/heads/")
    return branch in rule.get("branches", [branch])


def filled(value, context):
    return fill(value, context) if isinstance(value, str) else value

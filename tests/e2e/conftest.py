"""The embedded AWS, whole, once per worker: no mock between ``ferry`` and the instances."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from codeferry_contracts.layout import RunKeys
from codeferry_contracts.local_stage import HOME_VARIABLE
from codeferry_local.emulator.gaps import TASK_TOKEN_SCALE
from codeferry_local.home import Home, read_state
from codeferry_local.process import Supervisor

FERRY = Path(sys.executable).with_name("ferry")
# A delivery timeout of ten minutes takes twelve seconds, an execution of fifteen eighteen.
TIME_SCALE = 0.02
# The workflow looks for itself after 1.5 seconds instead of 15, when no event comes.
HURRIED = {TASK_TOKEN_SCALE: "0.1"}
# For what takes a second or two: a machine that does much else is no failure.
PATIENCE = 150
CREATED = "files that a test of the suite made\n"


class Waiting(Exception):
    """Not there yet."""


def until(condition, seconds=PATIENCE):
    """The first true answer of ``condition``; Waiting when it never comes."""
    for attempt in Retrying(
        retry=retry_if_exception_type(Waiting),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(seconds),
        reraise=True,
    ):
        with attempt:
            answer = condition()
            if not answer:
                raise Waiting
    return answer


@dataclass
class Ran:
    """How a command ended."""

    exit: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def command_line(arguments, stage):
    """``ferry`` with the stage named where it is not taken for a remote argument."""
    words = [str(part) for part in arguments]
    end = words.index("--") if "--" in words else len(words)
    return [str(FERRY), *words[:end], *(["--stage", stage] if stage else []), *words[end:]]


class Aws:
    """The running embedded AWS as a test sees it."""

    def __init__(self, home):
        self.home = home
        self.state = read_state(home)
        self.bucket = self.state.bucket
        self.machine = self.state.state_machines["sync"]

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.state.endpoints["ssm" if service == "ssm" else "aws"],
            region_name=self.state.region,
            aws_access_key_id=self.state.credentials["access_key_id"],
            aws_secret_access_key=self.state.credentials["secret_access_key"],
        )

    def ferry(self, *arguments, cwd=None, stage="local", timeout=PATIENCE):
        done = subprocess.run(
            command_line(arguments, stage),
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def ferry_running(self, *arguments, stage="local"):
        """A ``ferry`` beside the test, its output a pipe; it is ended when the test is."""
        process = subprocess.Popen(
            command_line(arguments, stage),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def environment(self):
        return os.environ | {HOME_VARIABLE: str(self.home.path)}

    def control(self, method, name, body=None):
        """The control endpoint of the local SSM: faults, instances, calls."""
        request = urllib.request.Request(
            f"{self.state.endpoints['ssm']}/_codeferry/{name}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")

    def record(self, key):
        """A JSON object of the artifact bucket."""
        body = self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"]
        return json.loads(body.read())

    def report(self, run_id):
        return self.record(RunKeys(run_id).report)

    def keys(self, prefix):
        pages = self.client("s3").get_paginator("list_object_versions")
        found = []
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            found += [v["Key"] for v in page.get("Versions", [])]
        return found

    def root(self, record, project):
        return Path(record.root) / "opt" / "codeferry" / project


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("aws"))
    supervisor = Supervisor.start(
        home,
        instances=3,
        target="demo",
        attached=True,
        time_scale=TIME_SCALE,
        paced=False,
        variables=HURRIED,
    )
    try:
        yield Aws(home)
    finally:
        supervisor.stop()


@pytest.fixture
def aws(embedded):
    """The embedded AWS without faults, before and after."""
    embedded.control("DELETE", "faults")
    yield embedded
    embedded.control("DELETE", "faults")
    forget_releases(embedded)
    empty_inbox(embedded)


def forget_releases(aws):
    """Instances that a later test launches get nothing that this one has pushed to their target,
    which may have been all."""
    for key in set(aws.keys("releases/")):
        aws.client("s3").delete_object(Bucket=aws.bucket, Key=key)


def empty_inbox(aws):
    """What was refused stays there; a later test asks what it has left itself."""
    s3 = aws.client("s3")
    found = s3.list_object_versions(Bucket=aws.bucket, Prefix="inbox/")
    for version in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
        s3.delete_object(Bucket=aws.bucket, Key=version["Key"], VersionId=version["VersionId"])


@pytest.fixture
def project(tmp_path):
    """A small project under a name no other test uses."""
    root = tmp_path / f"project-{uuid.uuid4().hex[:8]}"
    (root / "pkg").mkdir(parents=True)
    (root / "requirements.txt").write_text("")
    (root / "main.py").write_text("print('hello')\n")
    (root / "pkg" / "__init__.py").write_text("")
    (root / "pkg" / "tool.sh").write_text("#!/bin/sh\n")
    (root / "pkg" / "tool.sh").chmod(0o755)
    (root / ".gitignore").write_text("*.log\nsecret-notes/\n")
    (root / "noise.log").write_text(CREATED)
    return root

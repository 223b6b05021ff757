"""A file of many parts: it arrives whole, and giving up half-way leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import uuid

import pytest
from tenacity import RetryError, retry, retry_if_result, stop_after_delay, wait_fixed

from codeferry_contracts.local_stage import HOME_VARIABLE
from codeferry_local.home import Home
from codeferry_local.process import Supervisor
from codeferry_transfer import PART_SIZE
from tests.e2e.conftest import FERRY, Aws
from tests.long import sized

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = sized(256 * MIB, 3 << 30)
STRIDE = SIZE // 64  # of it one MiB does not compress: 64 MiB go up


@pytest.fixture(scope="module")
def large_aws(tmp_path_factory):
    """An embedded AWS whose timeouts are the real ones: unpacking takes some seconds."""
    home = Home(tmp_path_factory.mktemp("aws-large"))
    supervisor = Supervisor.start(home, instances=2, target="demo", attached=True, paced=False)
    try:
        yield Aws(home)
    finally:
        supervisor.stop()


@pytest.fixture
def large_project(tmp_path):
    """A project of one file, sparse here, and everything removed again afterwards."""
    root = tmp_path / f"large-{uuid.uuid4().hex[:8]}"
    root.mkdir()
    path = root / "weights.bin"
    chooser = random.Random(3)
    with path.open("wb") as file:
        for start in range(0, SIZE, STRIDE):
            file.seek(start)
            file.write(chooser.randbytes(MIB))
        file.truncate(SIZE)
    yield root
    path.unlink()


def unfinished(aws):
    return aws.client("s3").list_multipart_uploads(Bucket=aws.bucket).get("Uploads", [])


@pytest.mark.timeout(900)
def test_a_large_file_arrives_byte_for_byte(large_aws, large_project):
    """In several parts, on the one instance asked for, and no part is left in the bucket."""
    first, second = large_aws.state.instances
    ran = large_aws.ferry("push", first.instance_id, large_project, "--json", timeout=800)
    assert ran.exit == 0, ran.err
    assert ran.json["archive_bytes"] > 4 * PART_SIZE
    release = large_aws.root(first, large_project.name) / "current"
    arrived = release / "weights.bin"
    assert arrived.stat().st_size == SIZE
    subprocess.run(["cmp", arrived, large_project / "weights.bin"], check=True)
    arrived.unlink()  # so much of somebody's disk
    assert not large_aws.root(second, large_project.name).exists()
    assert unfinished(large_aws) == []
    assert large_aws.keys("archives/") == []


def test_an_interrupt_during_the_upload_leaves_nothing(large_aws, large_project):
    """Ctrl-C ends `ferry push` with 130: no multipart upload, no object, no run."""
    before = executions(large_aws)
    command = [FERRY, "push", "demo", large_project, "--stage", "local"]
    environment = os.environ | {HOME_VARIABLE: str(large_aws.home.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as push:
        try:
            wait_for_upload(large_aws, push)
            push.send_signal(signal.SIGINT)
            _, said = push.communicate(timeout=60)
        finally:
            push.kill()
    assert push.returncode == 130, said
    assert "no run was started" in said
    assert unfinished(large_aws) == []
    assert large_aws.keys("archives/") == []
    assert executions(large_aws) == before


def wait_for_upload(aws, push):
    """Until S3 knows of the upload; fails when the command ends or a minute passes first."""

    @retry(
        retry=retry_if_result(lambda begun: not begun),
        wait=wait_fixed(0.02),
        stop=stop_after_delay(60),
    )
    def begun():
        assert push.poll() is None, "the command ended before it could be interrupted"
        return unfinished(aws)

    try:
        begun()
    except RetryError:
        pytest.fail("no multipart upload was begun")


def executions(aws):
    pages = aws.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=aws.machine)
    return {execution["name"] for page in found for execution in page["executions"]}

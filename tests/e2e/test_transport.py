"""Connections that break between the run and S3 or SSM: ended well, or with the reason."""

from __future__ import annotations

import os

import pytest

from codeferry_local.home import Home
from codeferry_local.process import Supervisor
from tests.e2e.conftest import HURRIED, TIME_SCALE, Aws
from tests.proxy.rules import Drop, Reset, Rule, Status, Truncate
from tests.proxy.server import FaultProxy

pytestmark = pytest.mark.e2e

ARCHIVE = r"/archives/.*\.tar\.gz"
PRESIGNED = ARCHIVE + r".*X-Amz-Signature="  # the instances' reads, not the Lambdas'


class Through:
    """The embedded AWS, its Lambdas and instances behind two proxies."""

    def __init__(self, aws, s3, ssm):
        self.aws, self.s3, self.ssm = aws, s3, ssm

    def push(self, project):
        """How it ended, and its report; whatever it was, the archive is gone."""
        ran = self.aws.ferry("push", "demo", project, "--json")
        run_id = ran.json["run_id"]
        assert self.aws.keys(f"archives/{run_id}") == []
        return ran, self.aws.report(run_id)


@pytest.fixture(scope="module")
def behind_proxies(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("proxied"))
    with FaultProxy() as s3, FaultProxy() as ssm:
        supervisor = Supervisor.start(
            home,
            instances=2,
            target="demo",
            attached=True,
            time_scale=TIME_SCALE,
            paced=False,
            variables={"AWS_ENDPOINT_URL_S3": s3.url, "AWS_ENDPOINT_URL_SSM": ssm.url} | HURRIED,
        )
        try:
            aws = Aws(home)
            s3.upstream, ssm.upstream = aws.state.endpoints["aws"], aws.state.endpoints["ssm"]
            yield Through(aws, s3, ssm)
        finally:
            supervisor.stop()


@pytest.fixture
def through(behind_proxies):
    """The proxies without rules, before and after."""
    for proxy in (behind_proxies.s3, behind_proxies.ssm):
        proxy.set()
    yield behind_proxies
    for proxy in (behind_proxies.s3, behind_proxies.ssm):
        proxy.set()


@pytest.fixture
def large(project):
    """A project whose archive takes more than one read."""
    (project / "noise.bin").write_bytes(os.urandom(3_000_000))
    return project


def test_the_lambdas_outlast_a_bad_s3(through, project):
    """Refused, reset, unanswered though done, and cut short: the run succeeds all the same."""
    through.s3.set(
        Rule(Status(503), path=r"/archives/", method="HEAD"),
        Rule(Reset(), path=r"/runs/.*/request\.json", method="PUT"),
        Rule(Drop(), path=r"/runs/.*/targets\.json", method="PUT"),
        Rule(Truncate(40), path=r"/runs/.*/targets\.json", method="GET"),
        Rule(Truncate(40, orderly=True), path=r"/runs/.*/batches/", method="GET"),
        Rule(Drop(), path=r"/archives/", method="DELETE"),
    )
    ran, report = through.push(project)
    assert ran.exit == 0, ran.err
    assert report["counts"]["succeeded"] == 2
    assert report["warnings"] == []
    assert len(through.s3.hits) == 6


def test_the_instances_outlast_a_bad_s3(through, large):
    """Their download is refused, reset and cut in the middle, and goes on where it stopped."""
    through.s3.set(
        Rule(Status(503), path=PRESIGNED, method="GET"),
        Rule(Reset(), path=PRESIGNED, method="GET", nth=2),
        Rule(Truncate(1_000_000), path=PRESIGNED, method="GET", nth=3, times=2),
    )
    ran, report = through.push(large)
    assert ran.exit == 0, ran.err
    assert report["counts"]["succeeded"] == 2
    assert len(through.s3.hits) == 4
    for record in through.aws.state.instances:
        arrived = through.aws.root(record, large.name) / "current" / "noise.bin"
        assert arrived.read_bytes() == (large / "noise.bin").read_bytes()


def test_a_download_that_never_succeeds_is_the_instances_reason(through, project):
    """Each instance says what it could not read; nothing is activated, the archive is gone."""
    through.s3.set(Rule(Status(403, "AccessDenied"), path=PRESIGNED, method="GET", times=99))
    ran, report = through.push(project)
    assert ran.exit == 1
    assert report["error"]["code"] == "instances_failed"
    assert {o["error"]["code"] for o in report["instances"]} == {"url_expired"}
    for record in through.aws.state.instances:
        assert not (through.aws.root(record, project.name) / "current").exists()


def test_a_cleanup_that_s3_refuses_is_a_warning(through, project):
    """The instances have their release; what is left behind is said."""
    through.s3.set(Rule(Status(403, "AccessDenied"), method="DELETE", times=99))
    ran = through.aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    (warning,) = through.aws.report(ran.json["run_id"])["warnings"]
    assert "Cleanup failed: DeleteObject failed: AccessDenied" in warning


def test_answers_of_ssm_that_are_lost(through, project):
    """Every kind of call is done once with its answer lost; one command, one application."""
    operations = ("DescribeInstanceInformation", "DescribeDocument", "SendCommand")
    operations += ("ListCommands", "ListCommandInvocations")
    through.ssm.set(*(Rule(Drop(), target=rf"\.{name}$") for name in operations))
    ran, report = through.push(project)
    assert ran.exit == 0, ran.err
    assert len(through.ssm.hits) == len(operations)
    sent = [s for s in through.ssm.seen if s.target.endswith(".SendCommand")]
    assert len(sent) == 1
    assert {o["change"] for o in report["instances"]} == {"applied"}


def test_a_send_command_that_never_arrived_is_sent_again(through, project):
    """A reset before SSM had it: nothing is found, so it is sent, once."""
    through.ssm.set(Rule(Reset(), target=r"\.SendCommand$"))
    ran, report = through.push(project)
    assert ran.exit == 0, ran.err
    commands = through.aws.client("ssm").list_commands()["Commands"]
    assert [c["Comment"] for c in commands].count(report["run_id"]) == 1


def test_a_send_command_that_is_refused_is_the_runs_reason(through, project):
    """Every instance is recorded with SSM's answer, and the archive is gone."""
    through.ssm.set(Rule(Status(400, "AccessDeniedException"), target=r"\.SendCommand$", times=99))
    ran, report = through.push(project)
    assert ran.exit == 4
    assert {o["error"]["code"] for o in report["instances"]} == {"aws_refused"}
    assert "SendCommand" in report["instances"][0]["error"]["message"]

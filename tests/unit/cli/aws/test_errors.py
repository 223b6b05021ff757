"""AWS's refusals, as what failed and the command that fixes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from codeferry_cli.aws.errors import explain
from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.errors import exit_code
from codeferry_transfer.s3 import from_environment

SSO = Access(stage="prod", profile="work", region="eu-west-1")
LOCAL = Access(stage="local")


def refused(code: str, call: str = "DescribeStacks") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as AWS says"}}, call)


@pytest.mark.parametrize(
    ("error", "access", "code", "remedy"),
    [
        (boto.NoCredentialsError(), SSO, "credentials_missing", "aws sso login --profile work"),
        (boto.NoCredentialsError(), Access(), "credentials_missing", "aws configure"),
        (boto.ProfileNotFound(profile="work"), SSO, "profile_unknown", "--profile work"),
        (boto.NoRegionError(), Access(), "region_missing", "--region"),
        (
            boto.UnauthorizedSSOTokenError(),
            SSO,
            "credentials_expired",
            "aws sso login --profile work",
        ),
        (
            boto.TokenRetrievalError(provider="sso", error_msg="expired"),
            SSO,
            "credentials_expired",
            "aws sso login --profile work",
        ),
        (refused("ExpiredToken"), SSO, "credentials_expired", "aws sso login --profile work"),
        (refused("InvalidClientTokenId"), SSO, "credentials_invalid", "aws configure"),
        (refused("AccessDenied"), SSO, "access_denied", "aws sts get-caller-identity --profile"),
        (refused("403", "HeadBucket"), SSO, "access_denied", "aws sts get-caller-identity"),
        (
            refused("NoSuchBucket"),
            SSO,
            "stage_missing",
            "npx cdk deploy --all -c stage=prod --profile work",
        ),
        (refused("StateMachineDoesNotExist"), SSO, "stage_missing", "cdk deploy"),
        (refused("NoSuchBucket"), LOCAL, "stage_missing", "ferry local up"),
        (
            boto.EndpointConnectionError(endpoint_url="https://x"),
            SSO,
            "aws_unreachable",
            "network",
        ),
        (
            boto.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
            LOCAL,
            "local_not_running",
            "ferry local up",
        ),
        (boto.ConnectTimeoutError(endpoint_url="https://x"), SSO, "aws_unreachable", "network"),
        (ResponseParserError("<html>"), SSO, "aws_unreachable", "AWS_ENDPOINT_URL"),
    ],
)
def test_what_is_missing_is_exit_3_with_its_remedy(
    error: Exception, access: Access, code: str, remedy: str
) -> None:
    """Credentials, permission, network or deployment: which it is, and what to type."""
    found = explain(error, access)
    assert found is not None
    assert (found.code, exit_code(found)) == (code, 3)
    assert remedy in found.hint


def test_a_denial_names_the_call(capsys: Any) -> None:
    """Which permission is missing can be read off it."""
    found = explain(refused("AccessDeniedException", "StartExecution"), SSO)
    assert found is not None
    assert "AWS denied StartExecution: as AWS says" in found.message


def test_any_other_refusal_is_passed_on_with_its_code() -> None:
    """Nobody has a remedy for it, and nobody is told that their set-up is wrong."""
    found = explain(refused("ThrottlingException"), SSO)
    assert found is not None
    assert (found.code, exit_code(found)) == ("aws_error", 1)
    assert "ThrottlingException" in found.message


def test_errors_that_are_not_of_aws_are_not_explained() -> None:
    """A defect stays one."""
    assert explain(ValueError("x"), SSO) is None


def test_no_credentials_from_the_command_line(ferry: Any, project: Path) -> None:
    """A push without credentials is exit 3 and one JSON document."""
    answer = ferry("push", "fleet", str(project), "--region", "eu-west-1", "--json")
    assert answer.exit == 3
    assert answer.json()["error"]["code"] == "credentials_missing"


def test_an_unknown_profile_from_the_command_line(ferry: Any) -> None:
    """The profile is named with the command that creates it."""
    answer = ferry("runs", "--profile", "nobody")
    assert answer.exit == 3
    assert "aws configure --profile nobody" in answer.err


def test_a_stage_that_is_not_deployed(
    ferry: Any, ministack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which stage, in which region, and the command that deploys it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    answer = ferry("runs", "--stage", "qa", "--region", "eu-west-1")
    assert answer.exit == 3
    assert "Stage 'qa' is not deployed in eu-west-1." in answer.err
    assert "npx cdk deploy --all -c stage=qa" in answer.err


def ended_process() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("pid", [os.getpid, ended_process])
def test_the_embedded_aws_gone_without_a_word(
    ferry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: Callable[[], int]
) -> None:
    """A state file whose process is dead, or does not answer, is as good as none."""
    state = {
        "pid": pid(),
        "endpoints": {"aws": "http://127.0.0.1:1"},
        "region": "eu-west-1",
        "credentials": {"access_key_id": "a", "secret_access_key": "b"},
    }
    (tmp_path / "state.json").write_text(json.dumps(state))
    monkeypatch.setenv("CODEFERRY_LOCAL_HOME", str(tmp_path))
    answer = ferry("runs", "--stage", "local")
    assert answer.exit == 3
    assert "ferry local up" in answer.err


def test_a_state_file_that_cannot_be_read_is_named(
    ferry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file says where it lies and how to start anew."""
    (tmp_path / "state.json").write_text('{"endpoints": ')
    monkeypatch.setenv("CODEFERRY_LOCAL_HOME", str(tmp_path))
    answer = ferry("runs", "--stage", "local")
    assert answer.exit == 3
    assert str(tmp_path / "state.json") in answer.err
    assert "ferry local down" in answer.err


def test_the_local_stage_ignores_the_users_own_aws_configuration(
    ferry: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken profile, a proxy and another endpoint in the environment do not matter."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert ferry("runs", "--limit", "1").exit == 0


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-north-1"}, "eu-north-1"),
        ({"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-north-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
def test_the_regions_variable_is_the_sdks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    """AWS_REGION, which boto3 does not read, before AWS_DEFAULT_REGION; the option before both."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Aws(Access()).region == region
    assert Aws(Access(region="us-east-2")).region == "us-east-2"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found = from_environment(os.environ, Session)
    assert found is not None
    assert found.region == region


def test_without_a_region_the_variables_are_named(ferry: Any, project: Path) -> None:
    """All of them that would do."""
    answer = ferry("runs")
    assert answer.exit == 3
    assert "AWS_REGION (AWS_DEFAULT_REGION, FERRY_REGION)" in answer.err

"""Parameter Store: the local SSM passes it on, or says why it cannot."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import Bench, client


def test_without_an_embedded_aws_there_are_no_parameters(bench: Bench) -> None:
    """A local SSM by itself refuses the operation by name."""
    with pytest.raises(ClientError, match=r"UnknownOperationException.*GetParameter"):
        bench.ssm.get_parameter(Name="x")


def test_an_embedded_aws_that_is_away_is_named() -> None:
    """Nobody answers where the parameters are: the error says what does not answer."""
    with (
        SsmServer(aws_endpoint="http://127.0.0.1:9") as server,
        pytest.raises(ClientError, match="which keeps the parameters, does not answer"),
    ):
        client(server.url).get_parameter(Name="x")

"""The AWS clients that all functions share."""

from __future__ import annotations

import pytest

from codeferry_lambdas.aws import clients
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.releases import store
from codeferry_lambdas.runs import record


@pytest.mark.parametrize("client", [clients.s3, clients.ssm])
def test_a_client_has_a_connection_for_each_thread(
    client: object, environment: dict[str, str]
) -> None:
    """urllib3 throws away what does not fit into its pool, handshakes and all."""
    assert callable(client)
    most = max(module._THREADS for module in (targets, store, record))
    assert client().meta.config.max_pool_connections >= most

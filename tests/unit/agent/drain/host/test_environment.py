"""The environment of an agent: instance metadata, region, credentials, account."""

from __future__ import annotations

import json
import os
import queue
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config

from codeferry_agent.drain.errors import CredentialsMissing, OwnerUnknown, SettingsInvalid
from codeferry_agent.drain.host import environment
from codeferry_agent.drain.host.environment import (
    Clients,
    Environment,
    Metadata,
    MetadataUnreachable,
)
from codeferry_agent.drain.host.interruption import InterruptionWatch, seconds_left
from codeferry_transfer.s3.http import Connection
from tests.unit.agent.drain.imds import IDENTITY, Imds
from tests.unit.transfer.s3.hostile import (
    Answer,
    HostileServer,
    Make,
    chunks,
    drips,
    headers,
    lengths,
    mutations,
    status_lines,
)

SPOT = "/latest/meta-data/spot/instance-action"
AUTO_SCALING = "/latest/meta-data/autoscaling/target-lifecycle-state"


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def imds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    with Imds() as service:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        yield service


def some_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def test_an_instance_knows_itself(imds: Imds) -> None:
    """Identity comes by a token; one that has run out is replaced."""
    metadata = Metadata(imds.url)
    assert metadata.instance().region == "eu-north-1"
    imds.token = "token-2"
    assert metadata.instance().account == "0" * 12


def test_what_is_no_instance_is_found_out(imds: Imds) -> None:
    """Nobody listening, errors and nonsense all mean: no instance."""
    imds.values = {}
    with pytest.raises(MetadataUnreachable):
        Metadata(imds.url).instance()
    with pytest.raises(MetadataUnreachable):
        Metadata("http://127.0.0.1:9").instance()


def test_on_an_instance_its_region_counts_and_no_profile(
    imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The region is the instance's own unless one is given; a profile is left aside."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "of-somebody")
    found = Environment.find(region=None, profile="of-somebody")
    assert found.session.region_name == "eu-north-1"
    assert Environment.find(region="us-east-2", profile=None).session.region_name == "us-east-2"


def test_an_instance_without_credentials_goes_on(imds: Imds) -> None:
    """A role may come later, so an instance does not give up for lack of one."""
    found = Environment.find(region=None, profile=None)
    assert found.instance is not None
    assert found.instance.instance_id == IDENTITY["instanceId"]


def test_a_laptop_without_credentials_is_told_what_to_do() -> None:
    """Without credentials, and without an instance that could get some, it ends."""
    with pytest.raises(CredentialsMissing, match="aws configure"):
        Environment.find(region=None, profile=None)


def test_a_laptop_without_region_is_in_ireland(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's region counts; without one it is eu-west-1."""
    some_credentials(monkeypatch)
    assert Environment.find(region=None, profile=None).session.region_name == "eu-west-1"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text("[default]\nregion = ap-south-1\n")
    assert Environment.find(region=None, profile=None).session.region_name == "ap-south-1"


def test_a_profile_that_does_not_exist_is_a_usage_error() -> None:
    """A profile's name that was mistyped ends the command with 2."""
    with pytest.raises(SettingsInvalid, match="no-such-profile") as error:
        Environment.find(region=None, profile="no-such-profile")
    assert error.value.exit_code == 2


def test_the_account_is_asked_for_and_remembered(
    ministack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets have to be the caller's account's; STS says which one that is."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    clients = Clients(Environment.find(region=None, profile=None), {}, any_owner=False)
    assert clients.of("bucket") is clients.of("other")
    assert clients.account() == "0" * 12


def test_without_sts_no_bucket_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the account is not known nothing is uploaded, unless any owner will do."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = Environment.find(region=None, profile=None)
    strict = Clients(found, {"theirs": "1" * 12}, any_owner=False)
    with pytest.raises(OwnerUnknown):
        strict.of("bucket")
    strict.of("theirs")
    Clients(found, {}, any_owner=True).of("bucket")


def test_without_sts_an_instance_says_who_it_is(
    imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network without a route to STS does not keep an instance from draining."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    clients = Clients(Environment.find(region=None, profile=None), {}, any_owner=False)
    assert clients.account() == IDENTITY["accountId"]


STS = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn</Arn><UserId>u</UserId>"
    "<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def test_an_sts_that_means_harm_names_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it answers, it ends in an error that the drain knows, or in twelve digits."""
    some_credentials(monkeypatch)
    rng, known, said = random.Random(5), 0, [(200, b"")]
    account = ["\x1b[2J", "", "111122223333\n", "\u0661" * 12, "<b/>", "1" * 13]
    wrong = [b"", b"<a/>", b"{}", b"<a>" * 5000, b"\0", b"<html>"]
    wrong += [STS.replace("111122223333", each).encode() for each in account]
    wrong += [STS.replace(name, "Else").encode() for name in ("Account", "Arn", "Result>")]

    def send(request: AWSRequest, **_: object) -> AWSResponse:
        status, body = said[0]
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda: iter([body])))

    found = Environment.find(region=None, profile=None)
    client = found.session.client("sts", config=Config(retries={"total_max_attempts": 1}))
    client.meta.events.register("before-send.sts.GetCallerIdentity", send)
    monkeypatch.setattr(found.session, "client", lambda *_, **__: client)  # takes long to make
    for _ in range(500):
        body = bytearray(rng.choice([*wrong, STS.encode(), STS.encode()]))
        for _ in range(rng.randint(0, 3)):
            at = rng.randrange(len(body) + 1)
            body[at : at + rng.randint(0, 9)] = rng.choice([b"", b"<", rng.randbytes(2)])
        said[0] = (rng.choice([200, 200, 204, 301, 403]), bytes(body))
        try:
            assert re.fullmatch("[0-9]{12}", Clients(found, {}, any_owner=False).account())
            known += 1
        except OwnerUnknown:
            pass
    assert 0 < known < 250


HOSTILE_IDENTITIES = [
    json.dumps(IDENTITY | {"accountId": "1\r\nx-amz-acl: public-read"}),
    json.dumps(IDENTITY | {"region": "evil.example/"}),
    json.dumps(IDENTITY | {"instanceId": ["i-1"]}),
    json.dumps(IDENTITY | {"accountId": 1}),
    json.dumps([IDENTITY]),
    "[" * 10_000,
    "{" * 10_000,
    "1" * 5000,
    "x" * 100_000,
]


@pytest.fixture
def hostile_imds(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], HostileServer]:
    """A metadata service that answers what it likes, in a time of its own."""

    def start(said: Callable[[str], Answer]) -> HostileServer:
        server = HostileServer(said)

        def connection(dialled: Any, **options: Any) -> Connection:
            return Connection(dialled, clock=server.clock, **options)

        monkeypatch.setattr(environment, "Connection", connection)
        monkeypatch.setattr(socket, "create_connection", lambda *_: server.connection())
        return server

    return start


@pytest.mark.parametrize("identity", HOSTILE_IDENTITIES)
def test_an_identity_that_makes_no_sense_is_none(imds: Imds, identity: str) -> None:
    """What goes into headers and host names is what AWS would say, or there is no instance."""
    imds.values["/latest/dynamic/instance-identity/document"] = identity
    with pytest.raises(MetadataUnreachable):
        Metadata(imds.url).instance()


@pytest.mark.parametrize("make", [status_lines, headers, lengths, chunks, drips, mutations])
def test_a_metadata_service_that_means_harm_is_none(
    hostile_imds: Callable[[Any], HostileServer], make: Make
) -> None:
    """The same attacks as on S3's client: bounded, and never anything but unreachable."""
    rng = random.Random(make.__name__)
    for _ in range(100):
        server = hostile_imds(make(rng))
        with pytest.raises(MetadataUnreachable):
            Metadata("http://169.254.169.254").instance()
        assert server.sent < 4 << 20
        assert server.time < 100


@pytest.mark.parametrize("token", ["t\r\nx-forwarded-for: 1", "", "\u20ac", "x" * 9999])
def test_a_token_cannot_bring_a_header(imds: Imds, token: str) -> None:
    """It is sent back as it came, in a header, so it must be a value of one."""
    imds.token = token
    with pytest.raises(MetadataUnreachable):
        Metadata(imds.url).get(SPOT)


@pytest.mark.parametrize("notice", ["[" * 9999, '{"time": "9999-12-31T23:59:59+00:00"}', '{"time"'])
def test_a_notice_that_makes_no_sense_is_two_minutes(imds: Imds, notice: str) -> None:
    """AWS gives two, so nothing says more."""
    imds.values[SPOT] = notice
    assert seconds_left(Metadata(imds.url)) == 120


def test_a_spot_notice_says_how_long(imds: Imds) -> None:
    """Two minutes ahead there is a time; before that there is nothing."""
    metadata = Metadata(imds.url)
    assert seconds_left(metadata) is None
    moment = datetime.fromtimestamp(time.time() + 100, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    imds.values[SPOT] = json.dumps({"action": "terminate", "time": moment})
    left = seconds_left(metadata)
    assert left is not None
    assert 90 < left <= 100
    imds.values[SPOT] = "nonsense"
    assert seconds_left(metadata) == 120


def test_an_auto_scaling_group_says_when_it_terminates(imds: Imds) -> None:
    """The lifecycle state tells, and only when it is the last one."""
    imds.values[AUTO_SCALING] = "InService"
    assert seconds_left(Metadata(imds.url)) is None
    imds.values[AUTO_SCALING] = "Terminated"
    assert seconds_left(Metadata(imds.url)) == 120


def test_a_notice_is_told_once(imds: Imds) -> None:
    """The watch tells of a notice as soon as it is there, also after the service failed."""
    told: queue.Queue[float] = queue.Queue()
    imds.broken = True
    watch = InterruptionWatch(Metadata(imds.url), told.put, every=0.01)
    imds.values[AUTO_SCALING] = "Terminated"
    imds.broken = False
    assert told.get(timeout=30) == 120
    watch.close()
    assert told.empty()

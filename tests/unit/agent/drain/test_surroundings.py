"""Where an agent runs and as whom: instance metadata, region, credentials, account."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from codeferry_agent.drain.errors import CredentialsMissing, OwnerUnknown, SettingsInvalid
from codeferry_agent.drain.metadata import Metadata, MetadataUnreachable
from codeferry_agent.drain.notices import NoticeWatch, seconds_left
from codeferry_agent.drain.surroundings import Clients, Surroundings
from tests.unit.agent.drain.imds import IDENTITY, Imds

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
    found = Surroundings.find(region=None, profile="of-somebody")
    assert found.session.region_name == "eu-north-1"
    assert Surroundings.find(region="us-east-2", profile=None).session.region_name == "us-east-2"


def test_an_instance_without_credentials_goes_on(imds: Imds) -> None:
    """A role may come later, so an instance does not give up for lack of one."""
    found = Surroundings.find(region=None, profile=None)
    assert found.instance is not None
    assert found.instance.instance_id == IDENTITY["instanceId"]


def test_a_laptop_without_credentials_is_told_what_to_do() -> None:
    """Without credentials, and without an instance that could get some, it ends."""
    with pytest.raises(CredentialsMissing, match="aws configure"):
        Surroundings.find(region=None, profile=None)


def test_a_laptop_without_region_is_in_ireland(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's region counts; without one it is eu-west-1."""
    some_credentials(monkeypatch)
    assert Surroundings.find(region=None, profile=None).session.region_name == "eu-west-1"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text("[default]\nregion = ap-south-1\n")
    assert Surroundings.find(region=None, profile=None).session.region_name == "ap-south-1"


def test_a_profile_that_does_not_exist_is_a_usage_error() -> None:
    """A profile's name that was mistyped ends the command with 2."""
    with pytest.raises(SettingsInvalid, match="no-such-profile") as error:
        Surroundings.find(region=None, profile="no-such-profile")
    assert error.value.exit_code == 2


def test_the_account_is_asked_for_and_remembered(
    ministack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets have to be the caller's account's; STS says which one that is."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    clients = Clients(Surroundings.find(region=None, profile=None), {}, any_owner=False)
    assert clients.of("bucket") is clients.of("other")
    assert clients.account() == "0" * 12


def test_without_sts_no_bucket_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the account is not known nothing is uploaded, unless any owner will do."""
    some_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = Surroundings.find(region=None, profile=None)
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
    clients = Clients(Surroundings.find(region=None, profile=None), {}, any_owner=False)
    assert clients.account() == IDENTITY["accountId"]


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
    watch = NoticeWatch(Metadata(imds.url), told.put, every=0.01)
    imds.values[AUTO_SCALING] = "Terminated"
    imds.broken = False
    assert told.get(timeout=30) == 120
    watch.close()
    assert told.empty()

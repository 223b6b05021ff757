"""Credentials and addresses without botocore are what botocore would have said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from codeferry_transfer.errors import CredentialsUnusable, TransferError
from codeferry_transfer.s3.address import Address, addresses_are_usual
from codeferry_transfer.s3.botocore_credentials import BotocoreCredentials
from codeferry_transfer.s3.environment_credentials import (
    EnvironmentCredentials,
    from_environment,
)

ACCESS_POINT = "arn:aws:s3:us-west-2:111122223333:accesspoint/point"
BUCKETS = ["mine", "1-b-c", "dotted.name", "mine--ab1-az1--x-s3"]
PLACES = [
    ("us-east-1", None),
    ("ap-southeast-3", None),
    ("us-gov-west-1", None),
    ("cn-north-1", None),
    ("us-east-1", "http://127.0.0.1:9000"),
    ("eu-west-1", "https://minio.example:8443/"),
    ("eu-west-1", "https://minio.example/below"),
    ("eu-west-1", "https://s3.dualstack.us-west-2.amazonaws.com"),
]
SETTINGS = {
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional",
    "AWS_DEFAULTS_MODE": "standard",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9001",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9002",
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _credentials: None) -> Path:
    """Nothing of the user's and no proxy; AWS configuration is read from here."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def plain(region: str = "", endpoint_url: str | None = None) -> EnvironmentCredentials | None:
    return from_environment(os.environ, boto3.Session, region=region, endpoint_url=endpoint_url)


def told(
    source: EnvironmentCredentials | BotocoreCredentials, bucket: str, region: str | None = None
) -> Address | str:
    """The address, or that there is none."""
    try:
        return source.address(bucket, region)
    except TransferError as error:
        return type(error).__name__


def botocores(bucket: str, region: str, endpoint_url: str | None) -> Address | str:
    """What botocore says when it is really asked."""
    try:
        return BotocoreCredentials(boto3.Session(), endpoint_url)._asked(bucket, region)
    except Exception:  # noqa: BLE001 - only that there is none
        return "TransferError"


@pytest.mark.parametrize(("region", "endpoint_url"), PLACES)
def test_every_address_is_the_one_botocore_would_use(region: str, endpoint_url: str | None) -> None:
    """Whether it was asked or not: from variables alone, and from a session."""
    found, configured = (
        plain(region, endpoint_url),
        BotocoreCredentials(boto3.Session(), endpoint_url),
    )
    assert found is not None
    for bucket in BUCKETS:
        expected = botocores(bucket, region, endpoint_url)
        assert told(found, bucket, region) == expected, bucket
        assert told(configured, bucket, region) == expected, bucket


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_move_addresses_move_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that say something of endpoints are heeded, with and without botocore."""
    if "ENDPOINT_URL" in name:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9003")
    monkeypatch.setenv(name, SETTINGS[name])
    for region in ("us-east-1", "eu-west-1"):
        expected = botocores("mine", region, None)
        assert told(BotocoreCredentials(boto3.Session()), "mine", region) == expected
        found = plain(region)
        assert found is None or told(found, "mine", region) == expected


@pytest.mark.parametrize(
    ("profile", "host", "base"),
    [
        ("region = eu-west-1", "mine.s3.eu-west-1.amazonaws.com", ""),
        ("s3 =\n  addressing_style = path", "s3.eu-west-1.amazonaws.com", "/mine"),
        ("use_dualstack_endpoint = true", "mine.s3.dualstack.eu-west-1.amazonaws.com", ""),
        ("endpoint_url = http://127.0.0.1:9004", "127.0.0.1:9004", "/mine"),
    ],
)
def test_the_profile_is_heeded(home: Path, profile: str, host: str, base: str) -> None:
    """What stands in the configuration file is for botocore, and decides."""
    (home / "config").write_text(f"[default]\n{profile}\n")
    assert plain() is None
    address = BotocoreCredentials(boto3.Session()).address("mine", "eu-west-1")
    assert (address.host_header, address.base) == (host, base)


def test_an_access_point_is_signed_for_its_own_region() -> None:
    """Its ARN names another region than the session's."""
    found = plain("eu-west-1")
    assert found is not None
    address = found.address(ACCESS_POINT, None)
    assert address.host_header == "point-111122223333.s3-accesspoint.us-west-2.amazonaws.com"
    assert address.scope.region == "us-west-2"


@pytest.mark.parametrize("token", ["", "AWS_SESSION_TOKEN"])
def test_keys_of_the_environment_are_those_botocore_finds(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same keys and region, with and without a session token."""
    if token:
        monkeypatch.setenv(token, "of a session")
    found = plain()
    assert found is not None
    assert found.keys() == BotocoreCredentials(boto3.Session()).keys()
    assert found.region == boto3.Session().region_name == "eu-west-1"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_SECURITY_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_SOMETHING_NEW",
        "https_proxy",
        "HTTP_PROXY",
    ],
)
def test_what_botocore_may_understand_otherwise_is_left_to_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile, keys that expire, a proxy, a variable of the future: botocore is asked."""
    assert plain() is not None
    monkeypatch.setenv(name, "something")
    assert plain() is None


@pytest.mark.parametrize("name", ["config", "credentials", ".aws/models"])
def test_files_of_the_user_are_botocores(home: Path, name: str) -> None:
    """As soon as one says anything, it is read by botocore."""
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text("")
    assert (plain() is None) == name.startswith(".aws"), "an empty file says nothing"
    (home / name).write_text("[default]\n")
    assert plain() is None


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_keys_there_is_no_short_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pair is no pair, and what to do is said."""
    monkeypatch.delenv(name)
    assert plain() is None
    with pytest.raises(CredentialsUnusable, match="No usable"):
        BotocoreCredentials(boto3.Session()).keys()


def test_an_unknown_setting_of_a_profile_is_botocores() -> None:
    """Only what is known to say nothing of addresses is passed over."""
    assert addresses_are_usual({"AWS_PROFILE": "x"}, {"region": "eu-west-1", "role_arn": "y"})
    assert not addresses_are_usual({}, {"s3": {"addressing_style": "path"}})
    assert not addresses_are_usual({"AWS_USE_FIPS_ENDPOINT": "true"}, {})


def test_botocore_is_not_even_imported() -> None:
    """That is what the short cut is for."""
    script = (
        "import os, sys\n"
        "from codeferry_transfer.s3 import S3, from_environment\n"
        "import codeferry_transfer.transfers\n"
        "source = from_environment(os.environ, lambda: None)\n"
        "S3(source); source.address('mine', None)\n"
        "print([name for name in sys.modules if name.startswith('boto')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_name_that_is_no_buckets_is_refused() -> None:
    """botocore's rules about names hold here too."""
    with pytest.raises(TransferError):
        BotocoreCredentials(boto3.Session()).address("no bucket!", None)

"""The environment of this agent: instance or laptop, region, credentials, account."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codeferry_agent.drain.errors import CredentialsMissing, OwnerUnknown, SettingsInvalid
from codeferry_agent.drain.settings import DEFAULT_REGION
from codeferry_transfer.s3 import S3, EnvironmentCredentials, from_environment, region_of
from codeferry_transfer.s3.http import Connection, ConnectionBroken

if TYPE_CHECKING:
    from boto3.session import Session

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT = 1.0  # seconds; it answers in milliseconds or not at all
_ANSWER_TIMEOUT = 3.0  # seconds for one answer, however it comes
_MOST_BYTES = 16 << 10
# Where an instance is and whose it is: names of AWS's, which go into headers and host names.
_NAMES = {
    "instanceId": re.compile(r"i-[0-9a-f]{1,32}"),
    "region": re.compile(r"[a-z0-9-]{1,40}"),
    "accountId": re.compile(r"[0-9]{12}"),
}
_LIFETIME = "21600"  # seconds of a token, the most there is
_TOKEN, _TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
_VALUE = re.compile(r"[!-~]{1,1024}")  # of a header: the token is sent back in one
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_IDENTITY = "/latest/dynamic/instance-identity/document"


class MetadataUnreachable(Exception):
    """No answer, or none that makes sense."""


@dataclass(frozen=True)
class Instance:
    """What an instance knows of itself."""

    instance_id: str
    region: str
    account: str


@dataclass
class Metadata:
    """The service at ``endpoint``."""

    endpoint: str = _ENDPOINT
    _token: str = field(default="", init=False)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Metadata | None:
        """As botocore's variables say; None when they switch it off."""
        if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        return cls(environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _ENDPOINT)

    def instance(self) -> Instance:
        """Raises MetadataUnreachable: this is no instance, or its metadata is switched off."""
        text = self.get(_IDENTITY)
        try:
            document = json.loads(text or "")
            stated = [document[name] for name in _NAMES]
            fits = all(map(re.Pattern.fullmatch, _NAMES.values(), stated))
        except (ValueError, KeyError, TypeError, RecursionError):
            fits = False
        if not fits:
            raise MetadataUnreachable("the identity document makes no sense")
        return Instance(*stated)

    def get(self, path: str) -> str | None:
        """The value at ``path``; None when there is none. Raises MetadataUnreachable."""
        if not self._token:
            self._token = self._new_token()
        status, text = self._asked("GET", path, {_TOKEN: self._token})
        if status == _UNAUTHORIZED:  # the token has run out
            self._token = self._new_token()
            status, text = self._asked("GET", path, {_TOKEN: self._token})
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise MetadataUnreachable(f"{path} is answered with {status}")
        return text

    def _new_token(self) -> str:
        status, text = self._asked("PUT", "/latest/api/token", {_TTL: _LIFETIME})
        if status != _OK or not _VALUE.fullmatch(text):
            raise MetadataUnreachable(f"no token: {status}")
        return text

    def _asked(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        url = urlsplit(self.endpoint)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-length: 0\r\n{lines}\r\n"
        try:
            opened = socket.create_connection((url.hostname or "", url.port or 80), _TIMEOUT)
            connection = Connection(opened, timeout=_ANSWER_TIMEOUT)
            try:
                answer, body = connection.exchange(head.encode(), b""), bytearray()
                connection.body(answer, lambda piece: _add(body, piece))
                return answer.status, body.decode()
            finally:
                connection.close()
        except (OSError, ConnectionBroken, ValueError) as error:
            raise MetadataUnreachable(str(error)) from error


def _add(body: bytearray, piece: memoryview) -> None:
    if len(body) + len(piece) > _MOST_BYTES:
        raise ConnectionBroken("the answer is larger than any of the service's")
    body += piece


_log = logging.getLogger(__name__)

_ACCOUNT = re.compile("[0-9]{12}")
_PROFILE_VARIABLES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
# An upload has backoff of its own, so a request is soon given back to it.
ATTEMPTS = 4


@dataclass(frozen=True)
class Environment:
    """``instance`` and ``metadata`` are None where there is no instance metadata; ``plain`` is
    what the environment says of S3, None where it takes ``session`` to know."""

    make_session: Callable[[], Session]
    instance: Instance | None
    metadata: Metadata | None
    plain: EnvironmentCredentials | None = None

    @cached_property
    def session(self) -> Session:
        """Made on first use: without need of it the agent starts in half the time."""
        return self.make_session()

    @classmethod
    def find(cls, *, region: str | None, profile: str | None) -> Environment:
        """Look where this is. On an instance its own role and region count, not a profile.

        Raises CredentialsMissing where there are none and none can come, SettingsInvalid for
        a profile that does not exist.
        """
        metadata = Metadata.from_env()
        instance = _instance(metadata)
        if instance is not None:
            _ignore_profile(profile)
            return _found(region or instance.region, None, instance, metadata)
        found = _found(region, profile, None, None)
        if found.plain is None and found.session.get_credentials() is None:
            raise CredentialsMissing(
                "There are no AWS credentials, and this is no EC2 instance.",
                hint="Sign in (aws sso login, aws configure), or name a profile with --profile.",
            )
        return found


def _found(
    region: str | None,
    profile: str | None,
    instance: Instance | None,
    metadata: Metadata | None,
) -> Environment:
    def session() -> Session:
        return _session(region, profile)

    chosen = region or region_of(os.environ) or DEFAULT_REGION
    plain = None if profile else from_environment(os.environ, session, region=chosen)
    return Environment(session, instance, metadata, plain)


def _instance(metadata: Metadata | None) -> Instance | None:
    try:
        return None if metadata is None else metadata.instance()
    except MetadataUnreachable:
        return None


def _ignore_profile(profile: str | None) -> None:
    for name in _PROFILE_VARIABLES:
        os.environ.pop(name, None)
    if profile:
        _log.info("This is an EC2 instance: its role is used, not the profile %s.", profile)


def _session(region: str | None, profile: str | None) -> Session:
    """Raises SettingsInvalid."""
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(profile_name=profile, region_name=region or region_of(os.environ))
    except ProfileNotFound as error:
        raise SettingsInvalid(f"{error}.", hint="See aws configure list-profiles.") from None
    if session.region_name:
        return session
    return boto3.Session(profile_name=profile, region_name=DEFAULT_REGION)


@dataclass
class Clients:
    """S3 clients that name the account a bucket has to belong to.

    ``owners`` is bucket to account; the others have to be this account's, unless
    ``any_owner``.
    """

    environment: Environment
    owners: Mapping[str, str]
    any_owner: bool
    _account: str = ""
    _clients: dict[str, S3] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, bucket: str) -> S3:
        """The client for a bucket. Raises OwnerUnknown as long as the account is not known."""
        owner = self._owner(bucket)
        client = self._clients.get(owner)
        if client is None:
            with self._lock:
                client = self._clients.get(owner) or self._made(owner)
                self._clients[owner] = client
        return client

    def account(self) -> str:
        """This account's number. Raises OwnerUnknown."""
        with self._lock:
            if not self._account:
                self._account = _account(self.environment)
            return self._account

    def introduce(self) -> None:
        """Say as whom this drains; when that cannot be found out yet, say that and go on."""
        if not self.any_owner:
            try:
                self.account()
            except OwnerUnknown as error:
                _log.warning("%s", error)

    def halt(self) -> None:
        """Give up every request in progress. Takes no lock: a signal may call it anywhere."""
        for client in list(self._clients.values()):
            client.halt()

    def _owner(self, bucket: str) -> str:
        return self.owners.get(bucket) or (
            "" if self.any_owner else self._account or self.account()
        )

    def _made(self, owner: str) -> S3:
        source = self.environment.plain or self.environment.session
        return S3(source, expected_owner=owner or None, attempts=ATTEMPTS)


def _account(environment: Environment) -> str:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    # botocore reads an answer that is not AWS's as far as it happens to get.
    senseless = (ResponseParserError, LookupError, AttributeError, TypeError, ValueError)
    retries = {"total_max_attempts": 3, "mode": "standard"}
    config = Config(connect_timeout=3, read_timeout=5, retries=retries)  # type: ignore[arg-type]
    try:
        identity = environment.session.client("sts", config=config).get_caller_identity()
        account: str = identity["Account"]
        arn = identity["Arn"]
        if not _ACCOUNT.fullmatch(account):  # it goes into a header of every request
            raise ValueError("the answer names no account")
    except (ClientError, BotoCoreError, *senseless) as error:
        if environment.instance is not None:
            _log.warning("sts:GetCallerIdentity failed (%s); the instance says who it is.", error)
            return environment.instance.account
        raise OwnerUnknown(
            f"The account of these credentials is not known: {error}",
            hint="Check credentials and network; or allow buckets of anybody by --any-owner.",
        ) from None
    _log.info("Draining as %s.", arn)
    return account

"""The instance metadata service, version 2 only: a token first, short timeouts.

Source: "Access instance metadata", EC2 user guide.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from codeferry_transfer.s3.http import Connection, ConnectionBroken

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT = 1.0  # seconds; it answers in milliseconds or not at all
_PATIENCE = 3.0  # seconds for one answer, however it comes
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
            dialled = socket.create_connection((url.hostname or "", url.port or 80), _TIMEOUT)
            connection = Connection(dialled, timeout=_PATIENCE)
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

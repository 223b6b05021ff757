"""The instance metadata service, version 2 only: a token first, short timeouts.

Source: "Access instance metadata", EC2 user guide.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT = 1.0  # seconds; it answers in milliseconds or not at all
_LIFETIME = "21600"  # seconds of a token, the most there is
_TOKEN, _TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
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
            return Instance(document["instanceId"], document["region"], document["accountId"])
        except (ValueError, KeyError, TypeError):
            raise MetadataUnreachable("the identity document makes no sense") from None

    def get(self, path: str) -> str | None:
        """The value at ``path``; None when there is none. Raises MetadataUnreachable."""
        if not self._token:
            self._token = self._new_token()
        status, text = self._asked("GET", path, {_TOKEN: self._token})
        if status == http.client.UNAUTHORIZED:  # the token has run out
            self._token = self._new_token()
            status, text = self._asked("GET", path, {_TOKEN: self._token})
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise MetadataUnreachable(f"{path} is answered with {status}")
        return text

    def _new_token(self) -> str:
        status, text = self._asked("PUT", "/latest/api/token", {_TTL: _LIFETIME})
        if status != http.client.OK:
            raise MetadataUnreachable(f"no token: {status}")
        return text

    def _asked(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=_TIMEOUT)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise MetadataUnreachable(str(error)) from error
        finally:
            connection.close()

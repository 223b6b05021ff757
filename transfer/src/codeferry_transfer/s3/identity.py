"""Who asks, and by which clock: credentials from botocore, time corrected by S3's answers."""

from __future__ import annotations

import ssl
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import NoCredentialsError

from codeferry_transfer.errors import translated
from codeferry_transfer.s3.signing import Keys

if TYPE_CHECKING:
    from boto3.session import Session

_EXPIRED = {"ExpiredToken", "InvalidToken", "RequestExpired", "TokenRefreshRequired"}
_SKEWED = "RequestTimeTooSkewed"
_TOLERATED_SKEW = 60  # seconds; S3 tolerates 15 minutes


class Identity:
    """The session's credentials, refreshed by botocore while they are used."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._credentials: Any = None
        self._last: Keys | None = None
        self._finding = threading.Lock()
        self._offset = 0.0
        self.tls = _tls(session)

    def keys(self) -> Keys:
        """The credentials as they are now. Raises CredentialsUnusable."""
        if self._credentials is None:
            self._find()
        with translated("", ""):
            frozen = self._credentials.get_frozen_credentials()
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token or "")
        self._last = keys
        return keys

    def now(self) -> float:
        """Seconds since 1970, as S3 counts them."""
        return time.time() + self._offset

    def corrected(self, code: str, date: str) -> bool:
        """Whether the clock or the credentials are others now, after an error about them."""
        if code == _SKEWED and date:
            offset = parsedate_to_datetime(date).timestamp() - time.time()
            changed = abs(offset - self._offset) > _TOLERATED_SKEW
            self._offset = offset
            return changed
        return code in _EXPIRED and self._last != self.keys()

    def _find(self) -> None:
        with self._finding, translated("", ""):
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise NoCredentialsError


def _tls(session: Session) -> ssl.SSLContext:
    """The system's authorities, or those of AWS_CA_BUNDLE or ``ca_bundle`` in the profile."""
    core = session._session  # noqa: SLF001 - boto3 shows no other way to the setting
    bundle = core.get_config_variable("ca_bundle")
    return ssl.create_default_context(cafile=bundle or None)

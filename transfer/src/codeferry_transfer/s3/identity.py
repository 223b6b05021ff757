"""Who asks, and by which clock: time is corrected by S3's answers."""

from __future__ import annotations

import time

from codeferry_transfer.s3.address import Source
from codeferry_transfer.s3.answers import moment_of
from codeferry_transfer.s3.signing import Keys

_EXPIRED = {"ExpiredToken", "InvalidToken", "RequestExpired", "TokenRefreshRequired"}
_SKEWED = "RequestTimeTooSkewed"
_TOLERATED_SKEW = 60  # seconds; S3 tolerates 15 minutes


class Identity:
    """The source's credentials, and the time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: Keys | None = None
        self._offset = 0.0

    def keys(self) -> Keys:
        """The credentials as they are now. Raises CredentialsUnusable."""
        self._last = self._source.keys()
        return self._last

    def now(self) -> float:
        """Seconds since 1970, as S3 counts them."""
        return time.time() + self._offset

    def corrected(self, code: str, date: str) -> bool:
        """Whether the clock or the credentials are others now, after an error about them."""
        if code == _SKEWED and moment_of(date):
            offset = moment_of(date) - time.time()
            changed = abs(offset - self._offset) > _TOLERATED_SKEW
            self._offset = offset
            return changed
        return code in _EXPIRED and self._last != self.keys()

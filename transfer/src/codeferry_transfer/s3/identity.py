"""Who asks, and by which clock: time is corrected by S3's answers."""

from __future__ import annotations

import threading
import time

from codeferry_transfer.s3.address import Source
from codeferry_transfer.s3.answers import moment_of
from codeferry_transfer.s3.signing import Keys

# An answer to HEAD has no body, so its status is all that is said: 400 of what is expired, and
# 403 of a wrong clock as of everything that is not allowed.
_EXPIRED = {"ExpiredToken", "InvalidToken", "RequestExpired", "TokenRefreshRequired", "400"}
_SKEWED, _UNEXPLAINED = "RequestTimeTooSkewed", "403"
_TOLERATED_SKEW = 60  # seconds; S3 tolerates 15 minutes


class Identity:
    """The source's credentials, and the time; safe to use from many threads.

    ``offset`` is what S3's clock is ahead of this machine's, in seconds, as far as it is known.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: Keys | None = None
        self._guessed = False
        self._correcting = threading.Lock()
        self.offset = 0.0

    def keys(self) -> Keys:
        """The credentials as they are now. Raises CredentialsUnusable."""
        self._last = self._source.keys()
        return self._last

    def now(self) -> float:
        """Seconds since 1970, as S3 counts them."""
        return time.time() + self.offset

    def corrected(self, code: str, date: str, offset: float) -> bool:
        """Whether clock or credentials are others now than those of the request, made at
        ``offset``, that was answered with the error ``code`` at ``date``."""
        if code in (_SKEWED, _UNEXPLAINED):
            with self._correcting:
                return self.offset != offset or self._clock_corrected(code, moment_of(date))
        return code in _EXPIRED and self._last != self.keys()

    def _clock_corrected(self, code: str, moment: float) -> bool:
        found = moment - time.time()
        if not moment or abs(found - self.offset) <= _TOLERATED_SKEW:
            return False
        if code == _UNEXPLAINED:
            if self._guessed:
                return False
            self._guessed = True  # a second time it is not the clock
        self.offset = found
        return True

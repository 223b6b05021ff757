"""The last error of each bucket, for people who ask."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass
class BucketError:
    """``at`` in seconds since 1970; ``over`` once a file went up after it."""

    code: str
    message: str
    at: float
    over: bool = False


@dataclass
class Health:
    """Safe to use from many threads."""

    _errors: dict[str, BucketError] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, bucket: str, code: str, message: str) -> None:
        with self._lock:
            self._errors[bucket] = BucketError(code, message, time.time())

    def recovered(self, bucket: str) -> None:
        with self._lock:
            if bucket in self._errors:
                self._errors[bucket].over = True

    def last_errors(self) -> dict[str, BucketError]:
        with self._lock:
            return dict(self._errors)

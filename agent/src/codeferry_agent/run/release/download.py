"""Download an archive from S3, by ranges that go on where they broke off."""

from __future__ import annotations

import http.client
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from codeferry_agent.run.errors import Interrupted, RunFailed, log
from codeferry_agent.run.files import CHUNK

CONNECTIONS, PARALLEL_FROM = 4, 32 << 20
NETWORK_TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS, BACKOFF, BACKOFF_MAX = 8, 0.1, 10.0  # in a row without progress; seconds
PROGRESS = 64 << 10  # bytes of it between two that broke off: else a byte each would be one


class Response(http.client.HTTPResponse):
    """A response with an end: the library reads "100 Continue" and trailers without one."""

    interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self.interim += 1
        if self.interim > ATTEMPTS:
            raise http.client.BadStatusLine("100")
        return super()._read_status()  # type: ignore[misc, no-any-return]

    def _read_and_discard_trailer(self) -> None:
        for _ in range(ATTEMPTS):
            if self.fp.readline(1 << 16) in (b"\r\n", b"\n", b""):
                return
        raise http.client.LineTooLong("trailer")


http.client.HTTPConnection.response_class = Response


class Download:
    """The download of an archive to ``path``."""

    def __init__(self, url: str, size: int, path: Path) -> None:
        self.url, self.size, self.path = url, size, path
        self.stop = threading.Event()
        self.ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run(self) -> None:
        self.path.touch()
        count = CONNECTIONS if self.size > PARALLEL_FROM else 1
        edges = [self.size * i // count for i in range(count + 1)]
        try:
            for i in range(count):
                threading.Thread(target=self.thread, args=edges[i : i + 2], daemon=True).start()
            for _ in range(count):
                failure = self.ended.get()
                if failure:
                    raise failure
        finally:
            self.stop.set()

    def thread(self, start: int, end: int) -> None:
        try:
            self.fetch(start, end)
            self.ended.put(None)
        except Exception as error:  # noqa: BLE001 - run() raises it in the main thread
            self.ended.put(error)

    def fetch(self, start: int, end: int) -> None:
        idle, reached = 0, start
        with self.path.open("r+b") as file:
            file.seek(start)
            while start < end and not self.stop.is_set():
                try:
                    for chunk in self.chunks(start, end):
                        file.write(chunk)
                        start += len(chunk)
                except RunFailed as failure:
                    if failure.code != "url_expired" or not idle:
                        raise
                    message = f"The download broke off at byte {start:,}, and its URL has expired"
                    raise RunFailed("url_expired", f"{message} since ({failure}).") from None
                except Interrupted as reason:
                    idle = 1 if start - reached >= PROGRESS else idle + 1
                    reached = start
                    message = f"Download interrupted at byte {start:,}: {reason}."
                    log(message)
                    if idle >= ATTEMPTS:
                        raise RunFailed("download_failed", message) from None
                    self.stop.wait(min(BACKOFF * 2**idle, BACKOFF_MAX))

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - checked
        try:
            with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT) as response:  # noqa: S310
                found = response.headers["Content-Range"]
                if not found and response.status == 206:
                    raise Interrupted("the answer was cut")
                if found != f"bytes {start}-{end - 1}/{self.size}":
                    raise RunFailed("archive_changed", f"The archive has not {self.size:,} bytes.")
                while start < end and not self.stop.is_set():
                    chunk = response.read1(min(CHUNK, end - start))[: end - start]
                    if not chunk:
                        raise Interrupted("the connection closed early")
                    start += len(chunk)
                    yield chunk
        except urllib.error.HTTPError as error:
            error.close()
            raise http_failure(error.code) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            # The system's own words: any others might quote the URL.
            reason = getattr(error, "reason", error)
            raise Interrupted(getattr(reason, "strerror", "") or type(reason).__name__) from None


def http_failure(status: int) -> Exception:
    if status in (408, 429) or status >= 500:
        return Interrupted(f"HTTP {status}")
    codes = {404: "archive_missing", 412: "archive_changed", 416: "archive_changed"}
    # S3 says 400 ExpiredToken when the credentials of the signer have expired.
    codes.update(dict.fromkeys((400, 401, 403), "url_expired"))
    code = codes.get(status, "download_failed")
    return RunFailed(code, f"S3 refused the download (HTTP {status}, {code.replace('_', ' ')}).")


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def check_space(directory: Path, size: int, unpacked: int, files: int) -> None:
    """Refuse when the archive and what comes out of it cannot fit."""
    disk = os.statvfs(directory)
    free, need = disk.f_bavail * disk.f_frsize, size + unpacked
    inodes = disk.f_favail if disk.f_files else files + 16  # btrfs does not count them
    if free < need or inodes < files + 16:
        raise RunFailed(
            "disk_full",
            f"It needs {_mb(need)} and {files + 16:,} inodes; {_mb(free)} and {inodes:,} inodes are"
            f" free on {directory}.",
        )

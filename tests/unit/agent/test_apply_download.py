"""The way from S3 to staging: resumed, checked, and silent about the URL."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codeferry_agent.run import download
from codeferry_agent.run.failures import Refused
from tests.unit.agent.archives import SMALL, hostile, member, pack
from tests.unit.agent.conftest import Instance, Store

NOISE = hostile(member("noise", os.urandom(3_000_000)))


def test_a_dropped_connection_is_resumed(any_python: Instance) -> None:
    """Each new request begins at the byte reached; nothing is sent twice."""
    any_python.store.drop_after = [1_000_000, 0, 1_500_000]
    answer = any_python.apply(NOISE)
    assert answer.exit == 0, answer.out
    starts = [start for start, _ in any_python.store.ranges]
    assert starts == [0, 1_000_000, 1_000_000, 2_500_000]
    assert any_python.store.sent == len(NOISE)


def test_an_answer_cut_in_its_headers_is_asked_for_again(any_python: Instance) -> None:
    """A lost connection is no other archive, wherever in the answer it was lost."""
    any_python.store.headless = 2
    assert any_python.apply(pack(SMALL)).exit == 0
    assert len(any_python.store.ranges) == 1


def test_a_busy_server_is_tried_again(instance: Instance) -> None:
    """503 is S3's way of saying later."""
    instance.store.failing = 2
    assert instance.apply(pack(SMALL)).exit == 0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Refused]:
    """Download from a URL with no wait between attempts; the failure it ends in."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)

    def failing(url: str) -> Refused:
        with pytest.raises(Refused) as raised:
            download.Download(url, 1000, tmp_path / "archive").run()
        return raised.value

    return failing


def test_a_server_that_stays_busy_ends_the_run(
    store: Store, at_once: Callable[[str], Refused]
) -> None:
    """After a bounded number of attempts the run fails and says at which byte."""
    store.status = 503
    failure = at_once(store.url)
    assert failure.code == "download_failed"
    assert "byte 0: HTTP 503" in str(failure)
    assert len(store.ranges) == 8


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_nobody_listening_is_a_failure_with_the_systems_words(
    host: str, at_once: Callable[[str], Refused], capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused connection or unknown host names itself; the URL is nowhere in it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        failure = at_once(f"http://{host}:{closed.getsockname()[1]}/x?X-Amz-Signature=hidden")
    assert failure.code == "download_failed"
    assert re.search("Connection refused|[Nn]ame", str(failure))
    assert "hidden" not in str(failure) + "".join(capsys.readouterr())


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 206 OK\r\nbad\r\n\r\n"])
def test_what_is_no_http_is_tried_again_and_then_a_failure(
    answer: bytes, at_once: Callable[[str], Refused]
) -> None:
    """Whatever a captive portal says, it ends in an error of ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_speak, args=(server, answer), daemon=True)
        thread.start()
        failure = at_once(f"http://127.0.0.1:{server.getsockname()[1]}/x")
    assert failure.code in ("download_failed", "archive_changed")


def _speak(server: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "url_expired"),
        (400, "url_expired"),
        (404, "archive_missing"),
        (412, "archive_changed"),
        (416, "archive_changed"),
        (418, "download_failed"),
        (200, "archive_changed"),
    ],
)
def test_an_answer_that_is_final_is_named(instance: Instance, status: int, code: str) -> None:
    """It is not tried again, and the old release stays."""
    instance.settle()
    instance.store.status = status
    instance.store.ranges.clear()
    answer = instance.apply(pack(SMALL))
    assert answer.code == code
    assert len(instance.store.ranges) == 1
    assert (instance.current / "old").exists()


def test_an_archive_of_another_size_is_another_archive(instance: Instance) -> None:
    """A longer or shorter object than announced is not read at all."""
    body = pack(SMALL)
    for size in (len(body) - 1, len(body) + 1):
        assert instance.apply(body, size=size).code == "archive_changed"


def test_wrong_bytes_are_never_unpacked(instance: Instance) -> None:
    """The whole archive's SHA-256 is checked before the first header is read."""
    body = pack(SMALL)
    answer = instance.apply(body, sha256="0" * 64)
    assert answer.code == "checksum_mismatch"
    assert "extract" not in answer.result.seconds


def test_a_large_archive_comes_over_four_connections(instance: Instance) -> None:
    """Beyond 32 MiB the parts arrive side by side, and a broken one alone is resumed."""
    body = hostile(member("large", os.urandom(33 << 20)))
    instance.store.drop_after = [1 << 20]
    assert instance.apply(body).exit == 0
    starts = {start for start, _ in instance.store.ranges}
    assert {len(body) * i // 4 for i in range(4)} < starts
    assert instance.store.sent == len(body)
    assert (instance.current / "large").stat().st_size == 33 << 20


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "http://u@h/x", "http:///x"])
def test_only_http_urls_are_fetched(instance: Instance, url: str) -> None:
    """Another scheme or credentials in the URL are refused before anything happens."""
    answer = instance.apply(pack(SMALL), url=url)
    assert answer.code == "payload_invalid"
    assert url not in answer.out + answer.err

"""The way from S3 to staging: resumed, checked, and silent about the URL."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codeferry_agent.run.command import variables
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.release import download
from tests.unit.agent.archives import SMALL, hostile, member, pack
from tests.unit.agent.conftest import Instance, Store
from tests.unit.transfer.s3.hostile import (
    Answer,
    Make,
    chunks,
    errors,
    head,
    headers,
    lengths,
    ranges,
    status_lines,
)

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
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], RunFailed]:
    """Download from a URL with no wait between attempts; the failure it ends in."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)

    def failing(url: str) -> RunFailed:
        with pytest.raises(RunFailed) as raised:
            download.Download(url, 1000, tmp_path / "archive").run()
        return raised.value

    return failing


def test_a_server_that_stays_busy_ends_the_run(
    store: Store, at_once: Callable[[str], RunFailed]
) -> None:
    """After a bounded number of attempts the run fails and says at which byte."""
    store.status = 503
    failure = at_once(store.url)
    assert failure.code == "download_failed"
    assert "byte 0: HTTP 503" in str(failure)
    assert len(store.ranges) == 8


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_nobody_listening_is_a_failure_with_the_systems_words(
    host: str, at_once: Callable[[str], RunFailed], capsys: pytest.CaptureFixture[str]
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
    answer: bytes, at_once: Callable[[str], RunFailed]
) -> None:
    """Whatever a captive portal says, it ends in an error of ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_speak, args=(server, answer), daemon=True)
        thread.start()
        failure = at_once(f"http://127.0.0.1:{server.getsockname()[1]}/x")
    assert failure.code in ("download_failed", "archive_changed")


def _speak(server: socket.socket, answer: bytes) -> None:
    _answer_all(server, lambda _: [answer])


def _answer_all(server: socket.socket, said: Callable[[str], Answer]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                asked = connection.recv(4096).decode("latin-1")
                for piece in said(asked):
                    assert isinstance(piece, bytes)
                    connection.sendall(piece.replace(b"bytes 0-9/10", b"bytes 0-999/1000"))


@contextlib.contextmanager
def hostile_server(said: Callable[[str], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Its URL, and what is asked of it."""
    asked: list[str] = []

    def note(request: str) -> Answer:
        asked.append(request)
        return said("GET ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_all, args=(server, note))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x", asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("make", [status_lines, headers, lengths, chunks, ranges, errors])
def test_a_server_that_means_harm_ends_the_download(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a bounded number of requests it has the bytes that were wanted, which the checksum
    then judges, or an error that says so; and never more of them."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    rng, path = random.Random(make.__name__), tmp_path / "archive"
    for number in range(40):
        path.unlink(missing_ok=True)
        with hostile_server(make(rng)) as (url, asked):
            code = ""
            try:
                download.Download(url, 1000, path).run()
            except RunFailed as refused:
                code = refused.code
        expected = range(1000) if code else [1000]
        assert path.stat().st_size in expected, (number, code)
        assert code in ("", "archive_changed", "archive_missing", "download_failed", "url_expired")
        assert len(asked) <= 20


@pytest.mark.parametrize("make", [status_lines, headers, lengths, chunks, errors])
def test_a_server_that_means_harm_gives_no_variables(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the small object beside the archive."""
    monkeypatch.setattr(variables, "BACKOFF", 0.0)
    rng = random.Random(make.__name__)
    for _ in range(20):
        with hostile_server(make(rng)) as (url, asked):
            try:
                assert len(variables.fetch(url)) <= variables.ENVIRONMENT_LIMIT + 1
            except RunFailed as refused:
                code = refused.code
                assert code == "environment_unavailable"
        assert len(asked) <= 20


def test_a_byte_at_a_time_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that breaks off behind each byte is not asked as often as there are bytes."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    asked: list[int] = []

    def said(request: str) -> Answer:
        asked.append(1)
        return [head("206 x", content_range=f"bytes {len(asked) - 1}-999/1000") + b"x"]

    with hostile_server(said) as (url, _), pytest.raises(RunFailed, match="at byte 8"):
        download.Download(url, 1000, tmp_path / "archive").run()
    assert len(asked) == download.ATTEMPTS


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


def test_a_download_that_cannot_go_on_because_its_url_has_expired_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL was good when the download began: nobody need look for a missing permission."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    answers = [[head("206 x", content_range="bytes 0-999/1000") + b"x" * 300], [head("403 x")]]
    with (
        hostile_server(lambda _: answers.pop(0)) as (url, _),
        pytest.raises(
            RunFailed, match=r"broke off at byte 300, and its URL has expired since.*403"
        ),
    ):
        download.Download(url, 1000, tmp_path / "archive").run()


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

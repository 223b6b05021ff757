"""Redirects, and who signs, as S3's answers and the configuration say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from codeferry_transfer.errors import AccessDenied, CredentialsUnusable
from codeferry_transfer.s3 import S3

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def answering() -> Iterator[Callable[..., tuple[str, list[dict[str, str]]]]]:
    """``answering(…)``: an endpoint that gives these answers in turn, and the heads it got.

    A stand-in, because the embedded S3 is in every region and takes every key.
    """
    with ExitStack() as stack:

        def start(*answers: Answer, second_late: bool = False) -> tuple[str, list[dict[str, str]]]:
            left, got = list(answers), list[dict[str, str]]()
            counting = threading.Lock()
            second, third = threading.Event(), threading.Event()

            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_HEAD(self) -> None:
                    self.do_PUT()

                def do_PUT(self) -> None:
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    with counting:
                        got.append({name.lower(): value for name, value in self.headers.items()})
                        number = len(got)
                        status, headers, body = left.pop(0) if left else (200, {}, b"")
                    if number in (2, 3):
                        (second, third)[number - 2].set()
                    # Both are on their way before one is answered; the other's comes later yet.
                    if second_late and number in (1, 2):
                        (second, third)[number - 1].wait(30)
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads, server.block_on_close = True, False
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}", got

        yield start


def error(code: str, more: str = "") -> bytes:
    return f"<Error><Code>{code}</Code>{more}</Error>".encode()


@pytest.mark.parametrize(
    "answer",
    [
        (301, {"x-amz-bucket-region": "us-west-2"}, error("PermanentRedirect")),
        (400, {}, error("AuthorizationHeaderMalformed", "<Region>us-west-2</Region>")),
    ],
)
def test_a_bucket_of_another_region_is_signed_for_there(answering: Any, answer: Answer) -> None:
    """S3 names the region; the request is made again for it, and the next ones at once."""
    url, got = answering(answer)
    s3 = S3(boto3.Session(), endpoint_url=url)
    s3.put_object("bucket", "k", b"1")
    s3.put_object("bucket", "k", b"2")
    regions = [head["authorization"].split("/")[2] for head in got]
    assert regions == ["eu-west-1", "us-west-2", "us-west-2"]


def test_a_region_that_another_thread_learnt_first_is_no_error(answering: Any) -> None:
    """Two requests were redirected; the second hears of it when the first is sent again."""
    answer = (301, {"x-amz-bucket-region": "us-west-2"}, error("PermanentRedirect"))
    url, got = answering(answer, answer, second_late=True)
    s3 = S3(boto3.Session(), endpoint_url=url)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda n: s3.put_object("bucket", f"k{n}", b"1"), range(2)))
    regions = [head["authorization"].split("/")[2] for head in got]
    assert regions == ["eu-west-1"] * 2 + ["us-west-2"] * 2


def test_a_wrong_clock_is_corrected_by_the_servers(answering: Any) -> None:
    """A day off is no reason to fail: the next attempt uses S3's own time."""
    date = {"Date": "Thu, 01 Jan 2032 00:00:00 GMT"}
    url, got = answering((403, date, error("RequestTimeTooSkewed")))
    S3(boto3.Session(), endpoint_url=url).put_object("bucket", "k", b"1")
    assert got[1]["x-amz-date"].startswith("20320101T00")


def test_a_wrong_clock_is_seen_where_the_answer_has_no_body(answering: Any) -> None:
    """HEAD is answered with a bare 403: its Date tells, and what follows is right at once."""
    date = {"Date": "Thu, 01 Jan 2032 00:00:00 GMT"}
    url, got = answering((403, date, b""))
    s3 = S3(boto3.Session(), endpoint_url=url)
    s3.head_object("bucket", "k")
    s3.head_object("bucket", "k")
    assert [head["x-amz-date"].startswith("20320101T00") for head in got] == [False, True, True]
    assert s3.now() > 1_956_000_000


@pytest.mark.parametrize("skewed", [True, False])
def test_a_403_without_a_body_is_tried_again_once_at_the_most(answering: Any, skewed: bool) -> None:
    """It usually is what it says; and no server whose Date jumps about keeps a client busy."""
    years = (2032, 2042, 2052) if skewed else ()
    dates = [{"Date": f"Thu, 01 Jan {year} 00:00:00 GMT"} for year in years] or [{}, {}, {}]
    url, got = answering(*[(403, date, b"") for date in dates])
    s3 = S3(boto3.Session(), endpoint_url=url)
    with pytest.raises(AccessDenied):
        s3.head_object("bucket", "k")
    assert len(got) == (2 if skewed else 1)
    with pytest.raises(AccessDenied):
        s3.head_object("bucket", "k")
    assert len(got) == (3 if skewed else 2)


@pytest.mark.parametrize("operation", ["put", "head"])
def test_a_clock_that_another_thread_corrected_first_is_no_error(
    answering: Any, operation: str
) -> None:
    """Two requests were too early; the second hears of it when the first is sent again."""
    date = {"Date": "Thu, 01 Jan 2032 00:00:00 GMT"}
    body = error("RequestTimeTooSkewed") if operation == "put" else b""
    url, got = answering((403, date, body), (403, date, body), second_late=True)
    s3 = S3(boto3.Session(), endpoint_url=url)

    def ask(number: int) -> object:
        key = f"k{number}"
        return (
            s3.put_object("bucket", key, b"1") if operation == "put" else s3.head_object("b", key)
        )

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ask, range(2)))
    right = [head["x-amz-date"].startswith("20320101T00") for head in got]
    assert right == [False, False, True, True]


def test_expired_credentials_are_seen_where_the_answer_has_no_body(
    answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD is answered with a bare 400; if the source has others by now, those are used."""
    session = boto3.Session()
    credentials = session.get_credentials()
    assert credentials is not None
    url, got = answering((400, {}, b""))
    frozen = credentials.get_frozen_credentials
    names = iter(["old", "new", "new"])
    monkeypatch.setattr(
        credentials, "get_frozen_credentials", lambda: frozen()._replace(access_key=next(names))
    )
    S3(session, endpoint_url=url).head_object("bucket", "k")
    assert [head["authorization"].partition("Credential=")[2][:3] for head in got] == ["old", "new"]


def test_credentials_that_expired_are_fetched_anew(
    answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When S3 says so and the source has others by now, those are used; else it is an error."""
    session = boto3.Session()
    credentials = session.get_credentials()
    assert credentials is not None
    url, got = answering((400, {}, error("ExpiredToken")), (400, {}, error("ExpiredToken")))
    s3 = S3(session, endpoint_url=url)
    frozen = credentials.get_frozen_credentials
    names = iter(["old", "new", "new", "new"])
    monkeypatch.setattr(
        credentials, "get_frozen_credentials", lambda: frozen()._replace(access_key=next(names))
    )
    with pytest.raises(CredentialsUnusable):
        s3.put_object("bucket", "k", b"1")
    assert [head["authorization"].partition("Credential=")[2][:3] for head in got] == ["old", "new"]


def test_no_credentials_is_said_before_anything_is_sent(
    answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to sign with is an error with a remedy."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    url, got = answering()
    with pytest.raises(CredentialsUnusable) as caught:
        S3(boto3.Session(), endpoint_url=url).put_object("bucket", "k", b"1")
    assert "aws sso login" in caught.value.hint
    assert got == []

"""The fault proxy does what its rules say, and nothing else."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.proxy.rules import Delay, Drop, Hold, Reset, Rule, Status, Truncate
from tests.proxy.server import FaultProxy

BODY = b"0123456789" * 100_000


class _Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Upstream

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.got.append((self.command, self.path, self.headers["Host"], body))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(BODY)

    do_GET = do_PUT = do_HEAD = do_POST = _serve  # noqa: N815


@pytest.fixture
def upstream() -> Iterator[_Upstream]:
    with _Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: _Upstream) -> Iterator[FaultProxy]:
    with FaultProxy(f"http://127.0.0.1:{upstream.server_address[1]}") as proxy:
        yield proxy


def asked(proxy: FaultProxy, method: str = "GET", path: str = "/b/k", **headers: str) -> Any:
    body = b"sent" if method in ("PUT", "POST") else None
    request = urllib.request.Request(proxy.url + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.headers, answer.read()


def test_without_rules_everything_passes(proxy: FaultProxy, upstream: _Upstream) -> None:
    """Method, path with its query, body and the Host the client signed arrive as they were."""
    status, headers, body = asked(proxy, "PUT", "/b/k%20k?uploadId=1", Host="s3.example")
    assert (status, headers["ETag"], body) == (200, '"e"', BODY)
    assert upstream.got == [("PUT", "/b/k%20k?uploadId=1", "s3.example", b"sent")]
    assert asked(proxy, "HEAD")[1]["Content-Length"] == str(len(BODY))


def test_a_chunked_body_arrives_whole(proxy: FaultProxy, upstream: _Upstream) -> None:
    """A client that does not say the length beforehand is served, too."""
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"))
    connection.request("PUT", "/b/k", iter([b"one", b"two"]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert upstream.got[0][3] == b"onetwo"


@pytest.mark.parametrize(
    ("action", "forwarded"), [(Reset(), 0), (Drop(), 1), (Truncate(1000), 1)], ids=repr
)
def test_the_connection_ends(
    proxy: FaultProxy, upstream: _Upstream, action: Any, forwarded: int
) -> None:
    """Reset is not forwarded, Drop and Truncate are; each is an error, then all is well."""
    proxy.set(Rule(action, path="/b/"))
    with pytest.raises((OSError, http.client.HTTPException)):
        asked(proxy)
    assert len(upstream.got) == forwarded
    assert asked(proxy)[0] == 200
    assert [hit.action for hit in proxy.hits] == [action]


def test_an_answer_is_cut_where_the_rule_says(proxy: FaultProxy) -> None:
    """The head is whole, the body stops after so many bytes with a reset."""
    proxy.set(Rule(Truncate(1000)))
    with urllib.request.urlopen(proxy.url, timeout=30) as answer:
        assert answer.headers["Content-Length"] == str(len(BODY))
        assert answer.read(1000) == BODY[:1000]
        with pytest.raises((OSError, http.client.HTTPException)):
            answer.read()


def test_a_refusal_speaks_the_services_language(proxy: FaultProxy, upstream: _Upstream) -> None:
    """XML for S3, JSON for a service with X-Amz-Target; nothing is forwarded."""
    proxy.set(Rule(Status(), times=2))
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(proxy)
    assert (refused.value.code, b"<Code>SlowDown" in refused.value.read()) == (503, True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(proxy, "POST", **{"X-Amz-Target": "AmazonSSM.SendCommand"})
    assert b'"__type": "SlowDown"' in refused.value.read()
    assert upstream.got == []


def test_rules_choose_by_method_path_target_and_count(proxy: FaultProxy) -> None:
    """The nth fitting request and the times after it, no other."""
    proxy.set(Rule(Status(500), method="PUT", path=r"^/b/.*\.json$", target="X", nth=2, times=2))

    def refused(method: str, path: str, target: str) -> bool:
        try:
            asked(proxy, method, path, **{"X-Amz-Target": target})
        except urllib.error.HTTPError as error:
            error.close()
            return True
        return False

    others = [("GET", "/b/a.json", "X"), ("PUT", "/b/a.txt", "X"), ("PUT", "/b/a.json", "Y")]
    assert not any(refused(*other) for other in others)
    fitting = [refused("PUT", "/b/a.json", "XY") for _ in range(4)]
    assert fitting == [False, True, True, False]


def test_waiting_ends_with_the_proxy(upstream: _Upstream) -> None:
    """A held or delayed request blocks nobody's end, and can be waited for."""
    ends: list[BaseException] = []

    def ask(proxy: FaultProxy) -> None:
        try:
            asked(proxy)
        except (OSError, http.client.HTTPException) as error:
            ends.append(error)

    with FaultProxy(f"http://127.0.0.1:{upstream.server_address[1]}") as proxy:
        proxy.set(Rule(Hold()), Rule(Delay(3600), nth=2))
        threads = [threading.Thread(target=ask, args=(proxy,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        proxy.book.wait_for(lambda seen: len(seen) == 2)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert ends

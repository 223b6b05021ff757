"""HTTPS in front of a server that speaks HTTP, for clients that speak nothing else."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 64 * 1024


class TlsRelay(socketserver.ThreadingTCPServer):
    """Listens on loopback and passes on to ``url``; whoever trusts ``certificate`` may connect as
    ``name``, which may begin with ``*.``."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, directory: Path, name: str, url: str) -> None:
        self.certificate, key = directory / "relay.crt", directory / "relay.key"
        _certify(self.certificate, key, name)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        parts = urlsplit(url)
        self._behind = (parts.hostname, parts.port)
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self._thread = threading.Thread(target=self.serve_forever, name="tls", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.server_address[1]
        return port

    def start(self) -> None:
        """Serve, from a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def finish_request(self, request: object, client_address: object) -> None:
        """One connection, to its end."""
        assert isinstance(request, socket.socket)
        # A client that hangs up, or trusts another, is no fault of the server's.
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(request, server_side=True) as client,
            socket.create_connection(self._behind) as server,
        ):
            back = threading.Thread(target=_pass, args=(server, client), daemon=True)
            back.start()
            _pass(client, server)
            back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _certify(certificate: Path, key: Path, name: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    names = ["-subj", "/CN=codeferry-local", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )

"""Genuine agents: the programs that are taken, their configuration, their end."""

from __future__ import annotations

import http.client
import http.server
import os
import shlex
import socket
import ssl
import threading
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from codeferry_local.cli import local
from codeferry_local.errors import AgentUnusable
from codeferry_local.ssm.agent.genuine import GenuineAgents, configuration, usable_agent
from codeferry_local.ssm.agent.tls_relay import TlsRelay
from codeferry_local.ssm.instances import POLLING, Fleet, LocalInstance

INSTANCE = "i-0000000000000001a"
WORKERS = ("ssm-agent-worker", "ssm-document-worker", "ssm-session-worker")
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make mount namespaces, and agents are root's"
)


def program(path, *lines):
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def package(tmp_path):
    """A directory of programs as AWS's package has them, of ours."""
    for name in WORKERS:
        program(tmp_path / name)
    program(tmp_path / "amazon-ssm-agent", "echo 'SSM Agent version: 3.3.987.0'")
    return tmp_path


def test_what_is_no_program_is_refused(tmp_path):
    """Missing, or a file that cannot be executed."""
    (tmp_path / "text").write_text("text")
    for name in ("nowhere", "text"):
        with pytest.raises(AgentUnusable, match="is no program"):
            usable_agent(tmp_path / name)


def test_another_program_is_refused(tmp_path):
    """What does not call itself an SSM agent, or cannot be run at all."""
    other = program(tmp_path / "other", "echo other 1.0")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF no more")
    broken.chmod(0o755)
    for path in (other, broken):
        with pytest.raises(AgentUnusable, match="does not call itself an SSM agent"):
            usable_agent(path)


def test_without_root_it_says_why(package, monkeypatch):
    """And what to do."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(AgentUnusable, match="needs Linux, root") as refused:
        usable_agent(package / "amazon-ssm-agent")
    assert "sudo" in refused.value.hint


@as_root
@pytest.mark.parametrize("missing", WORKERS)
def test_a_missing_worker_is_named(package, missing):
    """Without it the agent would start others', or nothing."""
    (package / missing).unlink()
    with pytest.raises(AgentUnusable, match=f"{missing} is missing"):
        usable_agent(package / "amazon-ssm-agent")


@as_root
def test_a_whole_package_is_taken_unless_others_can_write_it(package):
    """The agent itself would pass over such workers in silence."""
    agent = package / "amazon-ssm-agent"
    assert usable_agent(agent) == agent
    (package / "ssm-document-worker").chmod(0o775)
    with pytest.raises(AgentUnusable, match="nobody else can write it"):
        usable_agent(agent)


def test_up_refuses_before_it_starts_anything(tmp_path, monkeypatch):
    """The option's error, not that of a start which failed."""
    monkeypatch.setenv("CODEFERRY_LOCAL_HOME", str(tmp_path / "home"))
    ran = CliRunner().invoke(local, ["up", "--agent", str(tmp_path / "nowhere")])
    assert isinstance(ran.exception, AgentUnusable)
    assert not (tmp_path / "home").exists()


def test_every_endpoint_is_on_loopback():
    """Also of services that the agent's configuration has no setting for."""
    settings = configuration(
        INSTANCE, "eu-west-1", "http://127.0.0.1:1", "http://127.0.0.1:2", "localhost:3"
    )
    endpoints = [settings[part]["Endpoint"] for part in ("Mds", "Ssm", "Mgs", "S3", "Kms")]
    assert endpoints == [
        "http://127.0.0.1:1",
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "http://127.0.0.1:2",
        "http://127.0.0.1:2",
    ]
    assert settings["Agent"]["ServiceDomain"] == "localhost:3"
    (identity,) = settings["Identity"]["CustomIdentities"]
    assert settings["Identity"]["ConsumptionOrder"] == ["CustomIdentity"]
    assert (identity["InstanceID"], identity["Region"]) == (INSTANCE, "eu-west-1")


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def plain():
    """A server that speaks HTTP and answers with what it was sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def secured(port, context):
    connection = http.client.HTTPSConnection("logs.eu-west-1.localhost", port, context=context)
    # The name leads to loopback for agents only.
    plain = socket.create_connection(("127.0.0.1", port))
    connection.sock = context.wrap_socket(plain, server_hostname="logs.eu-west-1.localhost")
    return connection


def test_https_reaches_the_server_behind(tmp_path, plain):
    """Two requests on one connection; who does not trust the certificate gets none."""
    relay = TlsRelay(tmp_path, "*.eu-west-1.localhost", plain)
    relay.start()
    try:
        trusting = ssl.create_default_context(cafile=str(relay.certificate))
        connection = secured(relay.port, trusting)
        for body in (b"x" * 300_000, b"y"):
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(relay.port, ssl.create_default_context())
    finally:
        relay.stop()


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.02)
    return value


def started_with(word):
    """Processes that have this word among their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(word in argument for argument in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@as_root
def test_each_instance_has_its_agent_and_nothing_is_left(tmp_path, package, plain):
    """Each sees its own directories and processes; an instance that goes takes its agent along,
    and the end takes what agents have started in sessions of their own."""
    mark = f"mark{os.getpid()}"
    program(
        package / "amazon-ssm-agent",
        "set -e",
        "cat /etc/amazon/ssm/amazon-ssm-agent.json > /var/lib/amazon/seen",
        "ls /proc | grep -c '^[0-9]' > /var/log/amazon/processes",
        f"setsid sh -c 'sleep 600; : {mark}' &",
        "env > /var/lib/amazon/env",
        "test ! -e /sbin/shutdown || cmp /sbin/shutdown /bin/true",
        "pwd > /var/lib/amazon/cwd",
        "grep logs.eu-west-1.localhost /etc/hosts > /var/lib/amazon/hosts",
        ": > /var/lib/amazon/done",
        f"sleep 600; : {shlex.quote(mark)}",
    )
    places = [p for p in ("/etc/amazon", "/var/lib/amazon", "/var/log/amazon") if Path(p).exists()]
    fleet = Fleet()
    roots = [tmp_path / "one", tmp_path / "two"]
    for number, root in enumerate(roots):
        fleet.add(LocalInstance(instance_id=f"i-{number:017x}", root=root, executor=POLLING))
    agents = GenuineAgents(
        agent=package / "amazon-ssm-agent",
        fleet=fleet,
        region="eu-west-1",
        ssm_url=plain,
        aws_url=plain,
        directory=tmp_path,
        log=tmp_path / "log",
    )
    agents.start()
    try:
        for number, root in enumerate(roots):
            data = root / "var/lib/amazon"
            until((data / "done").exists)
            assert f"i-{number:017x}" in (data / "seen").read_text()
            assert int((root / "var/log/amazon/processes").read_text()) < 10
            assert "127.0.0.1" in (data / "hosts").read_text()
            environment = (data / "env").read_text()
            assert f"CODEFERRY_ROOT={root}/opt/codeferry" in environment
            assert (data / "cwd").read_text() == "/usr/bin\n"
            assert "AWS_SECRET_ACCESS_KEY" not in environment
        assert len(started_with(mark)) == 2
        fleet.remove("i-00000000000000000")
        assert len(started_with(mark)) == 1
    finally:
        agents.stop()
    assert started_with(mark) == []
    left = [p for p in ("/etc/amazon", "/var/lib/amazon", "/var/log/amazon") if Path(p).exists()]
    assert left == places
    fleet.add(LocalInstance(instance_id=INSTANCE, root=tmp_path / "late", executor=POLLING))
    assert not (tmp_path / "late").exists()

"""An S3 to download from that misbehaves on demand, and an instance to apply archives on."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import codeferry_agent
from codeferry_contracts import archive
from codeferry_contracts.archive import UNPACKED_BYTES, UNPACKED_FILES
from codeferry_contracts.parameters import ENVIRONMENT_URL_VARIABLE, Payload
from codeferry_contracts.result import RESULT_MAX_CHARACTERS, InstanceResult, parse_result
from codeferry_lambdas.releases.archives import META_MEMBERS
from tests.unit.agent.archives import Tree, entries, pack
from tests.unit.agent.fork_server import FLAGS, ForkServer

LAUNCH = Path(__file__).with_name("launch.py")
SOURCES = sorted(Path(codeferry_agent.__file__).parent.glob("run/**/[!_]*.py"))
SECRET = "X-Amz-Signature=5ec2e7f00d5ec2e7f00d"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


@dataclass
class Store:
    """A server of one object, by ranges; what it should do wrong, and what it has sent."""

    body: bytes = b""
    status: int = 0  # answered instead of the object, when set
    failing: int = 0  # how many requests yet get a 503
    drop_after: list[int] = field(default_factory=list)  # bytes after which each answer breaks off
    headless: int = 0  # how many answers yet break off within their headers
    entered: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event | None = None  # holds answers back until set
    ranges: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    url: str = ""
    variables: bytes = b"{}"  # a command's
    agent: bytes = b""
    refusals: list[int] = field(default_factory=list)  # statuses yet answered instead of these two
    asked: threading.Event = field(default_factory=threading.Event)  # for them
    give: threading.Event | None = None  # holds them back until set

    @property
    def variables_url(self) -> str:
        return self.url.replace("archive.tar.gz", "variables.json")

    @property
    def agent_url(self) -> str:
        return self.url.replace("archive.tar.gz", "x.agent")

    def status_for(self) -> int:
        if self.failing:
            self.failing -= 1
            return 503
        return self.status or 206


class _Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        store = self.store
        store.entered.set()
        if store.resume:
            store.resume.wait(60)
        if "variables.json" in self.path:
            self.send_whole(store, store.variables)
            return
        if ".agent" in self.path:
            self.send_whole(store, store.agent)
            return
        status = store.status_for()
        start, end = map(int, re.findall(r"\d+", self.headers["Range"])[:2])
        body = store.body[start : end + 1] if status == 206 else f"<Error>{SECRET}</Error>".encode()
        if store.headless:
            store.headless -= 1
            self.send_response(status)
            self.end_headers()
            return
        cut = store.drop_after.pop(0) if store.drop_after else len(body)
        # Before the answer: whoever got it may look at these at once.
        store.ranges.append((start, end))
        store.sent += len(body[:cut])
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(store.body)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:cut])
        self.close_connection = True

    def send_whole(self, store: Store, body: bytes) -> None:
        store.asked.set()
        if store.give:
            store.give.wait(60)
        status = store.refusals.pop(0) if store.refusals else 200
        if status != 200:
            body = f"<Error>{SECRET}</Error>".encode()
        cut = store.drop_after.pop(0) if store.drop_after else len(body)
        store.sent += len(body[:cut])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}/bucket/archive.tar.gz?{SECRET}&x=%2F"
    yield store
    for held in (store.resume, store.give):
        if held:
            held.set()
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Answer:
    """What one delivery did."""

    exit: int
    out: str
    err: str

    @property
    def result(self) -> InstanceResult:
        return parse_result(self.out)

    @property
    def code(self) -> str:
        assert self.exit == 1, self.err
        assert self.result.status == "failed"
        error = self.result.error
        assert error is not None
        assert set(error) == {"code", "message", "hint"}
        return error["code"]

    @property
    def message(self) -> str:
        assert self.result.error is not None, self.err
        return self.result.error["message"]


@dataclass
class Instance:
    """A machine: its root directory, the store it downloads from, its Python."""

    root: Path
    store: Store
    python: str = sys.executable
    script: Path = LAUNCH
    arguments: tuple[str, ...] = ("sync",)
    text: bool = True
    stdin: int = subprocess.DEVNULL
    runs: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    fresh: bool = False  # an interpreter of its own: what /proc tells of it counts

    @property
    def project(self) -> Path:
        return self.root / "demo"

    @property
    def current(self) -> Path:
        return self.project / "current"

    @property
    def current_id(self) -> str:
        return self.current.readlink().name

    def releases(self) -> set[str]:
        return {path.name for path in (self.project / "releases").iterdir()}

    def payload(self, body: bytes, **changes: Any) -> Payload:
        self.runs += 1
        fields: dict[str, Any] = {
            "run_id": f"run-{self.runs}",
            "project": "demo",
            "url": self.store.url,
            "sha256": hashlib.sha256(body).hexdigest(),
            "size": len(body),
            "digest": "",
            "files": -1,
            "unpacked_bytes": UNPACKED_BYTES,
            "unpacked_files": UNPACKED_FILES,
            "keep_releases": 5,
            "strict": False,
            "user": "",
            "persist": (),
            "expect_files": (),
            "expect_directories": (),
        }
        return Payload(**(fields | changes))

    def start(self, payload: Payload | str, **environ: str) -> subprocess.Popen[Any]:
        """A delivery on its way, in a session of its own."""
        encoded = payload if isinstance(payload, str) else payload.encode()
        run_id = "run-0" if isinstance(payload, str) else payload.run_id
        inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        variables = (
            inherited
            | {"CODEFERRY_ROOT": str(self.root), "CODEFERRY_RUN_ID": run_id}
            | {"CODEFERRY_PAYLOAD": encoded, "CODEFERRY_VERBOSE": "1"}
            | self.environ
            | environ
        )
        if isinstance(payload, Payload) and payload.environment:
            variables.setdefault(ENVIRONMENT_URL_VARIABLE, self.store.variables_url)
        if not self.fresh:
            server = fork_server(self.python)
            return server.start(self.script, self.arguments, variables, self.stdin, self.text)
        return subprocess.Popen(
            [self.python, *FLAGS, str(self.script), *self.arguments],
            env=variables,
            stdin=self.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=self.text,
            start_new_session=True,
        )

    def send(self, payload: Payload | str, **environ: str) -> Answer:
        """Deliver, wait, and check what must hold for every answer."""
        return self.finish(self.start(payload, **environ))

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        out, err = process.communicate(timeout=120)
        assert SECRET not in out + err
        assert self.store.url not in out + err
        if process.returncode != -signal.SIGKILL:
            assert out.startswith('{"codeferry_result": 1, ')
            assert out.count("\n") == 1
            assert out.endswith("\n")
            assert len(out) <= RESULT_MAX_CHARACTERS + 1
            self.check_whole()
        return Answer(process.returncode, out, err)

    def apply(self, body: bytes, **changes: Any) -> Answer:
        """Serve an archive and deliver it."""
        self.store.body = body
        return self.send(self.payload(body, **changes))

    def push(self, tree: Tree, **changes: Any) -> Answer:
        """Deliver a tree as the packer and the workflow would, and see that it went well."""
        packed = entries(tree)
        summary = archive.summarise("demo", packed)
        announced = {
            "digest": summary.digest,
            "files": summary.files,
            "unpacked_bytes": summary.bytes,
            "unpacked_files": summary.files + archive.directory_count(packed) + META_MEMBERS,
        }
        stated = announced | changes
        answer = self.apply(pack(tree), **stated)
        assert answer.exit == 0, answer.out + answer.err
        assert self.current_id == summary.release_id == answer.result.release_id
        return answer

    def settle(self) -> str:
        """Make some release current without a delivery; its id."""
        release = self.project / "releases" / ("0" * 20)
        release.mkdir(parents=True)
        (release / "old").write_bytes(b"old")
        self.current.symlink_to(f"releases/{release.name}")
        return release.name

    def check_whole(self) -> None:
        """Nothing is left in staging, and current is dangling for nobody."""
        staging = self.project / "staging"
        assert not staging.exists() or not list(staging.iterdir())
        if self.current.is_symlink():
            assert self.current.is_dir()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """What lies around the instance's root, and must be as it was whatever is applied."""
    around = tmp_path / "around"
    around.mkdir()
    (around / "passwd").write_text("root")
    before = _picture(around)
    yield around
    subprocess.run(["rm", "-rf", around / "opt"], check=True)  # however deep it goes
    assert _picture(around) == before


@pytest.fixture
def instance(canary: Path, store: Store) -> Instance:
    root = canary / "opt"
    root.mkdir()
    return Instance(root, store)


@pytest.fixture
def small_disk(instance: Instance) -> Iterator[Instance]:
    """The instance's root on a filesystem of 4 MiB and 200 inodes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    options = "size=4m,nr_inodes=200"
    mount = ["mount", "-t", "tmpfs", "-o", options, "codeferry-test", str(instance.root)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a filesystem")
    yield instance
    subprocess.run(["umount", str(instance.root)], check=True)


def _picture(top: Path) -> list[tuple[str, int, bytes]]:
    paths = (path for path in sorted(top.rglob("*")) if "opt" not in path.parts[len(top.parts) :])
    return [(str(p), p.lstat().st_mode, p.read_bytes() if p.is_file() else b"") for p in paths]


@cache
def fork_server(python: str) -> Any:
    """The one of this interpreter, for as long as the tests run."""
    server = ForkServer(python)
    atexit.register(server.stop)
    return server


@cache
def find_python(version: str) -> str | None:
    """An interpreter of this version: of pyenv, or on PATH; None when the machine has none."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path / "bin/python") for path in home.glob(f"versions/{version}.*")]
    for python in (*found, shutil.which(f"python{version}")):
        if python and _is_version(python, version):
            return python
    return None


def _is_version(python: str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def _params() -> list[Any]:
    """The suite's own version always, the others where there is time for it."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [pytest.param(v, marks=[] if v == own else [pytest.mark.slow]) for v in VERSIONS]


@pytest.fixture(params=_params())
def any_python(request: pytest.FixtureRequest, instance: Instance) -> Instance:
    """An instance under each Python of the machine."""
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"this machine has no Python {request.param}")
    instance.python = python
    return instance


def picture(tree: Path) -> dict[str, Any]:
    """Every file, link and directory below ``tree`` as mode and content."""
    found: dict[str, Any] = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "directory"
        else:
            found[name] = (oct(path.stat().st_mode & 0o7777), path.read_bytes())
    return found


def load(path: Path) -> Any:
    return json.loads(path.read_text())


Gnu = Callable[..., bytes]


@pytest.fixture
def gnu_tar(tmp_path: Path) -> Gnu:
    """The real GNU tar over a directory: options in, a tar.gz out."""
    tool = shutil.which("tar")
    version = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False)
    if tool is None or "GNU tar" not in version.stdout:
        pytest.skip("this machine has no GNU tar")

    def run(directory: Path, *options: str) -> bytes:
        out = tmp_path / "gnu.tar.gz"
        command = ["tar", "-czf", str(out), "-C", str(directory), *options]
        subprocess.run(command, check=True, capture_output=True)
        return out.read_bytes()

    return run

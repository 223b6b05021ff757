"""fetch.py: what it runs is the agent its document wants, wherever that comes from."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stacks.workflow.agent_code import agent_code, agent_sha256
from tests.unit.agent.archives import SMALL, pack
from tests.unit.agent.conftest import FLAGS, SECRET, Instance, Store

FETCH = Path(__file__).parents[4] / "stacks/documents/fetch.py"
AGENT = b"the agent" * 1000
EXECUTE = "def main(workflow, environ):\n    print(workflow, *environ)\n    return 7\n"


def zipped(execute: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("codeferry_agent/__init__.py", "")
        archive.writestr("codeferry_agent/run/__init__.py", "")
        archive.writestr("codeferry_agent/run/execute.py", execute)
    return made.getvalue()


@pytest.fixture
def fetch(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """fetch.py as a module that wants AGENT, beside a store that has it."""
    spec = importlib.util.spec_from_file_location("fetch", FETCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SHA256, module.WORKFLOW = hashlib.sha256(AGENT).hexdigest(), "sync"
    module.PLACE, module.PAUSE = tmp_path / "opt/codeferry/.agent", 0
    module.run = lambda code: code
    store.agent = AGENT
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CODEFERRY_RUN_ID", "run-1")
    return module


@pytest.fixture
def main(fetch: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs it with the store's URL, or with another one."""

    def run(url: str | None = None) -> Any:
        monkeypatch.setenv("CODEFERRY_AGENT_URL", store.agent_url if url is None else url)
        return fetch.main()

    return run


def error_of(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Of the line that it has printed, which the workflow can read."""
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    line = json.loads(out)
    assert (line["codeferry_result"], line["run_id"], line["status"]) == (1, "run-1", "failed")
    error: dict[str, str] = line["error"]
    assert set(error) == {"code", "message", "hint"}
    assert all(error.values())
    return error


def test_it_is_fetched_once(fetch: Any, main: Any, store: Store) -> None:
    """Then it lies under its SHA-256, for everybody to read, and no URL is needed."""
    assert main() == AGENT
    (kept,) = fetch.PLACE.iterdir()
    assert (kept.name, kept.read_bytes()) == (fetch.SHA256, AGENT)
    assert kept.stat().st_mode & 0o777 == 0o644
    sent = store.sent
    assert main("") == AGENT
    assert store.sent == sent
    assert "CODEFERRY_AGENT_URL" not in os.environ


def test_another_agent_never_runs(
    fetch: Any, main: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever can write where it is published runs nothing: not now, and not from the cache."""
    store.agent = AGENT + b"!"
    assert main() == 1
    error = error_of(capsys)
    assert error["code"] == "agent_altered"
    assert hashlib.sha256(store.agent).hexdigest() in error["message"]
    assert not fetch.PLACE.exists()


def damaged(kept: Path) -> None:
    kept.write_bytes(AGENT[:-1])


def open_to_all(kept: Path) -> None:
    kept.chmod(0o666)


def in_an_open_directory(kept: Path) -> None:
    kept.parent.chmod(0o777)


def a_link(kept: Path) -> None:
    kept.rename(kept.with_name("elsewhere"))
    kept.symlink_to("elsewhere")


def below_a_link(kept: Path) -> None:
    kept.parent.rename(kept.parent.with_name("elsewhere"))
    kept.parent.symlink_to("elsewhere")


def a_fifo(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept)


def a_directory(kept: Path) -> None:
    kept.unlink()
    kept.mkdir()


def of_another_user(kept: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(kept, 12345, 12345)


def in_a_directory_of_another_user(kept: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(kept.parent, 12345, 12345)


@pytest.mark.parametrize(
    "doing",
    [
        damaged,
        open_to_all,
        in_an_open_directory,
        a_link,
        below_a_link,
        a_fifo,
        a_directory,
        of_another_user,
        in_a_directory_of_another_user,
    ],
)
def test_what_others_could_have_written_is_not_run(
    fetch: Any, main: Any, store: Store, doing: Any
) -> None:
    """It is fetched again, and nothing is written where others decide what lies there."""
    main()
    store.sent = 0
    doing(fetch.PLACE / fetch.SHA256)
    around = {path: path.lstat().st_ino for path in fetch.PLACE.parent.rglob("*")}
    assert main() == AGENT
    assert store.sent == len(AGENT)
    if doing in (damaged, open_to_all, a_link, a_fifo, of_another_user):
        assert main("") == AGENT  # it is whole again
    else:
        assert {path: path.lstat().st_ino for path in fetch.PLACE.parent.rglob("*")} == around


@pytest.mark.parametrize(("status", "asked"), [(403, 1), (404, 1), (503, 4)])
def test_what_trying_again_may_mend_is_tried_again(
    main: Any, store: Store, capsys: pytest.CaptureFixture[str], status: int, asked: int
) -> None:
    """And nothing else; the answer says why there is no agent."""
    store.refusals = [status] * 10
    assert main() == 1
    assert len(store.refusals) == 10 - asked
    error = error_of(capsys)
    assert error["code"] == "agent_unavailable"
    assert f"HTTP {status}" in error["message"]


def test_a_transfer_that_breaks_off_is_made_again(main: Any, store: Store) -> None:
    """Part of an agent is no agent."""
    store.drop_after = [100, 0]
    store.refusals = [503]
    assert main() == AGENT


def test_there_is_an_end_to_it(
    fetch: Any, main: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """In bytes and in time, and without a URL at once."""
    fetch.LIMIT = len(AGENT) - 1
    assert main() == 1
    assert "too large" in error_of(capsys)["message"]
    fetch.LIMIT, fetch.DEADLINE = 4 << 20, 0
    assert main() == 1
    assert "slowly" in error_of(capsys)["message"]
    assert main("") == 1
    assert error_of(capsys)["code"] == "agent_unavailable"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://[/", "gopher://x/"])
def test_nobody_there(main: Any, capsys: pytest.CaptureFixture[str], url: str) -> None:
    """A result line, whatever the URL is."""
    assert main(url) == 1
    assert error_of(capsys)["code"] == "agent_unavailable"


def test_it_runs_where_it_cannot_be_kept(fetch: Any, main: Any, tmp_path: Path) -> None:
    """A full or read-only disk, or a file in the way, stops no rollback."""
    (tmp_path / "opt").write_text("in the way")
    assert main() == AGENT


def test_runs_at_once_leave_one_agent(fetch: Any) -> None:
    """Each by a rename of a file of its own; who looks sees a whole one or none."""
    stop, seen = threading.Event(), set()

    def look() -> None:
        while not stop.is_set():
            seen.add(fetch.kept())

    looking = threading.Thread(target=look)
    keeping = [threading.Thread(target=fetch.keep, args=(AGENT,)) for _ in range(16)]
    looking.start()
    for each in keeping:
        each.start()
    for each in keeping:
        each.join()
    stop.set()
    looking.join()
    assert seen <= {b"", AGENT}
    assert [path.name for path in fetch.PLACE.iterdir()] == [fetch.SHA256]


def test_old_versions_go(fetch: Any, main: Any) -> None:
    """Those that were not used for longest, and what a killed run has left; nothing else."""
    fetch.PLACE.mkdir(parents=True)
    old = [f"{number:064x}" for number in range(9)]
    for age, name in enumerate(old):
        (fetch.PLACE / name).touch()
        os.utime(fetch.PLACE / name, (10**9 - age,) * 2)
    left, fresh = f".{'a' * 32}", f".{'b' * 32}"
    for name in (left, fresh, "notes"):
        (fetch.PLACE / name).touch()
    os.utime(fetch.PLACE / left, (10**9,) * 2)
    assert main() == AGENT
    found = {path.name for path in fetch.PLACE.iterdir()}
    assert found == {fetch.SHA256, *old[:4], fresh, "notes"}
    used = (fetch.PLACE / fetch.SHA256).stat().st_mtime
    os.utime(fetch.PLACE / fetch.SHA256, (10**9,) * 2)
    main("")
    assert (fetch.PLACE / fetch.SHA256).stat().st_mtime >= used


@pytest.mark.parametrize("memfd", [True, False])
def test_what_was_checked_is_what_runs(
    fetch: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], memfd: bool
) -> None:
    """From memory, or a file without a name: nobody can exchange it between the two."""
    for name in [name for name in sys.modules if name.startswith("codeferry_agent")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    spec = importlib.util.spec_from_file_location("fetch", FETCH)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(fetch)
    fetch.WORKFLOW = "script"
    assert fetch.run(zipped(EXECUTE)) == 7
    assert capsys.readouterr().out.split()[0] == "script"
    assert sys.modules["codeferry_agent.run"].__file__.startswith("/proc/self/fd/")


@pytest.fixture
def document(instance: Instance, tmp_path: Path) -> Any:
    """Runs what a document's first step hands to Python, under a fresh one."""
    instance.store.agent = agent_code()

    def deliver(workflow: str, encoded: str, url: str) -> subprocess.CompletedProcess[str]:
        text = FETCH.read_text().replace("@@SHA256@@", agent_sha256())
        environ = {"CODEFERRY_ROOT": str(instance.root), "CODEFERRY_RUN_ID": "run-1"}
        environ |= {"CODEFERRY_PAYLOAD": encoded, "CODEFERRY_AGENT_URL": url}
        return subprocess.run(
            [instance.python, *FLAGS[:-1], "-"],
            input=text.replace("@@WORKFLOW@@", workflow),
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return deliver


def test_the_published_agent_applies_a_release(
    document: Any, any_python: Instance, store: Store
) -> None:
    """Fetched for the first run and taken from where it is kept by the next, under each Python
    there may be; it leaves nothing beside itself."""
    store.body = body = pack(SMALL)
    payload = any_python.payload(body, command=("/bin/echo", "it ran"), command_seconds=9)
    done = document("sync", payload.encode(), store.agent_url)
    assert "\nit ran\n" in done.stdout, done.stdout + done.stderr
    assert (any_python.current / "train.py").exists()
    (kept,) = (any_python.root / ".agent").iterdir()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.name == agent_sha256()
    done = document("sync", payload.encode(), "")
    assert json.loads(done.stdout)["replayed"] is True

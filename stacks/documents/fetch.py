"""Run Codeferry's agent, a zip of plain sources whose SHA-256 is below; fetch it where it is not.

It is kept as <root>/.agent/<SHA-256>: sha256sum says its name again, and cat shows what runs. What
runs is what was checked, in memory; so it runs as well where it cannot be kept.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

SHA256, WORKFLOW = "@@SHA256@@", "@@WORKFLOW@@"
PLACE = Path(os.environ.get("CODEFERRY_ROOT", "/opt/codeferry"), ".agent")
LIMIT = 4 << 20  # bytes of it
ATTEMPTS, PAUSE, TIMEOUT, DEADLINE = 4, 1, 15, 90  # the last three in seconds
KEPT, STALE = 5, 3600  # versions; seconds after which nobody is still writing
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW


class Unavailable(Exception):
    """Why there is no agent to run: a code, words, and what to do."""


@contextlib.contextmanager
def opened(path, flags, place=None):
    """What lies at ``path`` if only root or we can have written it."""
    descriptor = os.open(path, flags, dir_fd=place)
    try:
        state = os.fstat(descriptor)
        if state.st_uid not in (0, os.geteuid()) or state.st_mode & 0o022:
            raise PermissionError("not ours")
        yield descriptor
    finally:
        os.close(descriptor)


def is_right(code):
    return hashlib.sha256(code).hexdigest() == SHA256


def kept():
    """The agent that is here; none where it is damaged or others could have written it."""
    with contextlib.suppress(OSError), opened(PLACE, DIRECTORY) as directory:
        return read(directory)
    return b""


def read(directory):
    with opened(SHA256, FILE, directory) as found:
        with open(found, "rb", closefd=False) as file:
            code = file.read(LIMIT)
        with contextlib.suppress(OSError):
            os.utime(found)  # those used last are kept
    return code if is_right(code) else b""


def keep(code):
    """Leave the agent for the next run, by one rename."""
    PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
    flags, name = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, f".{os.urandom(16).hex()}"
    with opened(PLACE, DIRECTORY) as directory:
        prune(directory)
        try:
            with os.fdopen(os.open(name, flags, 0o644, dir_fd=directory), "wb") as file:
                file.write(code)
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, SHA256, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        finally:
            remove(name, directory)


def prune(directory):
    """Remove the versions that were not used for longest, and what a killed run has left."""
    versions, oldest = [], time.time() - STALE
    for entry in os.scandir(directory):
        with contextlib.suppress(OSError):
            used = entry.stat(follow_symlinks=False).st_mtime
            if entry.name != SHA256 and re.fullmatch("[0-9a-f]{64}", entry.name):
                versions.append((used, entry.name))
            elif re.fullmatch(r"\.[0-9a-f]{32}", entry.name) and used < oldest:
                remove(entry.name, directory)
    for _, name in sorted(versions, reverse=True)[KEPT - 1 :]:
        remove(name, directory)


def remove(name, directory):
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)


def fetched(url):
    """The agent from S3, through a URL that is signed for this run."""
    if not url:
        words = "The instance lacks this version of the agent, and was told no URL of it."
        raise Unavailable("agent_unavailable", words, "Start the run again.")
    end, reason = time.monotonic() + DEADLINE, "out of time"
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * (2**attempt - 1))
        code, reason, final = download(url, end)
        if code and is_right(code):
            return code
        if code:
            reason = f"it has SHA-256 {hashlib.sha256(code).hexdigest()}, not {SHA256}"
        if final or time.monotonic() > end:
            break
    if code:
        hint = "Deploy the stage again; if it stays so, somebody has changed it."
        raise Unavailable("agent_altered", f"The agent is another than wanted: {reason}.", hint)
    hint = "The instance needs a route to S3; start the run again."
    raise Unavailable("agent_unavailable", f"The agent could not be fetched: {reason}.", hint)


def download(url, end):
    """The bytes, or why there are none, without the URL; and whether trying again is of no use."""
    import http.client  # here, because a run seldom needs them
    import urllib.error
    import urllib.request

    code = b""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - checked
            while len(code) <= LIMIT and time.monotonic() < end:
                chunk = response.read1(1 << 16)
                code += chunk
                if not chunk:
                    return code, "it is empty", False
        return b"", "it is too large" if len(code) > LIMIT else "it comes too slowly", True
    except urllib.error.HTTPError as error:
        error.close()
        return b"", f"HTTP {error.code}", error.code < 500 and error.code not in (408, 429)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return b"", getattr(reason, "strerror", "") or type(reason).__name__, False


def run(code):
    """Import the agent from memory, and do what the document is for; the exit code."""
    made = os.memfd_create("agent") if hasattr(os, "memfd_create") else unnamed()
    with open(made, "wb", closefd=False) as file:
        file.write(code)
    sys.path.insert(0, f"/proc/self/fd/{made}")
    from codeferry_agent.run import execute

    return execute.main(WORKFLOW, os.environ)


def unnamed():
    """A file without a name, where the C library has no memfd_create."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def main():
    """Get the agent and run it; the exit code. Without it there is a result line of our own."""
    url, code = os.environ.pop("CODEFERRY_AGENT_URL", ""), kept()
    if not code:
        try:
            code = fetched(url)
        except Unavailable as failure:
            name, message, hint = failure.args
            error = {"code": name, "message": message, "hint": hint}
            line = {"codeferry_result": 1, "run_id": os.environ["CODEFERRY_RUN_ID"]}
            print(json.dumps({**line, "status": "failed", "error": error}))
            return 1
        with contextlib.suppress(OSError):
            keep(code)
    return run(code)


if __name__ == "__main__":
    sys.exit(main())

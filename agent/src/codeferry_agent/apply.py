"""Make an archive the current release of a project on this instance.

Travels compressed in an SSM document, with execute.py, and runs under the instance's own
Python (3.9 to 3.14, standard library only): it imports nothing of Codeferry, the tests hold
it to contracts. A document with its parameters has 64 KB, hence few words here.

In: CODEFERRY_PAYLOAD (base64 JSON), CODEFERRY_RUN_ID, CODEFERRY_ROOT (/opt/codeferry),
CODEFERRY_LOCK_SECONDS (120), CODEFERRY_LOGIN_UID (1000), CODEFERRY_VERBOSE,
CODEFERRY_CRASH_AT (tests). Out: one result
line on stdout, exit 0 or 1. In <root>/<project>/:

  current -> releases/<id>    shared/            what lives on between releases
  releases/<id>/              runs/<run>.json    answers to runs that succeeded
  staging/<run>.*/            activations.json   release ids, last activated first

What leaves staging is verified and on disk, and leaves by one rename: a kill at any
moment leaves current at a complete release.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import fcntl
import gzip
import hashlib
import http.client
import json
import os
import pwd
import queue
import re
import shutil
import signal
import stat
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Callable, ClassVar, NamedTuple, Optional

# SSM shows 2,400 of output and errors together, and adds some 70 of its own on failure.
RESULT_MAX_CHARACTERS = 2300
RECORDS_KEPT = 200
CHUNK = 1 << 20
CONNECTIONS, PARALLEL_FROM = 4, 32 << 20
NETWORK_TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS, BACKOFF, BACKOFF_MAX = 8, 0.1, 10.0  # in a row without progress; seconds
MAX_BYTES, MAX_FILE_BYTES = 64 << 30, 32 << 30
MAX_RATIO, RATIO_FROM = 200, 64 << 20  # unpacked : archive, beyond so many bytes
MAX_MEMBERS, MEMBERS_FROM, BYTES_PER_MEMBER = 1_000_000, 100_000, 32  # a digest takes more
MAX_HEADER, MAX_MANIFEST = 1 << 18, 256 << 20
MAX_PATH, MAX_COMPONENT, MAX_DEPTH = 4095, 255, 100
MAX_HOPS = 40  # path_resolution(7): the kernel follows no more links
META, MANIFEST, SUMS = b".codeferry", b".codeferry/manifest.json", b".codeferry/SHA256SUMS"
MAX_ARGUMENTS, MAX_SECONDS = 2000, 172_800
TAIL_CHARACTERS = 1000  # of a command's output in the result line, as JSON
LINK_MODE = 0o120000
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

# --- errors

HINTS = {
    "archive_changed": "Start the run again.",
    "archive_invalid": "Pack and upload it again.",
    "archive_missing": "Start the run again.",
    "archive_refused": "It may hold files, directories and links that stay inside, each once.",
    "checksum_mismatch": "Pack and upload it again.",
    "digest_mismatch": "Pack and upload it again.",
    "disk_full": "Free space or inodes, or lower options.keep_releases.",
    "download_failed": "The instance needs a route to S3: NAT, a proxy or an endpoint.",
    "expectation_unmet": "See what the archive holds and what expect asks for.",
    "locked": "Wait for the run that holds the project, or cancel it.",
    "manifest_mismatch": "Pack and upload it again.",
    "payload_invalid": "Document and functions differ: deploy the stage again.",
    "permission_denied": "Run Command normally runs as root.",
    "persist_blocked": "Make it a directory, or take it out of options.persist.",
    "url_expired": "Start the run again; else the signer lacks s3:GetObjectVersion.",
    "user_unknown": "Name a user of the instance in options.user, or none.",
}
ERRNO_CODES = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EMFILE: "too_many_open_files",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EIO: "disk_failing",
}


class Refused(Exception):
    """What ends a run, named by ``code`` (a class for each would be long, for one line each)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.hint = code, HINTS.get(code, "")


class Interrupted(Exception):
    """A transfer broke off in a way that trying again may mend."""


def invalid(message: str) -> Refused:
    return Refused("archive_invalid", f"The archive {message}.")


def refused(message: str) -> Refused:
    return Refused("archive_refused", f"The archive {message}.")


def shown(path: bytes) -> str:
    """A name for a message."""
    name = path.decode("utf-8", "backslashreplace")
    return repr(name if len(name) <= 120 else name[:117] + "...")


def first(paths: Iterable[bytes]) -> str:
    ordered = sorted(paths)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(map(shown, ordered[:3])) + more


def log(words: str) -> None:
    if os.environ.get("CODEFERRY_VERBOSE"):  # else it would take the result line's room
        print(words, file=sys.stderr, flush=True)


def _reached(point: str) -> None:
    """Tests only: die as by kill -9 at CODEFERRY_CRASH_AT."""
    if os.environ.get("CODEFERRY_CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


# --- payload


def text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def is_path(value: Any) -> bool:
    # No surrogates but those that stand for bytes.
    if not text(r"(?!/)[^\x00-\x1f\ud800-\udc7f\udd00-\udfff]{1,1024}")(value):
        return False
    parts = value.split("/")
    return parts[0] != META.decode() and not {".", ".."} & set(parts)


def paths(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 100 and all(map(is_path, value))


def arguments(value: Any) -> bool:
    # No NUL, and no surrogates but those that stand for bytes: what a program can be given.
    fits = text("[^\\x00\\ud800-\\udc7f\\udd00-\\udfff]*")
    return isinstance(value, list) and len(value) <= MAX_ARGUMENTS and all(map(fits, value))


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


URL = r"https?://[A-Za-z0-9.:\[\]-]+/[!-~]*"
RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
FIELDS: dict[str, Callable[[Any], bool]] = {
    "run_id": text(RUN_ID),
    "project": text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "url": text(URL),
    "sha256": text(r"[0-9a-f]{64}"),
    "size": number(1, MAX_BYTES),
    "digest": text(r"([0-9a-f]{64})?"),
    "files": number(-1, MAX_MEMBERS),
    "keep_releases": number(1, 100),
    "strict": is_bool,
    "user": text(r"([a-z_][a-z0-9_-]{0,31})?"),
    "persist": paths,
    "expect_files": paths,
    "expect_directories": paths,
    "command": arguments,
    "command_seconds": number(0, MAX_SECONDS),
    "environment_url": text(f"({URL})?"),
    "install": is_bool,
    "returning": is_bool,
    "bake_seconds": number(0, MAX_SECONDS),
    "health": arguments,
}


def parse_payload(
    encoded: str, fields: Mapping[str, Callable[[Any], bool]] = FIELDS
) -> SimpleNamespace:
    """The checked fields of contracts' Payload, or of its Restoration."""
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
        wrong = document.keys() ^ fields.keys()
        wrong = wrong or {name for name, fits in fields.items() if not fits(document[name])}
    except (ValueError, AttributeError, RecursionError):
        raise Refused("payload_invalid", "The payload is not base64 of a JSON object.") from None
    if wrong:
        raise Refused("payload_invalid", f"The payload's {', '.join(sorted(wrong))} cannot be.")
    return SimpleNamespace(**document)


# --- result line


def blank_result(run_id: str) -> dict[str, Any]:
    """The fields of contracts' InstanceResult, filled in as the run goes."""
    result: dict[str, Any] = {"codeferry_result": 1, "run_id": run_id, "status": "failed"}
    result.update(dict.fromkeys(("project", "release_id", "digest", "previous", "returned"), ""))
    result.update(files=0, bytes=0, manifest=False, replayed=False)
    result.update(warnings=[], unmet=[], error=None, ran=None, seconds={})
    return result


def result_line(result: Mapping[str, Any]) -> str:
    """One line of at most RESULT_MAX_CHARACTERS; what does not fit is cut and counted."""
    line, error, ran = dict(result), result["error"], result.get("ran")
    if error:
        limits = {"code": 40, "message": 700, "hint": 300}
        line["error"] = {name: cut(error[name], limits[name]) for name in limits}
    for most in range(40, -1, -1):  # warnings go first, then unmet
        line["warnings"] = shorten(result["warnings"], max(0, most - 20))
        line["unmet"] = shorten(result["unmet"], min(20, most))
        if len(json.dumps(line)) <= RESULT_MAX_CHARACTERS:
            return json.dumps(line)
    if ran:
        line["ran"] = dict(ran, tail="")
        room = RESULT_MAX_CHARACTERS - len(json.dumps(line)) + len('""')
        line["ran"]["tail"] = last_lines(ran["tail"], min(room, TAIL_CHARACTERS))
    return json.dumps(line)


def last_lines(words: str, limit: int) -> str:
    """The end of ``words`` whose JSON has at most ``limit`` characters, from a line's start
    where there is one in its first half."""
    end = words[-limit:]
    while end and len(json.dumps(end)) > limit:
        end = end[max(1, (len(json.dumps(end)) - limit) // 12) :]
    line = end.find("\n") + 1 if end != words else 0
    return end[line:] if line <= len(end) // 2 else end


def shorten(items: Sequence[str], most: int) -> list[str]:
    more = [f"... and {len(items) - most} more"] if len(items) > most else []
    return [cut(item, 250) for item in items[:most]] + more


def cut(words: str, limit: int) -> str:
    """``words`` so that its JSON has at most ``limit`` characters."""
    whole = words
    while len(json.dumps(words)) > limit:
        words = words[: min(limit, len(words) * 9 // 10)]
    return words if words == whole else words[:-3] + "..."


# --- lock


class Lock:
    """A project's lock while it is held; its file says by which run, and if for a command."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.before = holder(descriptor)  # who held it last

    def note(self, run_id: str, work: str = "") -> None:
        said = f"{run_id}\n{work}" if work else run_id
        os.ftruncate(self.descriptor, os.pwrite(self.descriptor, said.encode(), 0))  # needs no room


def holder(lock: int) -> tuple[str, str]:
    """Run id and work, as a lock's file states them."""
    run_id, _, work = os.pread(lock, 100, 0).decode("ascii", "replace").partition("\n")
    return run_id, work


@contextlib.contextmanager
def locked(path: Path, run_id: str, seconds: float) -> Iterator[Lock]:
    """Hold the project's lock, or say who does when ``seconds`` have passed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        acquire(descriptor, run_id, time.monotonic() + seconds)
        lock = Lock(descriptor)
        lock.note(run_id)
        yield lock
    finally:
        os.close(descriptor)


def acquire(lock: int, run_id: str, deadline: float) -> None:
    """Take turns with what is short; a command is waited for only by deliveries of its run."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at_work, work = holder(lock)
            if (work and at_work != run_id) or (not work and time.monotonic() >= deadline):
                raise Refused("locked", f"Run {at_work} holds the project.") from None
            time.sleep(0.1)


# --- download


class Download:
    """An archive on its way to ``path``; a broken range goes on where it stopped."""

    def __init__(self, url: str, size: int, path: Path) -> None:
        self.url, self.size, self.path = url, size, path
        self.stop = threading.Event()
        self.ended: queue.SimpleQueue[Optional[Exception]] = queue.SimpleQueue()

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
        idle = 0
        with self.path.open("r+b") as file:
            file.seek(start)
            while start < end and not self.stop.is_set():
                try:
                    for chunk in self.chunks(start, end):
                        file.write(chunk)
                        start, idle = start + len(chunk), 0
                except Interrupted as reason:
                    idle += 1
                    message = f"Download interrupted at byte {start:,}: {reason}."
                    log(message)
                    if idle >= ATTEMPTS:
                        raise Refused("download_failed", message) from None
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
                    raise Refused("archive_changed", f"The archive has not {self.size:,} bytes.")
                while start < end and not self.stop.is_set():
                    chunk = response.read1(min(CHUNK, end - start))
                    if not chunk:
                        raise Interrupted("the connection closed early")
                    start += len(chunk)
                    yield chunk
        except urllib.error.HTTPError as error:
            error.close()
            raise http_failure(error.code) from None
        except (OSError, http.client.HTTPException) as error:
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
    return Refused(code, f"S3 refused the download (HTTP {status}, {code.replace('_', ' ')}).")


def file_digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def check_space(directory: Path, size: int, files: int) -> None:
    """Refuse when the archive and at least as much unpacked cannot fit."""
    disk = os.statvfs(directory)
    free, need = disk.f_bavail * disk.f_frsize, 2 * size
    inodes = disk.f_favail if disk.f_files else files + 16  # btrfs does not count them
    if free < need or inodes < files + 16:
        raise Refused(
            "disk_full",
            f"{free:,} bytes and {inodes:,} inodes are free, {need:,} and {files + 16:,} needed.",
        )


# --- tar


class Unpacked:
    """What is in a gzip file of one or more members, as tarfile reads it: forwards only."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.gzip, self.limit, self.at = gzip.GzipFile(fileobj=file), limit, 0
        self.last = b""

    def tell(self) -> int:
        return self.at

    def seek(self, position: int) -> None:
        if not 0 <= position - self.at < 512:
            raise invalid("has a damaged header")
        self.read(position - self.at)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        if size > CHUNK:
            raise refused("has a header that is far too long")
        try:
            self.last = self.gzip.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise invalid("is cut short, damaged, or followed by something else") from None
        self.at += len(self.last)
        if self.at > self.limit:
            raise refused("unpacks to more than its size can justify")
        return self.last

    def content(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.read(min(size, CHUNK))
            if not chunk:
                raise invalid("ends in the middle of a file")
            size -= len(chunk)
            yield chunk


class Member(NamedTuple):
    path: bytes
    kind: str
    mode: int
    size: int
    target: bytes


KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def members(stream: Unpacked) -> Iterator[Member]:
    """The members in order; the caller reads each file's content before the next."""
    try:
        file: Any = stream
        tar: Any = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        for header in iter(tar.next, None):
            tar.members.clear()  # or it remembers them all
            yield parse_member(header)
    except (tarfile.TarError, RecursionError, UnicodeError, ValueError):
        raise invalid("has a damaged header") from None
    # tarfile takes a damaged header for the end.
    if stream.last != bytes(512):
        raise invalid("has a damaged header or no end")
    if any(rest.strip(b"\0") for rest in iter(lambda: stream.read(CHUNK), b"")):
        raise invalid("has more data behind its end")


def parse_member(header: tarfile.TarInfo) -> Member:
    raw = header.name.encode("utf-8", "surrogateescape")
    target = header.linkname.encode("utf-8", "surrogateescape")
    kind = KINDS.get(header.type)
    if kind is None or header.issparse():  # devices, FIFOs, whatever comes
        raise refused(f"holds {shown(raw)}, which is no plain file, directory or link")
    if not 0 <= header.size <= (MAX_FILE_BYTES if kind == "file" else 0):
        raise refused(f"holds {shown(raw)} with a size that cannot be")
    if kind == "hardlink":
        target = clean_path(target)
    path = clean_path(raw, kind == "directory")
    return Member(path, kind, header.mode & 0o777, header.size, target)


# --- names and links


def clean_path(raw: bytes, directory: bool = False) -> bytes:
    """A path without leading "./"; empty is the root itself."""
    path = raw
    while path.startswith(b"./"):
        path = path[2:]
    if directory and raw and path in (b"", b"."):
        return b""
    parts = path.split(b"/")
    if {b"", b".", b".."} & set(parts) or b"\0" in path:
        raise refused(f"holds the path {shown(raw)}")
    if len(raw) > MAX_PATH or len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_COMPONENT:
        raise refused(f"holds a path that is too long or too deep, {shown(raw)}")
    return path


def leads_out(path: bytes, links: Mapping[bytes, bytes]) -> bool:
    """Whether following the link at ``path``, through all others, ever climbs above the root.

    A loop is no way out: the kernel follows no more than MAX_HOPS links either.
    """
    pending, at, hops = path.split(b"/")[::-1], list[bytes](), 0
    while pending and hops <= MAX_HOPS:
        part = pending.pop()
        if part == b"..":
            if not at:
                return True
            at.pop()
        elif part not in (b"", b"."):
            at.append(part)
            # Nothing of the archive is deeper; joining longer paths would be quadratic.
            link = b"/".join(at) if len(at) <= MAX_DEPTH else b""
            if link in links:
                hops += 1
                at.pop()
                pending.extend(links[link].split(b"/")[::-1])
    return False


# --- the tree

Owner = Optional[tuple[int, int]]


class Entry(NamedTuple):
    """A file or symlink, as contracts' manifest describes it."""

    mode: int
    size: int
    sha256: str
    link: Optional[bytes] = None


def link_entry(target: bytes) -> Entry:
    return Entry(LINK_MODE, 0, hashlib.sha256(target).hexdigest(), target)


def give(owner: Owner, root: int, path: bytes) -> None:
    if owner:
        os.chown(path, *owner, dir_fd=root, follow_symlinks=False)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Tree:
    """Writes members into an empty directory that nobody else can enter.

    Each name is claimed first, and symlinks are made last: nothing is written through one.
    """

    def __init__(self, root: int, owner: Owner) -> None:
        self.root, self.owner = root, owner
        self.entries: dict[bytes, Entry] = {}
        self.kinds, self.implied = {b"": "directory"}, {b""}
        self.links: dict[bytes, bytes] = {}

    def add(self, member: Member, stream: Unpacked) -> None:
        path, kind = member.path, member.kind
        if path.split(b"/", 1)[0] == META and (path, kind) not in META_MEMBERS:
            raise refused(f"holds {shown(path)}, a name of Codeferry's own")
        self.claim(path, kind)
        if kind == "file":
            self.add_file(member, stream)
        elif kind == "hardlink":
            self.add_hardlink(path, member.target)
        elif kind == "symlink":
            self.add_symlink(path, member.target)
        elif path:
            # Whatever it says, the owner must be able to enter and to remove it.
            os.chmod(path, member.mode | 0o700, dir_fd=self.root)

    def claim(self, path: bytes, kind: str) -> None:
        """Take the path, and make the directories on the way to it."""
        if path in self.kinds:
            if kind != "directory" or path not in self.implied:
                raise refused(f"holds {shown(path)} twice")
            self.implied.discard(path)
            return
        parent = path.rpartition(b"/")[0]
        if parent not in self.kinds:
            self.claim(parent, "directory")
            self.implied.add(parent)
        if self.kinds[parent] != "directory":
            raise refused(f"holds {shown(path)} below a {self.kinds[parent]}")
        self.kinds[path] = kind
        if kind == "directory":
            os.mkdir(path, 0o755, dir_fd=self.root)
            give(self.owner, self.root, path)

    def add_file(self, member: Member, stream: Unpacked) -> None:
        flags, digest = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, hashlib.sha256()
        with open(os.open(member.path, flags, 0o600, dir_fd=self.root), "wb") as file:  # noqa: PTH123
            for chunk in stream.content(member.size):
                digest.update(chunk)
                file.write(chunk)
            if self.owner:
                os.fchown(file.fileno(), *self.owner)
            os.fchmod(file.fileno(), member.mode)
        if (member.path, "file") not in META_MEMBERS:
            self.entries[member.path] = Entry(member.mode, member.size, digest.hexdigest())

    def add_hardlink(self, path: bytes, source: bytes) -> None:
        if self.kinds.get(source) not in ("file", "hardlink") or source not in self.entries:
            raise refused(f"links {shown(path)} to {shown(source)}, no earlier file of it")
        os.link(source, path, src_dir_fd=self.root, dst_dir_fd=self.root, follow_symlinks=False)
        self.entries[path] = self.entries[source]

    def add_symlink(self, path: bytes, target: bytes) -> None:
        if not target or target[:1] == b"/" or b"\0" in target or len(target) > MAX_PATH:
            raise refused(f"holds the link {shown(path)} to {shown(target)}")
        self.links[path] = target

    def finish(self) -> None:
        """Make the symlinks, once each of them is known to stay inside."""
        for path, target in self.links.items():
            if leads_out(path, self.links):
                raise refused(f"holds the link {shown(path)}, which leads out to {shown(target)}")
        for path, target in self.links.items():
            os.symlink(target, path, dir_fd=self.root)
            give(self.owner, self.root, path)
            self.entries[path] = link_entry(target)


META_MEMBERS = {(META, "directory"), (MANIFEST, "file"), (SUMS, "file")}


def extract(archive: Path, tree: Path, owner: Owner) -> dict[bytes, Entry]:
    """Unpack into the empty directory ``tree``; its files and links by path."""
    size = archive.stat().st_size
    most = min(MAX_MEMBERS, max(MEMBERS_FROM, size // BYTES_PER_MEMBER))
    with archive.open("rb") as file, opened(tree) as root:
        stream = Unpacked(file, min(MAX_BYTES, max(RATIO_FROM, MAX_RATIO * size)))
        writer = Tree(root, owner)
        for count, member in enumerate(members(stream)):
            if count >= most:
                raise refused(f"holds more than {most:,} members")
            writer.add(member, stream)
            _reached("extracting")
        writer.finish()
    return writer.entries


# --- verification


def tree_digest(entries: Mapping[bytes, Entry]) -> str:
    """As contracts' tree_digest."""
    digest = hashlib.sha256()
    for path in sorted(entries):
        entry = entries[path]
        digest.update(f"{entry.mode:o} {entry.sha256} ".encode() + path + b"\0")
    return digest.hexdigest()


def check_manifest(manifest: bytes, entries: Mapping[bytes, Entry]) -> None:
    """Refuse unless it lists exactly ``entries`` and sums them up rightly."""
    try:
        head = json.loads(manifest, object_hook=compact)
        stated: dict[bytes, Entry] = dict(head["entries"])
        summary = [head[key] for key in ("format", "digest", "release_id", "files", "bytes")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise invalid("has a manifest that cannot be read") from None
    wrong = {
        "missing": stated.keys() - entries.keys(),
        "not listed": entries.keys() - stated.keys(),
        "different": {p for p in stated.keys() & entries.keys() if stated[p] != entries[p]},
    }
    parts = [f"{what}: {first(found)}" for what, found in wrong.items() if found]
    if parts or len(stated) != len(head["entries"]):
        raise Refused("manifest_mismatch", f"The archive is not what it lists; {'; '.join(parts)}.")
    digest, size = tree_digest(entries), sum(entry.size for entry in entries.values())
    if summary != [1, digest, digest[:20], len(entries), size]:
        raise Refused("digest_mismatch", "The archive's manifest sums itself up wrongly.")


def compact(document: dict[str, Any]) -> Any:
    """A manifest's entry as a small pair while the rest is still being parsed."""
    if "path" not in document:
        return document
    path = document["path"].encode("utf-8", "surrogateescape")
    if "link" in document:
        return path, link_entry(document["link"].encode("utf-8", "surrogateescape"))
    return path, Entry(int(document["mode"], 8), document["size"], document["sha256"])


def unmet(tree: Path, payload: SimpleNamespace) -> list[str]:
    """The expected paths the release will lack; a persisted directory it will have."""
    kept = {path.rstrip("/") for path in payload.persist}
    files = [path for path in payload.expect_files if not (tree / path).is_file()]
    wanted = [path for path in payload.expect_directories if path.rstrip("/") not in kept]
    return files + [path for path in wanted if not (tree / path).is_dir()]


def damaged(release: Path, entries: Mapping[bytes, Entry]) -> list[bytes]:
    """Where a release is no longer what was unpacked; what came in addition does not count."""
    with opened(release) as root:
        return [path for path, entry in entries.items() if not intact(root, path, entry)]


def intact(root: int, path: bytes, entry: Entry) -> bool:
    try:
        if entry.link:
            return os.readlink(path, dir_fd=root) == entry.link
        # O_NONBLOCK: what was a file may by now be a FIFO.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
    except OSError:
        return False
    with open(file, "rb") as content:  # noqa: PTH123 - a descriptor
        state = os.fstat(file)
        same = state.st_mode == stat.S_IFREG | entry.mode and state.st_size == entry.size
        return same and file_digest(content) == entry.sha256


# --- to disk


def sync_filesystem(directory: Path) -> None:
    with opened(directory) as descriptor:
        if ctypes.CDLL(None).syncfs(descriptor) != 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where kernel or filesystem cannot."""
    rename, here, swap = getattr(ctypes.CDLL(None), "renameat2", None), -100, 2
    return rename is not None and rename(here, bytes(one), here, bytes(other), swap) == 0


def sync_directory(directory: Path) -> None:
    with opened(directory) as descriptor:
        os.fsync(descriptor)


def write_json(path: Path, document: Any) -> None:
    """Replace a small file; a reader or a crash sees the old or the new one."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def discard(path: Path) -> None:
    """Remove a tree; what resists stays in staging for the next run."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log(f"Could not remove all of {path.name}")


# --- the project's directory


def find_owner(user: str) -> Owner:
    """The user asked for, else the first login user; None when not root or there is none."""
    if os.geteuid() != 0:
        return None
    try:
        uid = int(os.environ.get("CODEFERRY_LOGIN_UID", "1000"))
        account = pwd.getpwnam(user) if user else pwd.getpwuid(uid)
    except KeyError:
        if user:
            raise Refused("user_unknown", f"The instance has no user {user!r}.") from None
        return None
    login = user or not account.pw_shell.endswith(("/nologin", "/false"))
    return (account.pw_uid, account.pw_gid) if login else None


@contextlib.contextmanager
def parent_of(top: Path, path: bytes, owner: Owner) -> Iterator[tuple[int, bytes]]:
    """The directory of ``path`` below ``top``, made if needed, and the last name.

    The owner can write there while we are root: no link is followed, and only what is new
    is given to them. NotADirectoryError where a link or file is in the way.
    """
    *directories, name = path.split(b"/")
    at = os.open(top, DIRECTORY)
    try:
        for directory in directories:
            make_directory(at, directory, owner)
            below = os.open(directory, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        yield at, name
    finally:
        os.close(at)


def make_directory(at: int, name: bytes, owner: Owner) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=at)
        give(owner, at, name)


class Project:
    """The releases of one project; whoever changes them holds the lock."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self.releases, self.staging = path / "releases", path / "staging"
        self.shared, self.runs = path / "shared", path / "runs"

    def create(self) -> None:
        for directory in (self.releases, self.runs, self.staging):
            directory.mkdir(parents=True, exist_ok=True)
        self.staging.chmod(0o700)
        self.runs.chmod(0o700)  # records quote what commands print
        with opened(self.path) as at:
            make_directory(at, b"shared", self.owner)

    def current(self) -> str:
        """The id of the current release, or nothing."""
        try:
            return (self.path / "current").readlink().name
        except FileNotFoundError:
            return ""

    def activated(self) -> list[str]:
        """Release ids, last activated first; a killed run could not note its switch."""
        known, current = read_json(self.path / "activations.json") or [], self.current()
        return [current] * bool(current) + [each for each in known if each != current]

    def place(self, tree: Path, release: Path, entries: Mapping[bytes, Entry]) -> list[bytes]:
        """Move the tree to the releases; the paths at which an older copy had been changed.

        An intact copy stays, so that what runs from it is not disturbed.
        """
        changed = damaged(release, entries) if release.is_dir() else []
        if changed and not exchange(tree, release):
            # No exchange on some overlays: killed here, this damaged release is missing.
            release.rename(tree.with_name("replaced"))
        if not release.is_dir():
            tree.rename(release)
        sync_directory(self.releases)
        return changed

    def switch(self, release_id: str, staging: Path) -> None:
        write_json(self.path / "activations.json", self.activated())
        link = staging / "current"
        link.symlink_to(f"releases/{release_id}")
        link.replace(self.path / "current")
        sync_directory(self.path)

    def prune(self, keep: int, staging: Path) -> None:
        """Remove what was activated longest ago; never current nor the one before it."""
        kept = [each for each in self.activated() if (self.releases / each).is_dir()]
        kept = kept[: max(2, keep)]
        write_json(self.path / "activations.json", kept)
        for release in self.releases.iterdir():
            if release.name not in kept:
                log(f"Removing release {release.name}")
                # Out of releases first, so that half a release is never seen there.
                discard(release.rename(staging / f"pruned-{release.name}"))
        prune_records(self.runs)

    def settle(self) -> None:
        """Clear what killed runs left; note a switch they could not."""
        for leftover in self.staging.iterdir():
            record = leftover / "record.json"
            done = read_json(record)
            if done and done["release_id"] == self.current():
                record.replace(self.runs / f"{done['run_id']}.json")
            log(f"Removing {leftover.name} of a killed run")
            discard(leftover)

    def persist(self, release: Path, wanted: Iterable[str]) -> list[str]:
        """Link what outlives releases to shared; the paths the release has as its own."""
        own, linked = [], list[bytes]()
        for path in sorted(os.fsencode(re.sub("/+", "/", path.rstrip("/"))) for path in wanted):
            inside = any(path.startswith(outer + b"/") for outer in linked)
            if inside or self.link(release, path):
                self.make_shared(path)
                linked.append(path)
            else:
                own.append(path.decode("utf-8", "backslashreplace"))
        return own

    def link(self, release: Path, path: bytes) -> bool:
        target = b"../" * (path.count(b"/") + 2) + b"shared/" + path
        try:
            with parent_of(release, path, self.owner) as (at, name):
                with contextlib.suppress(FileExistsError):
                    os.symlink(target, name, dir_fd=at)
                    give(self.owner, at, name)
                return os.readlink(name, dir_fd=at) == target
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTDIR):  # no link; none on the way
                raise
            return False

    def make_shared(self, path: bytes) -> None:
        """A directory, or what the owner has put in its place (a link to a larger disk)."""
        try:
            with parent_of(self.shared, path, self.owner) as (at, name):
                make_directory(at, name, self.owner)
        except NotADirectoryError:
            message = f"shared/ has no directory on the way to {shown(path)}."
            raise Refused("persist_blocked", message) from None


def prune_records(directory: Path) -> None:
    """Keep the latest; others may be at work there too."""
    records = sorted(directory.iterdir(), key=written)
    for record in records[:-RECORDS_KEPT]:
        record.unlink(missing_ok=True)


def written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


# --- one run


class Run:
    """One delivery of one archive; fills in ``result``."""

    fields: ClassVar = FIELDS

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        self.payload, self.result = payload, result
        self.owner = find_owner(payload.user)
        self.project = Project(root / payload.project, self.owner)
        self.record = self.project.runs / f"{payload.run_id}.json"
        self.doing, self.cancelled = "preparing", False

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        """The result of this delivery, or of the one that already succeeded."""
        self.project.create()
        with contextlib.ExitStack() as held:
            with self.phase("lock", "taking the project's lock"):
                path = self.project.path / ".lock"
                self.lock = held.enter_context(locked(path, self.payload.run_id, lock_seconds))
            _reached("locked")
            self.project.settle()
            recorded = read_json(self.record)
            if recorded:
                log("This run was applied before: answering from its record")
                return self.replay(recorded)
            self.deliver()
        return self.result

    def replay(self, recorded: dict[str, Any]) -> dict[str, Any]:
        return {**recorded, "replayed": True}

    def recorded(self, done: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of a result; where the run goes on it is not the last one."""
        return dict(done, status="running") if self.goes_on() else dict(done)

    def goes_on(self) -> bool:
        """Whether there is more to do once the release is current."""
        payload = self.payload
        return bool(payload.command or payload.bake_seconds or payload.health)

    def deliver(self) -> None:
        self.result["previous"] = self.project.current()
        prefix = f"{self.payload.run_id}."
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=self.project.staging))
        try:
            with self.phase("download", "downloading to staging"):
                self.download(staging / "archive.tar.gz")
            with self.phase("extract", "unpacking in staging"):
                entries = self.extract(staging / "archive.tar.gz", staging / "tree")
            with self.phase("activate", "making the release current"):
                self.activate(staging, entries)
            self.note(staging / "record.json")
            _reached("recorded")
        finally:
            discard(staging)

    def note(self, intention: Path) -> None:
        try:
            write_json(self.record, self.recorded(self.result))
        except OSError:  # a full disk has room for a rename
            intention.replace(self.record)

    def download(self, archive: Path) -> None:
        payload = self.payload
        check_space(archive.parent, payload.size, payload.files)
        log(f"Downloading {payload.size:,} bytes")
        _reached("downloading")
        Download(payload.url, payload.size, archive).run()
        with archive.open("rb") as file:
            if file_digest(file) != payload.sha256:
                raise Refused("checksum_mismatch", "The archive is not the one that was uploaded.")
        _reached("downloaded")

    def extract(self, archive: Path, tree: Path) -> dict[bytes, Entry]:
        tree.mkdir()
        if self.owner:
            os.chown(tree, *self.owner)
        entries = extract(archive, tree, self.owner)
        archive.unlink()
        _reached("extracted")
        self.verify(tree, entries)
        _reached("verified")
        return entries

    def verify(self, tree: Path, entries: Mapping[bytes, Entry]) -> None:
        payload, result, manifest = self.payload, self.result, tree / MANIFEST.decode()
        size, digest = sum(entry.size for entry in entries.values()), tree_digest(entries)
        log(f"Unpacked {len(entries):,} files, {size:,} bytes")
        result.update(files=len(entries), bytes=size, digest=digest, manifest=manifest.exists())
        if result["manifest"]:
            if manifest.stat().st_size > MAX_MANIFEST:
                raise refused("has a manifest that is far too long")
            check_manifest(manifest.read_bytes(), entries)
        if payload.digest not in ("", digest) or payload.files not in (-1, len(entries)):
            raise Refused("digest_mismatch", "The archive holds another tree than announced.")
        result["unmet"] = unmet(tree, payload)
        if result["unmet"] and payload.strict:
            raise Refused("expectation_unmet", "Expected paths do not exist in the archive.")

    def activate(self, staging: Path, entries: Mapping[bytes, Entry]) -> None:
        project, wanted, release_id = self.project, self.payload.persist, self.result["digest"][:20]
        tree, release = staging / "tree", project.releases / release_id
        own = project.persist(tree, wanted)
        sync_filesystem(tree)
        _reached("synced")
        changed = project.place(tree, release, entries)
        if changed:
            self.warn(f"The release had been changed on the instance: {first(changed)}.")
        for path in project.persist(release, wanted):  # an older copy may lack some
            if path not in own:
                self.warn(f"{path} is not kept: the release has had its own since it was made.")
        _reached("released")
        self.switch(staging, release_id)

    def switch(self, staging: Path, release_id: str) -> None:
        on_cancel(self.remember)  # from here on the run is applied, and says so
        already = self.project.current() == release_id
        status = "unchanged" if already else "applied"
        done = dict(self.result, release_id=release_id, status=status)
        write_json(staging / "record.json", self.recorded(done))  # for settle(), if we are killed
        _reached("intended")
        if not already:
            self.project.switch(release_id, staging)
        _reached("switched")
        self.result.update(done)
        log(f"Release {release_id} is current")
        try:
            self.project.prune(self.payload.keep_releases, staging)
        except OSError as error:
            self.warn(f"Old releases stay: {error.strerror}.")
        _reached("pruned")

    def remember(self, _: int, __: object) -> None:
        """Be cancelled where it can no longer stop the release, but yet its command."""
        self.cancelled = True

    def warn(self, words: str) -> None:
        log(words)
        self.result["warnings"].append(words)

    @contextlib.contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        self.doing, began = doing, time.monotonic()
        try:
            yield
        finally:
            self.result["seconds"][name] = round(time.monotonic() - began, 3)


def cancel(number: int, _: object) -> None:
    raise Refused("cancelled", f"The run was cancelled ({signal.Signals(number).name}).")


def on_cancel(action: Any) -> None:
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, action)


def answer(environ: Mapping[str, str], kind: type[Run] = Run) -> dict[str, Any]:
    """Do what the environment asks for; the result, whatever happens."""
    run_id = environ.get("CODEFERRY_RUN_ID", "")
    result = blank_result(run_id if re.fullmatch(RUN_ID, run_id) else "")
    run: Optional[Run] = None
    try:
        payload = parse_payload(environ.get("CODEFERRY_PAYLOAD", ""), kind.fields)
        result.update(run_id=payload.run_id, project=payload.project)
        run = kind(payload, Path(environ.get("CODEFERRY_ROOT", "/opt/codeferry")), result)
        return run.apply(float(environ.get("CODEFERRY_LOCK_SECONDS", "120")))
    except Exception as error:  # noqa: BLE001 - the instance must answer; told() hides nothing
        failure = told(error, run)
    return {**result, "status": "failed", "error": described(failure)}


def described(failure: Refused) -> dict[str, str]:
    return {"code": failure.code, "message": str(failure), "hint": failure.hint}


def told(error: Exception, run: Optional[Run]) -> Refused:
    """The failure in our words; a defect of ours with its traceback on stderr, less the URL."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, OSError):
        code = ERRNO_CODES.get(error.errno or 0, "system_error")
        doing = run.doing if run else "starting"
        return Refused(code, f"{error.strerror or type(error).__name__} while {doing}.")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for name in ("url", "environment_url"):
        url = getattr(run.payload, name, "") if run else ""
        trace = trace.replace(url, "<url>") if url else trace
    print(trace, file=sys.stderr)
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"line {at.lineno} of {os.path.basename(at.filename)}"  # noqa: PTH119 - a name
    return Refused("internal", f"{type(error).__name__} at {where}.")


def main(environ: Mapping[str, str]) -> int:
    """Apply, print the result line, and return the exit code: 0 or 1."""
    on_cancel(cancel)
    os.umask(0o022)
    result = answer(environ)
    print(result_line(result), flush=True)
    return 1 if result["status"] == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(os.environ))

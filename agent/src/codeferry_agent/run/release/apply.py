"""Make an archive the current release of a project on this instance."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from codeferry_agent.run.command.processes import on_cancel
from codeferry_agent.run.errors import ERRNO_CODES, RunFailed, described, first, log, reached
from codeferry_agent.run.files import (
    MANIFEST,
    discard,
    find_owner,
    read_json,
    refuse_foreign,
    sync_filesystem,
    write_json,
)
from codeferry_agent.run.payload import FIELDS, RUN_ID, parse_payload
from codeferry_agent.run.release.archive import extract
from codeferry_agent.run.release.download import Download, check_space, file_digest
from codeferry_agent.run.release.manifest import Entry, check_manifest, tree_digest, unmet
from codeferry_agent.run.release.project import Project, locked
from codeferry_agent.run.result import blank_result
from codeferry_agent.run.signature import Trust


class Run:
    """One delivery of one archive; fills in ``result``."""

    fields: ClassVar = FIELDS
    workflow: ClassVar = "sync"
    environment_url = ""

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        self.payload, self.result = payload, result
        self.owner = find_owner(payload.user)
        self.project = Project(root / payload.project, self.owner)
        self.trust = Trust(os.environ, root, self.workflow)
        self.record = self.project.runs / f"{payload.run_id}.json"
        self.doing, self.cancelled = "preparing", False

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        """The result of this delivery, or of the one that already succeeded."""
        self.project.create()
        with contextlib.ExitStack() as held:
            with self.phase("lock", "taking the project's lock"):
                path = self.project.path / ".lock"
                self.lock = held.enter_context(locked(path, self.payload.run_id, lock_seconds))
            reached("locked")
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
        return bool(payload.command or payload.install or payload.bake_seconds or payload.health)

    def deliver(self) -> None:
        self.trust.check(self.payload)
        self.trust.check_newer(self.payload)
        for directory in (self.project.path, self.project.releases, self.project.shared):
            refuse_foreign(directory.stat(), self.owner, directory.name.encode())
        self.result["previous"] = self.project.current()
        prefix = f"{self.payload.run_id}."
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=self.project.staging))
        try:
            self.prune(staging)  # a disk full of releases may have no room for one more
            with self.phase("download", "downloading to staging"):
                self.download(staging / "archive.tar.gz")
            with self.phase("extract", "unpacking in staging"):
                entries = self.extract(staging / "archive.tar.gz", staging / "tree")
            with self.phase("activate", "making the release current"):
                self.activate(staging, entries)
            self.note(staging / "record.json")
            reached("recorded")
        finally:
            discard(staging)

    def note(self, intention: Path) -> None:
        try:
            write_json(self.record, self.recorded(self.result))
        except OSError:  # a full disk has room for a rename
            intention.replace(self.record)

    def download(self, archive: Path) -> None:
        payload = self.payload
        # Without a manifest nobody knows what comes out of it; at least as much again.
        unpacked = (payload.size, 0)
        if payload.digest:
            unpacked = (payload.unpacked_bytes, payload.unpacked_files)
        check_space(archive.parent, payload.size, *unpacked)
        log(f"Downloading {payload.size:,} bytes")
        reached("downloading")
        Download(payload.url, payload.size, archive).run()
        with archive.open("rb") as file:
            if file_digest(file) != payload.sha256:
                raise RunFailed(
                    "checksum_mismatch", "The archive is not the one that was uploaded."
                )
        reached("downloaded")

    def extract(self, archive: Path, tree: Path) -> dict[bytes, Entry]:
        tree.mkdir()
        if self.owner:
            os.chown(tree, *self.owner)
        unpacked = extract(archive, tree, self.owner, self.payload)
        entries = unpacked.entries
        if unpacked.stripped:
            self.warn(f"Without their setuid, setgid or sticky bits: {first(unpacked.stripped)}.")
        archive.unlink()
        reached("extracted")
        self.verify(tree, entries)
        reached("verified")
        return entries

    def verify(self, tree: Path, entries: Mapping[bytes, Entry]) -> None:
        payload, result, manifest = self.payload, self.result, tree / MANIFEST.decode()
        size, digest = sum(entry.size for entry in entries.values()), tree_digest(entries)
        log(f"Unpacked {len(entries):,} files, {size:,} bytes")
        result.update(files=len(entries), bytes=size, digest=digest, manifest=manifest.exists())
        if result["manifest"]:
            check_manifest(manifest.read_bytes(), entries)
        if payload.digest not in ("", digest) or payload.files not in (-1, len(entries)):
            raise RunFailed("digest_mismatch", "The archive holds another tree than announced.")
        result["unmet"] = unmet(tree, payload)
        if result["unmet"] and payload.strict:
            missing = first(map(os.fsencode, result["unmet"]))
            raise RunFailed("expectation_unmet", f"The archive lacks what is expected: {missing}.")

    def activate(self, staging: Path, entries: Mapping[bytes, Entry]) -> None:
        project, wanted, release_id = self.project, self.payload.persist, self.result["digest"][:20]
        tree, release = staging / "tree", project.releases / release_id
        own = project.persist(tree, wanted)
        sync_filesystem(tree)
        reached("synced")
        wrong = project.place(tree, release, entries)
        if wrong:
            self.warn(f"The release {wrong}.")
        for path in project.persist(release, wanted):  # an older copy may lack some
            if path not in own:
                self.warn(f"{path} is not kept: the release has had its own since it was made.")
        reached("released")
        self.switch(staging, release_id)

    def switch(self, staging: Path, release_id: str) -> None:
        on_cancel(self.remember)  # from here on the run is applied, and says so
        already = self.project.current() == release_id
        status = "unchanged" if already else "applied"
        done = dict(self.result, release_id=release_id, status=status)
        write_json(staging / "record.json", self.recorded(done))  # for settle(), if we are killed
        reached("intended")
        self.trust.note(self.payload)
        if not already:
            self.project.switch(release_id, staging)
        reached("switched")
        self.result.update(done)
        log(f"Release {release_id} is current")
        self.prune(staging)
        reached("pruned")

    def prune(self, staging: Path) -> None:
        try:
            self.project.prune(self.payload.keep_releases, staging)
        except OSError as error:
            self.warn(f"Old releases stay: {error.strerror}.")

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


def answer(environ: Mapping[str, str], kind: type[Run] = Run) -> dict[str, Any]:
    """Do what the environment asks for; the result, whatever happens."""
    run_id = environ.get("CODEFERRY_RUN_ID", "")
    result = blank_result(run_id if re.fullmatch(RUN_ID, run_id) else "")
    run: Run | None = None
    try:
        payload = parse_payload(environ.get("CODEFERRY_PAYLOAD", ""), kind.fields)
        result.update(run_id=payload.run_id, project=payload.project)
        run = kind(payload, Path(environ.get("CODEFERRY_ROOT", "/opt/codeferry")), result)
        return run.apply(float(environ.get("CODEFERRY_LOCK_SECONDS", "120")))
    except Exception as error:  # noqa: BLE001 - the instance must answer; told() hides nothing
        failure = failure_from(error, run)
    return {**result, "status": "failed", "error": described(failure)}


def failure_from(error: Exception, run: Run | None) -> RunFailed:
    """The failure in our words; a defect of ours with its traceback on stderr, less the URL."""
    if isinstance(error, RunFailed):
        return error
    if isinstance(error, OSError):
        code = ERRNO_CODES.get(error.errno or 0, "system_error")
        doing = run.doing if run else "starting"
        return RunFailed(code, f"{error.strerror or type(error).__name__} while {doing}.")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for url in (getattr(run.payload, "url", ""), run.environment_url) if run else ():
        trace = trace.replace(url, "<url>") if url else trace
    print(trace, file=sys.stderr)
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"line {at.lineno} of {os.path.basename(at.filename)}"  # noqa: PTH119 - a name
    return RunFailed("internal", f"{type(error).__name__} at {where}.")

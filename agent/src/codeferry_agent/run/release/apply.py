"""Make an archive the current release of a project on this instance."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from codeferry_agent.run.errors import RunFailed, failure_from, first, log, on_cancel, reached
from codeferry_agent.run.files import (
    file_digest,
    find_owner,
    read_json,
    refuse_foreign,
    sync_filesystem,
    write_json,
)
from codeferry_agent.run.payload import FIELDS
from codeferry_agent.run.release.archive import MANIFEST, extract
from codeferry_agent.run.release.download import Download, check_space
from codeferry_agent.run.release.manifest import Entry, check_manifest, tree_digest, unmet
from codeferry_agent.run.release.project import Project, locked
from codeferry_agent.run.signature import PinnedKey


class Run:
    """One delivery of one archive; fills in ``result``."""

    fields: ClassVar = FIELDS
    workflow: ClassVar = "sync"
    environment_url = ""

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        self.payload, self.result = payload, result
        self.owner = find_owner(payload.user)
        self.project = Project(root / payload.project, self.owner)
        self.pinned_key = PinnedKey(os.environ, root, self.workflow)
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
            self.perform()
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

    def perform(self) -> None:
        self.pinned_key.check(self.payload)
        self.pinned_key.check_newer(self.payload)
        for directory in (self.project.path, self.project.releases, self.project.shared):
            refuse_foreign(directory.stat(), self.owner, directory.name.encode())
        self.result["previous"] = self.project.current()
        with self.project.staged(self.payload.run_id) as staging:
            self.prune(staging)  # a disk full of releases may have no room for one more
            with self.phase("download", "downloading to staging"):
                self.download(staging / "archive.tar.gz")
            with self.phase("extract", "unpacking in staging"):
                entries = self.extract(staging / "archive.tar.gz", staging / "tree")
            with self.phase("activate", "making the release current"):
                self.activate(staging, entries)
            self.note(staging / "record.json")
            reached("recorded")

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
        self.switch(staging, release_id, "applied")
        self.prune(staging)
        reached("pruned")

    def switch(self, staging: Path, release_id: str, status: str) -> None:
        on_cancel(self.note_cancel)  # from here on it is done, and says so
        already = self.project.current() == release_id
        status = "unchanged" if already else status
        done = dict(self.result, release_id=release_id, status=status)
        write_json(staging / "record.json", self.recorded(done))  # for settle(), if we are killed
        reached("intended")
        self.pinned_key.note(self.payload)
        if not already:
            self.project.switch(release_id, staging)
        reached("switched")
        self.result.update(done)
        log(f"Release {release_id} is current")

    def prune(self, staging: Path) -> None:
        try:
            self.project.prune(self.payload.keep_releases, staging)
        except OSError as error:
            self.warn(f"Old releases stay: {error.strerror}.")

    def note_cancel(self, _: int, __: object) -> None:
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

    def failure_from(self, error: Exception) -> RunFailed:
        """The failure that an error of this run means, without the URLs it has been given."""
        secrets = getattr(self.payload, "url", ""), self.environment_url
        return failure_from(error, self.doing, secrets)

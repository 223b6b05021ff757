"""Files and links as the manifest describes them: what was unpacked is what was packed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from codeferry_agent.run.errors import RunFailed, first, invalid
from codeferry_agent.run.files import file_digest, opened

LINK_MODE = 0o120000


class Entry(NamedTuple):
    """A file or symlink, as contracts' manifest describes it."""

    mode: int
    size: int
    sha256: str
    link: bytes | None = None


def link_entry(target: bytes) -> Entry:
    return Entry(LINK_MODE, 0, hashlib.sha256(target).hexdigest(), target)


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
        raise RunFailed(
            "manifest_mismatch", f"The archive is not what it lists; {'; '.join(parts)}."
        )
    digest, size = tree_digest(entries), sum(entry.size for entry in entries.values())
    if summary != [1, digest, digest[:20], len(entries), size]:
        raise RunFailed("digest_mismatch", "The archive's manifest sums itself up wrongly.")


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


def foreign(release: Path, entries: Mapping[bytes, Entry], uid: int) -> bool:
    """Whether anything of a release, or a directory on the way to it, is not this user's."""
    paths = {b"."}
    for path in entries:
        while path and path not in paths:
            paths.add(path)
            path = path.rpartition(b"/")[0]
    with opened(release) as root:
        try:
            return any(
                os.stat(path, dir_fd=root, follow_symlinks=False).st_uid != uid for path in paths
            )
        except OSError:
            return False  # it is damaged


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

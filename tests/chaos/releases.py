"""Invariants of an instance, whatever happened to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from codeferry_contracts import archive
from tests.unit.agent.archives import Tree, entries
from tests.unit.agent.conftest import Instance


def release_of(tree: Tree) -> str:
    return archive.summarise("demo", entries(tree)).release_id


def check_releases(instance: Instance) -> None:
    """Every release, and so the current one, is the whole tree that its name promises."""
    for release in (instance.project / "releases").iterdir():
        check_release(release)
    check_current(instance)


def check_current(instance: Instance) -> None:
    assert instance.current.readlink().parent == Path("releases")
    check_release(instance.project / "releases" / instance.current_id)


def check_release(release: Path) -> None:
    found = archive.tree_digest(_entries(release))
    assert archive.release_id(found) == release.name
    stated = json.loads((release / archive.MANIFEST_PATH).read_bytes())
    assert stated["digest"] == found
    assert (release / archive.SUMS_PATH).stat().st_size > 0


def _entries(release: Path) -> Iterator[archive.Entry]:
    """As they are on disk, without what Codeferry itself puts into a release."""
    for path in release.rglob("*"):
        name = str(path.relative_to(release))
        if path.is_symlink():
            target = str(path.readlink())
            if "shared/" not in target:
                yield archive.link_entry(name, target)
        elif path.is_file() and not name.startswith(archive.META_DIRECTORY + "/"):
            body, state = path.read_bytes(), path.stat()
            digest = hashlib.sha256(body).hexdigest()
            yield archive.Entry(name, state.st_mode & 0o7777, len(body), digest)

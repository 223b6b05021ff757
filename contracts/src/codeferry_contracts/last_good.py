"""The record of a target's last good release: for late joiners, and for a rollback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_EARLIER = 5


@dataclass(frozen=True)
class ReleaseArchive:
    """A release's archive: one version of the object at ``key``; ``size`` in bytes.

    ``unpacked`` is what its request said of what may come out of it, as a request states it;
    ``signature`` the one under which others may get it later, empty of one that is not signed.
    """

    release_id: str
    digest: str
    files: int
    key: str
    version_id: str
    size: int
    sha256: str
    unpacked: Mapping[str, int] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LastGoodRelease:
    """The release that is the right one for a target: ``releases/<target>/<project>.json``.

    ``archive`` is None when the right one is known and its archive is not there any more: who
    joins then gets nothing until the next push, rather than something else. ``earlier`` are
    the archives of the releases before, newest first. ``settled_at`` is when the run began
    that has made it the right one (ISO 8601, UTC). ``expect`` and ``options`` are that
    run's, as a request states them; ``instances`` have the release, each with the time at which
    that was noted.
    """

    project: str
    target: str
    release_id: str
    run_id: str
    settled_at: str
    archive: ReleaseArchive | None
    earlier: tuple[ReleaseArchive, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    instances: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def joined_by(self, instances: Iterable[str], noted_at: str) -> LastGoodRelease:
        """The same release, had by these instances as well."""
        joined = dict.fromkeys(instances, noted_at)
        return dataclasses.replace(self, instances={**self.instances, **joined})

    def without(self, instances: Iterable[str]) -> LastGoodRelease:
        """The same release, which these instances may not have: they count as late joiners."""
        lost = set(instances)
        left = {i: noted_at for i, noted_at in self.instances.items() if i not in lost}
        return dataclasses.replace(self, instances=left)

    def archives(self) -> tuple[ReleaseArchive, ...]:
        """Every archive that is stored, that of the right release first, each release once."""
        known: dict[str, ReleaseArchive] = {}
        for archive in (*((self.archive,) if self.archive else ()), *self.earlier):
            known.setdefault(archive.release_id, archive)
        return tuple(known.values())


def parse_last_good(document: Mapping[str, Any]) -> LastGoodRelease:
    """A LastGoodRelease from its JSON."""
    fields = dict(document)
    fields["archive"] = ReleaseArchive(**fields["archive"]) if fields["archive"] else None
    fields["earlier"] = tuple(ReleaseArchive(**archive) for archive in fields["earlier"])
    return LastGoodRelease(**fields)

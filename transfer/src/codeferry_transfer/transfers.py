"""Uploads, downloads and synchronisation of whole trees, planned first and then executed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from codeferry_transfer.destination import Destination
from codeferry_transfer.download import Downloader
from codeferry_transfer.errors import (
    BucketMissing,
    CredentialsUnusable,
    FileGone,
    FileUnfit,
    ObjectMissing,
    PatternUnmatched,
    SourceEmpty,
    TransferError,
)
from codeferry_transfer.location import Location
from codeferry_transfer.plan import (
    STAGING_PREFIX,
    TOLERANCE,
    Action,
    Entry,
    Rules,
    Verb,
    checked,
    copy_all,
    synchronise,
    unfit_as_file,
    unfit_as_key,
)
from codeferry_transfer.s3 import S3
from codeferry_transfer.selection import Selection
from codeferry_transfer.summary import Summary
from codeferry_transfer.tree import Scan
from codeferry_transfer.upload import Uploader
from codeferry_transfer.workers import Watch, Work, WorkerPool

_HOPELESS = (BucketMissing, CredentialsUnusable)
"""Errors that every other path would meet as well."""


@dataclass(frozen=True)
class Options:
    """What a transfer is about and how; ``concurrency`` None is as much as pays.

    ``content`` compares contents instead of size and time. ``delete`` removes what the
    source does not have; ``delete_all`` even when it has nothing.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    content: bool = False
    delete: bool = False
    delete_all: bool = False
    concurrency: int | None = None


class Direction(Protocol):
    """One direction: what does the single actions of a plan."""

    def copy(self, action: Action) -> None: ...
    def same(self, action: Action) -> bool: ...
    def finish(self, victims: Collection[str]) -> None: ...
    def delete(self, paths: Iterable[str]) -> None: ...
    def clean_up(self) -> None: ...
    def close(self) -> None: ...


class Transfer:
    """A plan and those who execute it: ``plan`` looks at it, ``run`` does it; one of them, once.

    ``meant`` is what chose the paths. ``one`` says that the one path was named by the user and
    not found in a listing.
    """

    def __init__(
        self,
        actions: Iterator[Action],
        direction: Direction,
        pool: WorkerPool,
        summary: Summary,
        meant: Selection,
        options: Options,
        *,
        one: bool = False,
    ) -> None:
        self._actions = actions
        self._direction = direction
        self._pool = pool
        self.summary = summary
        self._meant = meant
        self._deletes = options.delete or options.delete_all
        self._one = one
        self._victims: list[Action] = []

    def plan(self) -> Iterator[Action]:
        """Every action; where contents have to be compared, what came of it.

        Deletions come last, and only if as far as can be known nothing would fail before.
        """
        refused = False
        try:
            for action in self._actions:
                if action.verb is Verb.DELETE:
                    self._victims.append(action)
                else:
                    refused = refused or action.verb is Verb.REFUSE
                    yield self._decided(action) if action.verb is Verb.COMPARE else action
        finally:
            self._direction.close()
        self._check_patterns()
        if refused or self.summary.failures:
            self.summary.spared = len(self._victims)
        else:
            yield from self._victims

    def run(self, watch: Watch = lambda: None) -> Summary:
        """Execute it; ``watch`` is called some ten times a second in this thread.

        What fails for one path is in the summary's failures; raises what ends everything. On
        any exception, KeyboardInterrupt included, no unfinished upload and no temporary file
        is left.
        """
        try:
            self._pool.run(self._works(), watch)
            self._check_patterns()
            self._direction.finish({victim.path for victim in self._victims})
            self._delete()
        except BaseException:
            self._direction.clean_up()
            raise
        finally:
            self._direction.close()
        return self.summary

    def _works(self) -> Iterator[Work]:
        for action in self._actions:
            match action.verb:
                case Verb.SKIP:
                    self.summary.skipped += 1
                case Verb.KEEP:
                    self.summary.kept += 1
                case Verb.DELETE:
                    self._victims.append(action)
                case Verb.REFUSE:
                    self.summary.fail(
                        Verb.REFUSE, action.path, FileUnfit(f"{action.path}: {action.why}.")
                    )
                case _:
                    self.summary.plan(action)
                    yield partial(self._do, action)
        self.summary.plan_complete = True

    def _do(self, action: Action) -> None:
        try:
            if action.verb is Verb.COMPARE and self._direction.same(action):
                self.summary.unplan(action)
            else:
                self._direction.copy(action)
        except _HOPELESS:
            raise
        except (TransferError, OSError) as error:
            if isinstance(error, (FileGone, ObjectMissing)) and not self._one:
                self.summary.vanish(action)
            else:
                self.summary.fail(Verb.COPY, action.path, error)

    def _decided(self, action: Action) -> Action:
        if self._direction.same(action):
            return action._replace(verb=Verb.SKIP, why="same content")
        return action._replace(verb=Verb.COPY, why="content differs")

    def _check_patterns(self) -> None:
        """A pattern with a slip in it must not be what lets something be deleted."""
        for pattern in self._meant.unmatched:
            if self._deletes:
                self.summary.fail(Verb.DELETE, pattern, PatternUnmatched("It fits nothing."))
            else:
                self.summary.warn(pattern, "it fits nothing")

    def _delete(self) -> None:
        """Only after everything else went well: what failed may be what replaces a victim."""
        if self.summary.failures:
            self.summary.spared = len(self._victims)
        elif self._deletes:
            self._direction.delete(victim.path for victim in self._victims)


def upload_file(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """One file, or the one that a link leads to, into one object."""
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    status = source.stat()
    entries = _meant([Entry(source.name, status.st_size, status.st_mtime)], meant)
    actions = copy_all(_existing(entries, str(source)), content=options.content)
    uploader = Uploader(
        s3,
        to.bucket,
        lambda _: os.fspath(source),
        lambda _: to.path,
        pool,
        summary,
        follow=True,
    )
    return Transfer(actions, uploader, pool, summary, meant, options, one=True)


def upload_tree(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Every file under ``source``, whatever is there already."""
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    files = _existing(
        _scan_of_source(summary, meant).files(os.fspath(source)), str(source), summary
    )
    actions = copy_all(files, content=options.content)
    return Transfer(*_up(s3, source, to, actions, pool, summary), meant, options)


def sync_up(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Make the objects below ``to`` like the files under ``source``."""
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    rules = _rules(s3, options)
    scan = _scan_of_source(summary, meant, directories=rules.delete)
    files = _dated(scan.files(os.fspath(source)), summary, rules)
    objects = _meant(_objects(s3, to.directory, markers=rules.delete), meant)
    guarded = _guarded(files, str(source), options)
    actions = synchronise(guarded, objects, rules, summary.unseen)
    return Transfer(*_up(s3, source, to, actions, pool, summary), meant, options)


def download_object(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """One object into one file, or the one that a link leads to."""
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    head = s3.head_object(source.bucket, source.path)
    entries = _meant([Entry(source.name, head.size, head.modified)], meant)
    actions = copy_all(_existing(entries, str(source)), content=options.content)
    place = Path(os.path.realpath(to)) if to.is_symlink() else to
    named = (action._replace(path=place.name) for action in actions)
    destination = partial(Destination, os.fspath(place.parent))
    downloader = Downloader(s3, source.bucket, lambda _: source.path, destination, pool, summary)
    return Transfer(named, downloader, pool, summary, meant, options, one=True)


def download_tree(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Every object below ``source``, whatever is there already."""
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    objects = _existing(_meant(_objects(s3, source.directory), meant), str(source.directory))
    actions = copy_all(objects, content=options.content)
    return Transfer(*_down(s3, source, to, actions, pool, summary), meant, options)


def sync_down(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Make the files under ``to`` like the objects below ``source``.

    With ``delete`` a file gives way to a directory that the source has in its place, and a
    directory to a file.
    """
    summary, pool, meant = Summary(), _pool(s3, options), _selection(options)
    rules = _rules(s3, options)
    objects = _meant(_objects(s3, source.directory), meant)
    scan = _scan_of_destination(summary, meant, rules)
    files = _dated(scan.files(os.fspath(to)) if to.exists() else iter(()), summary, rules)
    guarded = _guarded(objects, str(source.directory), options)
    actions = synchronise(guarded, files, rules)
    return Transfer(
        *_down(s3, source, to, actions, pool, summary, clears=rules.delete), meant, options
    )


def _up(
    s3: S3,
    source: Path,
    to: Location,
    actions: Iterator[Action],
    pool: WorkerPool,
    summary: Summary,
) -> tuple[Iterator[Action], Uploader, WorkerPool, Summary]:
    root, prefix = os.fspath(source), to.directory.path
    uploader = Uploader(
        s3,
        to.bucket,
        lambda path: f"{root}/{path}",
        lambda path: prefix + path,
        pool,
        summary,
    )
    return checked(actions, unfit_as_key(prefix)), uploader, pool, summary


def _down(
    s3: S3,
    source: Location,
    to: Path,
    actions: Iterator[Action],
    pool: WorkerPool,
    summary: Summary,
    *,
    clears: bool = False,
) -> tuple[Iterator[Action], Downloader, WorkerPool, Summary]:
    prefix, destination = source.directory.path, partial(Destination, os.fspath(to), clears=clears)
    downloader = Downloader(
        s3, source.bucket, lambda path: prefix + path, destination, pool, summary
    )
    return checked(actions, unfit_as_file()), downloader, pool, summary


def _objects(s3: S3, directory: Location, *, markers: bool = False) -> Iterator[Entry]:
    """The objects below, by path; of those that only mark a directory those below it, if asked.

    Times are whole seconds, as AWS lists them and as every GET gives them: a server that
    lists fractions would otherwise be newer than what was just downloaded from it.

    Raises TransferError when S3 does not list in order: comparing side by side needs it.
    """
    start, last = len(directory.path), ""
    for page in s3.list_objects(directory.bucket, directory.path):
        for found in page.objects:
            if found.key < last:
                raise TransferError(f"The listing of {directory} is not in order.")
            last = found.key
            path, is_marker = found.key[start:], found.key.endswith("/") and not found.size
            if not is_marker or (markers and path):
                yield Entry(path, found.size, float(int(found.modified)))


def _selection(options: Options) -> Selection:
    return Selection(options.include, options.exclude)


def _meant(entries: Iterable[Entry], meant: Selection) -> Iterator[Entry]:
    return (entry for entry in entries if meant(entry.path))


def _scan_of_source(summary: Summary, meant: Selection, *, directories: bool = False) -> Scan:
    """What is left out is not known to be missing, and what cannot be seen is a failure."""

    def failed(path: str, error: OSError) -> None:
        summary.fail(Verb.COPY, path, error)

    return Scan(meant, summary.leave_out, summary.pass_over, failed, directories)


def _scan_of_destination(summary: Summary, meant: Selection, rules: Rules) -> Scan:
    """What is left out is not deleted, and its place is not taken; said when it might be missed."""

    def left_out(path: str, why: str) -> None:
        if rules.delete and not path.rpartition("/")[2].startswith(STAGING_PREFIX):
            summary.leave_out(path, why)

    def unseen(path: str, error: OSError) -> None:
        left_out(path, f"not to be read ({error.strerror})")

    return Scan(meant, left_out, failed=unseen)


def _dated(files: Iterator[Entry], summary: Summary, rules: Rules) -> Iterator[Entry]:
    """The same; those from the future are named."""
    for entry in files:
        if entry.modified > rules.now() + TOLERANCE:
            summary.warn(entry.path, "dated in the future: its content decides")
        yield entry


def _existing(
    entries: Iterator[Entry], where: str, summary: Summary | None = None
) -> Iterator[Entry]:
    """The same; raises SourceEmpty when there is none, and none that could not be looked at."""
    some = False
    for entry in entries:
        some = True
        yield entry
    if not some and not (summary and summary.failures):
        raise SourceEmpty(f"There is nothing to transfer in {where}.")


def _guarded(entries: Iterator[Entry], where: str, options: Options) -> Iterator[Entry]:
    """The same; raises SourceEmpty when there is none and therefore all would be deleted."""
    some = False
    for entry in entries:
        some = some or not entry.is_directory
        yield entry
    if not some and options.delete and not options.delete_all:
        raise SourceEmpty(
            f"There is nothing in {where}: everything on the other side would be deleted.",
            hint="If that is meant, say so with --delete-all.",
        )


def _rules(s3: S3, options: Options) -> Rules:
    return Rules(options.content, options.delete or options.delete_all, s3.now)


def _pool(s3: S3, options: Options) -> WorkerPool:
    return WorkerPool(options.concurrency, halt=s3.halt)

"""Uploads, downloads and synchronisation of whole trees, planned first and then executed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from codeferry_transfer.crew import Crew, Watch, Work
from codeferry_transfer.errors import (
    BucketMissing,
    CredentialsUnusable,
    FileUnfit,
    SourceEmpty,
    TransferError,
)
from codeferry_transfer.fetching import Fetcher
from codeferry_transfer.landing import Landing
from codeferry_transfer.location import Location
from codeferry_transfer.paths import unfit_as_file, unfit_as_key
from codeferry_transfer.plan import Action, Entry, Rules, Verb, checked, copy_all, synchronise
from codeferry_transfer.s3 import S3
from codeferry_transfer.selection import selection
from codeferry_transfer.sending import Sender
from codeferry_transfer.tally import Tally
from codeferry_transfer.tree import scan

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


class Hands(Protocol):
    """One direction: what does the single actions of a plan."""

    def copy(self, action: Action) -> None: ...
    def same(self, action: Action) -> bool: ...
    def finish(self) -> None: ...
    def delete(self, paths: Iterable[str]) -> None: ...
    def clean_up(self) -> None: ...
    def close(self) -> None: ...


class Transfer:
    """A plan and those who execute it: ``plan`` looks at it, ``run`` does it; one of them, once."""

    def __init__(self, actions: Iterator[Action], hands: Hands, crew: Crew, tally: Tally) -> None:
        self._actions = actions
        self._hands = hands
        self._crew = crew
        self.tally = tally
        self._victims: list[Action] = []

    def plan(self) -> Iterator[Action]:
        """Every action; where contents have to be compared, what came of it."""
        try:
            for action in self._actions:
                yield self._decided(action) if action.verb is Verb.COMPARE else action
        finally:
            self._hands.close()

    def run(self, watch: Watch = lambda: None) -> Tally:
        """Execute it; ``watch`` is called some ten times a second in this thread.

        What fails for one path is in the tally's failures; raises what ends everything. On
        any exception, KeyboardInterrupt included, no unfinished upload and no temporary file
        is left.
        """
        try:
            self._crew.run(self._works(), watch)
            self._hands.finish()
            self._delete()
        except BaseException:
            self._hands.clean_up()
            raise
        finally:
            self._hands.close()
        return self.tally

    def _works(self) -> Iterator[Work]:
        for action in self._actions:
            match action.verb:
                case Verb.SKIP:
                    self.tally.skipped += 1
                case Verb.DELETE:
                    self._victims.append(action)
                case Verb.REFUSE:
                    self.tally.fail(
                        Verb.REFUSE, action.path, FileUnfit(f"{action.path}: {action.why}.")
                    )
                case _:
                    self.tally.plan(action)
                    yield partial(self._do, action)
        self.tally.plan_complete = True

    def _do(self, action: Action) -> None:
        try:
            if action.verb is Verb.COMPARE and self._hands.same(action):
                self.tally.unplan(action)
            else:
                self._hands.copy(action)
        except _HOPELESS:
            raise
        except (TransferError, OSError) as error:
            self.tally.fail(Verb.COPY, action.path, error)

    def _decided(self, action: Action) -> Action:
        if self._hands.same(action):
            return action._replace(verb=Verb.SKIP, why="same content")
        return action._replace(verb=Verb.COPY, why="content differs")

    def _delete(self) -> None:
        """Only after everything else went well: what failed may be what replaces a victim."""
        if self.tally.failures:
            self.tally.spared = len(self._victims)
        elif self._victims:
            self._hands.delete(victim.path for victim in self._victims)


def upload_file(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """One file into one object."""
    tally, crew = Tally(), _crew(s3, options)
    status = source.stat()
    entry = Entry(source.name, status.st_size, status.st_mtime)
    sender = Sender(s3, to.bucket, lambda _: os.fspath(source), lambda _: to.path, crew, tally)
    return Transfer(copy_all([entry], content=options.content), sender, crew, tally)


def upload_tree(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Every file under ``source``, whatever is there already."""
    tally, crew = Tally(), _crew(s3, options)
    files = _existing(_selected(scan(os.fspath(source), tally.leave_out), options), str(source))
    actions = copy_all(files, content=options.content)
    return _up(s3, source, to, actions, crew, tally)


def sync_up(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Make the objects below ``to`` like the files under ``source``."""
    tally, crew = Tally(), _crew(s3, options)
    files = _selected(scan(os.fspath(source), tally.leave_out), options)
    objects = _selected(_objects(s3, to.directory), options)
    actions = synchronise(_guarded(files, str(source), options), objects, _rules(options))
    return _up(s3, source, to, actions, crew, tally)


def download_object(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """One object into one file."""
    tally, crew = Tally(), _crew(s3, options)
    head = s3.head_object(source.bucket, source.path)
    actions = copy_all([Entry(to.name, head.size, head.modified)], content=options.content)
    landing = partial(Landing, os.fspath(to.parent))
    fetcher = Fetcher(s3, source.bucket, lambda _: source.path, landing, crew, tally)
    return Transfer(actions, fetcher, crew, tally)


def download_tree(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Every object below ``source``, whatever is there already."""
    tally, crew = Tally(), _crew(s3, options)
    objects = _existing(_selected(_objects(s3, source.directory), options), str(source.directory))
    return _down(s3, source, to, copy_all(objects, content=options.content), crew, tally)


def sync_down(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Make the files under ``to`` like the objects below ``source``."""
    tally, crew = Tally(), _crew(s3, options)
    objects = _selected(_objects(s3, source.directory), options)
    files = _selected(scan(os.fspath(to), _ignore) if to.exists() else (), options)
    guarded = _guarded(objects, str(source.directory), options)
    return _down(s3, source, to, synchronise(guarded, files, _rules(options)), crew, tally)


def _up(
    s3: S3, source: Path, to: Location, actions: Iterator[Action], crew: Crew, tally: Tally
) -> Transfer:
    root, prefix = os.fspath(source), to.directory.path
    sender = Sender(
        s3,
        to.bucket,
        lambda path: f"{root}/{path}",
        lambda path: prefix + path,
        crew,
        tally,
    )
    return Transfer(checked(actions, unfit_as_key(prefix)), sender, crew, tally)


def _down(
    s3: S3, source: Location, to: Path, actions: Iterator[Action], crew: Crew, tally: Tally
) -> Transfer:
    prefix, landing = source.directory.path, partial(Landing, os.fspath(to))
    fetcher = Fetcher(s3, source.bucket, lambda path: prefix + path, landing, crew, tally)
    return Transfer(checked(actions, unfit_as_file()), fetcher, crew, tally)


def _objects(s3: S3, directory: Location) -> Iterator[Entry]:
    """The objects below, by path; those that only mark a directory are none.

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
            if not found.key.endswith("/") or found.size:
                yield Entry(found.key[start:], found.size, float(int(found.modified)))


def _selected(entries: Iterable[Entry], options: Options) -> Iterator[Entry]:
    meant = selection(options.include, options.exclude)
    return (entry for entry in entries if meant(entry.path))


def _existing(entries: Iterator[Entry], where: str) -> Iterator[Entry]:
    """The same; raises SourceEmpty when there is none."""
    some = False
    for entry in entries:
        some = True
        yield entry
    if not some:
        raise SourceEmpty(f"There is nothing to transfer in {where}.")


def _guarded(entries: Iterator[Entry], where: str, options: Options) -> Iterator[Entry]:
    """The same; raises SourceEmpty when there is none and therefore all would be deleted."""
    some = False
    for entry in entries:
        some = True
        yield entry
    if not some and options.delete and not options.delete_all:
        raise SourceEmpty(
            f"There is nothing in {where}: everything on the other side would be deleted.",
            hint="If that is meant, say so with --delete-all.",
        )


def _rules(options: Options) -> Rules:
    return Rules(content=options.content, delete=options.delete or options.delete_all)


def _crew(s3: S3, options: Options) -> Crew:
    return Crew(options.concurrency, halt=s3.halt)


def _ignore(path: str, why: str) -> None:
    """What is left out of a destination is not deleted, and its place is not taken."""

"""Uploads, downloads and synchronisation of whole trees, planned first and then executed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from codeferry_transfer.crew import Crew, Watch, Work
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
from codeferry_transfer.fetching import Fetcher
from codeferry_transfer.landing import Landing
from codeferry_transfer.location import Location
from codeferry_transfer.paths import unfit_as_file, unfit_as_key
from codeferry_transfer.plan import (
    TOLERANCE,
    Action,
    Entry,
    Rules,
    Verb,
    checked,
    copy_all,
    synchronise,
)
from codeferry_transfer.s3 import S3
from codeferry_transfer.selection import Selection
from codeferry_transfer.sending import Sender
from codeferry_transfer.tally import Tally
from codeferry_transfer.tree import STAGING_PREFIX, Scan

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
        hands: Hands,
        crew: Crew,
        tally: Tally,
        meant: Selection,
        options: Options,
        *,
        one: bool = False,
    ) -> None:
        self._actions = actions
        self._hands = hands
        self._crew = crew
        self.tally = tally
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
            self._hands.close()
        self._judge_patterns()
        if refused or self.tally.failures:
            self.tally.spared = len(self._victims)
        else:
            yield from self._victims

    def run(self, watch: Watch = lambda: None) -> Tally:
        """Execute it; ``watch`` is called some ten times a second in this thread.

        What fails for one path is in the tally's failures; raises what ends everything. On
        any exception, KeyboardInterrupt included, no unfinished upload and no temporary file
        is left.
        """
        try:
            self._crew.run(self._works(), watch)
            self._judge_patterns()
            self._hands.finish({victim.path for victim in self._victims})
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
                case Verb.KEEP:
                    self.tally.kept += 1
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
            if isinstance(error, (FileGone, ObjectMissing)) and not self._one:
                self.tally.vanish(action)
            else:
                self.tally.fail(Verb.COPY, action.path, error)

    def _decided(self, action: Action) -> Action:
        if self._hands.same(action):
            return action._replace(verb=Verb.SKIP, why="same content")
        return action._replace(verb=Verb.COPY, why="content differs")

    def _judge_patterns(self) -> None:
        """A pattern with a slip in it must not be what lets something be deleted."""
        for pattern in self._meant.unmatched:
            if self._deletes:
                self.tally.fail(Verb.DELETE, pattern, PatternUnmatched("It fits nothing."))
            else:
                self.tally.warn(pattern, "it fits nothing")

    def _delete(self) -> None:
        """Only after everything else went well: what failed may be what replaces a victim."""
        if self.tally.failures:
            self.tally.spared = len(self._victims)
        elif self._deletes:
            self._hands.delete(victim.path for victim in self._victims)


def upload_file(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """One file, or the one that a link leads to, into one object."""
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    status = source.stat()
    entries = _meant([Entry(source.name, status.st_size, status.st_mtime)], meant)
    actions = copy_all(_existing(entries, str(source)), content=options.content)
    sender = Sender(
        s3,
        to.bucket,
        lambda _: os.fspath(source),
        lambda _: to.path,
        crew,
        tally,
        follow=True,
    )
    return Transfer(actions, sender, crew, tally, meant, options, one=True)


def upload_tree(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Every file under ``source``, whatever is there already."""
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    files = _existing(_scan_of_source(tally, meant).files(os.fspath(source)), str(source), tally)
    actions = copy_all(files, content=options.content)
    return Transfer(*_up(s3, source, to, actions, crew, tally), meant, options)


def sync_up(s3: S3, source: Path, to: Location, options: Options) -> Transfer:
    """Make the objects below ``to`` like the files under ``source``."""
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    rules = _rules(s3, options)
    scan = _scan_of_source(tally, meant, directories=rules.delete)
    files = _dated(scan.files(os.fspath(source)), tally, rules)
    objects = _meant(_objects(s3, to.directory, markers=rules.delete), meant)
    guarded = _guarded(files, str(source), options)
    actions = synchronise(guarded, objects, rules, tally.unseen)
    return Transfer(*_up(s3, source, to, actions, crew, tally), meant, options)


def download_object(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """One object into one file, or the one that a link leads to."""
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    head = s3.head_object(source.bucket, source.path)
    entries = _meant([Entry(source.name, head.size, head.modified)], meant)
    actions = copy_all(_existing(entries, str(source)), content=options.content)
    place = Path(os.path.realpath(to)) if to.is_symlink() else to
    named = (action._replace(path=place.name) for action in actions)
    landing = partial(Landing, os.fspath(place.parent))
    fetcher = Fetcher(s3, source.bucket, lambda _: source.path, landing, crew, tally)
    return Transfer(named, fetcher, crew, tally, meant, options, one=True)


def download_tree(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Every object below ``source``, whatever is there already."""
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    objects = _existing(_meant(_objects(s3, source.directory), meant), str(source.directory))
    actions = copy_all(objects, content=options.content)
    return Transfer(*_down(s3, source, to, actions, crew, tally), meant, options)


def sync_down(s3: S3, source: Location, to: Path, options: Options) -> Transfer:
    """Make the files under ``to`` like the objects below ``source``.

    With ``delete`` a file gives way to a directory that the source has in its place, and a
    directory to a file.
    """
    tally, crew, meant = Tally(), _crew(s3, options), _selection(options)
    rules = _rules(s3, options)
    objects = _meant(_objects(s3, source.directory), meant)
    scan = _scan_of_destination(tally, meant, rules)
    files = _dated(scan.files(os.fspath(to)) if to.exists() else iter(()), tally, rules)
    guarded = _guarded(objects, str(source.directory), options)
    actions = synchronise(guarded, files, rules)
    return Transfer(
        *_down(s3, source, to, actions, crew, tally, clears=rules.delete), meant, options
    )


def _up(
    s3: S3, source: Path, to: Location, actions: Iterator[Action], crew: Crew, tally: Tally
) -> tuple[Iterator[Action], Sender, Crew, Tally]:
    root, prefix = os.fspath(source), to.directory.path
    sender = Sender(
        s3,
        to.bucket,
        lambda path: f"{root}/{path}",
        lambda path: prefix + path,
        crew,
        tally,
    )
    return checked(actions, unfit_as_key(prefix)), sender, crew, tally


def _down(
    s3: S3,
    source: Location,
    to: Path,
    actions: Iterator[Action],
    crew: Crew,
    tally: Tally,
    *,
    clears: bool = False,
) -> tuple[Iterator[Action], Fetcher, Crew, Tally]:
    prefix, landing = source.directory.path, partial(Landing, os.fspath(to), clears=clears)
    fetcher = Fetcher(s3, source.bucket, lambda path: prefix + path, landing, crew, tally)
    return checked(actions, unfit_as_file()), fetcher, crew, tally


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


def _scan_of_source(tally: Tally, meant: Selection, *, directories: bool = False) -> Scan:
    """What is left out is not known to be missing, and what cannot be seen is a failure."""

    def failed(path: str, error: OSError) -> None:
        tally.fail(Verb.COPY, path, error)

    return Scan(meant, tally.leave_out, tally.pass_over, failed, directories)


def _scan_of_destination(tally: Tally, meant: Selection, rules: Rules) -> Scan:
    """What is left out is not deleted, and its place is not taken; said when it might be missed."""

    def left_out(path: str, why: str) -> None:
        if rules.delete and not path.rpartition("/")[2].startswith(STAGING_PREFIX):
            tally.leave_out(path, why)

    def unseen(path: str, error: OSError) -> None:
        left_out(path, f"not to be read ({error.strerror})")

    return Scan(meant, left_out, failed=unseen)


def _dated(files: Iterator[Entry], tally: Tally, rules: Rules) -> Iterator[Entry]:
    """The same; those from the future are named."""
    for entry in files:
        if entry.modified > rules.now() + TOLERANCE:
            tally.warn(entry.path, "dated in the future: its content decides")
        yield entry


def _existing(entries: Iterator[Entry], where: str, tally: Tally | None = None) -> Iterator[Entry]:
    """The same; raises SourceEmpty when there is none, and none that could not be looked at."""
    some = False
    for entry in entries:
        some = True
        yield entry
    if not some and not (tally and tally.failures):
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


def _crew(s3: S3, options: Options) -> Crew:
    return Crew(options.concurrency, halt=s3.halt)

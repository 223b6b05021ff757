"""Objects into local files: whole or not at all, and proven where S3 keeps a checksum."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial

from codeferry_transfer.comparing import same_content
from codeferry_transfer.crew import Crew
from codeferry_transfer.errors import Corrupted, TransferError, resumable
from codeferry_transfer.landing import Landing
from codeferry_transfer.large import Pieces
from codeferry_transfer.large_download import LargeDownload
from codeferry_transfer.partition import PART_BYTES
from codeferry_transfer.plan import Action, Verb
from codeferry_transfer.s3 import S3, Head, Sink
from codeferry_transfer.tally import Tally

_HELD_BYTES = 256 << 10
_TRIES = 2  # of an object that arrives with other bytes than S3 keeps


class Fetcher:
    """Downloads what a plan says below a Landing; ``key_of`` maps the plan's paths to keys."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        key_of: Callable[[str], str],
        landing: Callable[[], Landing],
        crew: Crew,
        tally: Tally,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key_of = key_of
        self._make_landing = landing
        self._landing_made: Landing | None = None
        self._making = threading.Lock()
        self._crew = crew
        self._tally = tally
        self._open: set[LargeDownload] = set()

    def copy(self, action: Action) -> None:
        """Raises TransferError, OSError; a large object is only begun here."""
        if action.size > PART_BYTES:
            self._begin(action)
            return
        if action.size <= _HELD_BYTES:
            name, head = self._gathered(action)
        else:
            name, head = self._streamed(action)
        self._tally.carried(head.size)
        self._landing.settle(name, action.path, head.size, partial(self._settled, action.path))

    def _gathered(self, action: Action) -> tuple[str, Head]:
        """A small object, proven before anything of it is written."""
        pieces: list[bytes] = []
        key = self._key_of(action.path)
        head = self._proven(key, lambda piece: pieces.append(bytes(piece)), pieces.clear)
        return self._landing.store(b"".join(pieces), head.modified), head

    def _streamed(self, action: Action) -> tuple[str, Head]:
        arriving = self._landing.arriving()
        try:
            head = self._proven(self._key_of(action.path), arriving.write, arriving.restart)
            arriving.date(head.modified)
        except BaseException:
            arriving.close(forget=True)
            raise
        arriving.close(forget=False)
        return arriving.name, head

    def _settled(self, path: str, error: Exception | None) -> None:
        if error is None:
            self._tally.copied()
        else:
            self._tally.fail(Verb.COPY, path, error)

    def _proven(self, key: str, sink: Sink, restart: Callable[[], None]) -> Head:
        """Once more from the beginning when other bytes arrive than S3 keeps."""
        for _ in range(_TRIES - 1):
            try:
                return self._s3.get_object(self._bucket, key, sink)
            except Corrupted:
                restart()
        return self._s3.get_object(self._bucket, key, sink)

    def same(self, action: Action) -> bool:
        """Whether the file has the object's content already."""
        try:
            descriptor = self._landing.existing(action.path)
        except FileNotFoundError:
            return False
        try:
            return same_content(
                descriptor, self._s3.head_object(self._bucket, self._key_of(action.path))
            )
        finally:
            os.close(descriptor)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the files, each that cannot be is a failure; what they kept out comes in."""
        for path in paths:
            try:
                self._landing.remove(path)
                self._tally.deleted += 1
            except (TransferError, OSError) as error:
                self._tally.fail(Verb.DELETE, path, error)
        if self._landing_made is not None:
            self._landing_made.settle_blocked()

    def finish(self, victims: Collection[str]) -> None:
        """The last files take their places, but for those that only ``victims`` keep out."""
        if self._landing_made is not None:
            self._landing_made.settle_all()
            self._landing_made.refuse_blocked(victims)

    def clean_up(self) -> None:
        """Leave no temporary file."""
        for download in tuple(self._open):
            download.close(forget=True)

    def close(self) -> None:
        """The end of all downloads."""
        if self._landing_made is not None:
            self._landing_made.close()

    @property
    def _landing(self) -> Landing:
        """Made on first use: a rehearsal makes no directory."""
        with self._making:
            if self._landing_made is None:
                self._landing_made = self._make_landing()
            return self._landing_made

    def _begin(self, action: Action) -> None:
        download = LargeDownload(
            self._s3,
            self._bucket,
            self._key_of(action.path),
            self._landing,
            action.path,
            self._tally,
            self._open.discard,
        )
        self._open.add(download)
        try:
            numbers = download.begin()
        except BaseException as error:
            download.close(forget=not resumable(error))
            raise
        self._crew.add(Pieces(download, numbers).works())

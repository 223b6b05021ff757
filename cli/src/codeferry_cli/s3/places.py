"""Sources and destinations as they are typed, and the transfers between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codeferry_cli.errors import PlaceUnusable
from codeferry_cli.s3.options import Choice

if TYPE_CHECKING:
    from codeferry_transfer.location import Location
    from codeferry_transfer.s3 import S3, Page
    from codeferry_transfer.transfers import Transfer

UP, DOWN = "up", "down"


def remote(text: str) -> Location:
    """Raises PlaceUnusable."""
    from codeferry_transfer.errors import LocationInvalid
    from codeferry_transfer.location import parse_location

    try:
        return parse_location(text)
    except LocationInvalid as error:
        raise PlaceUnusable(error.message, hint=error.hint) from error


def local_and_remote(sides: tuple[str, str]) -> tuple[Path, Location]:
    """One directory and one place in S3, whichever came first. Raises PlaceUnusable."""
    ours = [side for side in sides if not side.startswith("s3://")]
    if len(ours) != 1:
        raise PlaceUnusable(
            "One side has to be a local directory and the other a place in S3.",
            hint="For example: ferry s3 sync ./data s3://bucket/data --direction up",
        )
    (theirs,) = (side for side in sides if side.startswith("s3://"))
    return Path(ours[0]), remote(theirs)


def upload(s3: S3, source: Path, to: Location, choice: Choice, *, recursive: bool) -> Transfer:
    """A file, or with ``recursive`` a tree. Raises PlaceUnusable."""
    from codeferry_transfer import transfers

    assert_uploadable(source, recursive=recursive)
    if source.is_dir():
        return transfers.upload_tree(s3, source, to, choice.options())
    target = to if to.name else to.below(source.name)
    return transfers.upload_file(s3, source, target, choice.options())


def assert_uploadable(source: Path, *, recursive: bool) -> None:
    """Raises PlaceUnusable when there is no such file, what is there can be read only once, or
    it is a directory without ``recursive``."""
    _assert_exists(source)
    if source.is_dir() and not recursive:
        raise PlaceUnusable(f"{source} is a directory.", hint="Carry all of it: --recursive")
    _assert_ordinary(source, "What it gives has to be in a file: cat > FILE, then upload that.")


def file_for(source: Location, to: str) -> Path:
    """The file that one object becomes: in a directory it has the object's own name.

    What ends in ``/`` is a directory, also one that is not there yet. Raises PlaceUnusable.
    """
    if not source.name:
        raise PlaceUnusable(f"{source} is a directory.", hint="Carry all of it: --recursive")
    place = Path(to)
    if to.endswith("/"):
        assert_directory(place)
    if to.endswith("/") or place.is_dir():
        return place / source.name
    _assert_ordinary(place, "Name a file, or a directory.")
    return place


def download(s3: S3, source: Location, to: str, choice: Choice, *, recursive: bool) -> Transfer:
    """An object, or with ``recursive`` all that is below. Raises PlaceUnusable."""
    from codeferry_transfer import transfers
    from codeferry_transfer.errors import ObjectMissing

    if recursive:
        assert_directory(Path(to))
        return transfers.download_tree(s3, source, Path(to), choice.options())
    target = file_for(source, to)
    try:
        return transfers.download_object(s3, source, target, choice.options())
    except ObjectMissing:
        if _has_objects(s3, source.directory):
            raise PlaceUnusable(
                f"{source} is a directory.", hint="Carry all of it: --recursive"
            ) from None
        raise


def sync_up(s3: S3, source: Path, to: Location, choice: Choice) -> Transfer:
    """A tree to where it shall be the same. Raises PlaceUnusable."""
    from codeferry_transfer import transfers

    _assert_exists(source)
    if not source.is_dir():
        raise PlaceUnusable(f"{source} is a file.", hint="To carry one file: ferry s3 upload")
    return transfers.sync_up(s3, source, to, choice.options())


def sync_down(s3: S3, source: Location, to: Path, choice: Choice) -> Transfer:
    """All below ``source`` to a directory that shall be the same. Raises PlaceUnusable."""
    from codeferry_transfer import transfers

    assert_directory(to)
    return transfers.sync_down(s3, source, to, choice.options())


def _assert_exists(source: Path) -> None:
    try:
        source.stat()
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        message = f"There is no {source}." if missing else f"{source}: {error.strerror}."
        raise PlaceUnusable(message) from error


def assert_directory(to: Path) -> None:
    """Raises PlaceUnusable when something else is there."""
    if to.exists() and not to.is_dir():
        raise PlaceUnusable(f"{to} is a file, and a directory is needed.")


def _assert_ordinary(place: Path, hint: str) -> None:
    """Nothing, a file or a directory, and no pipe or device."""
    from codeferry_transfer.tree import kind_of

    if place.exists() and not place.is_file() and not place.is_dir():
        raise PlaceUnusable(f"{place} is {kind_of(place.stat().st_mode)}.", hint=hint)


def _has_objects(s3: S3, directory: Location) -> bool:
    page = next(s3.list_objects(directory.bucket, directory.path))
    return bool(page.objects)


def list_pages(s3: S3, place: Location, *, one_level: bool) -> Iterator[Page]:
    """The object at the place itself, and those below: never what only begins like it."""
    from codeferry_transfer.errors import ObjectMissing
    from codeferry_transfer.s3 import Listed, Page

    if place.name:
        try:
            head = s3.head_object(place.bucket, place.path)
            yield Page([Listed(place.path, head.size, head.modified, head.etag)], [])
        except ObjectMissing:
            pass
    yield from s3.list_objects(
        place.bucket, place.directory.path, delimiter="/" if one_level else ""
    )

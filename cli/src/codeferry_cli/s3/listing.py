"""`ferry s3 list`: every object below a place, whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codeferry_cli.output import Output
from codeferry_cli.s3.errors import NothingFound
from codeferry_contracts import formatting
from codeferry_contracts.escaping import one_line

if TYPE_CHECKING:
    from codeferry_transfer.location import Location
    from codeferry_transfer.s3 import S3, Listed, Page
    from codeferry_transfer.selection import Selection


def show_listing(
    s3: S3, place: Location, meant: Selection, output: Output, *, one_level: bool
) -> None:
    """A line for each object, as its page arrives. Raises NothingFound when there is none."""
    objects: list[dict[str, Any]] = []
    directories: list[str] = []
    count = size = 0
    for page in _pages(s3, place, one_level=one_level):
        for prefix in page.prefixes:
            output.line(f"{'':>10}  {'':23}  {one_line(prefix)}")
            directories.append(prefix)
        for found in page.objects:
            if meant(found.key.removeprefix(place.directory.path)):
                count, size = count + 1, size + found.size
                output.line(_line(found))
                if output.json:
                    objects.append(_json(found))
    for pattern in meant.unmatched:
        output.note(f"warning: {one_line(pattern)}: it fits nothing")
    if not count and not directories and place.path:
        raise NothingFound(f"There is nothing in {place}.")
    output.line(f"{formatting.counted(count, 'object')}, {formatting.size(size)}.")
    output.document(
        {
            "location": str(place),
            "count": count,
            "bytes": size,
            "directories": directories,
            "objects": objects,
        }
    )


def _pages(s3: S3, place: Location, *, one_level: bool) -> Iterator[Page]:
    """What is at the place itself, and what is below: never what only begins like it."""
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


def _line(found: Listed) -> str:
    moment = formatting.when(datetime.fromtimestamp(found.modified, UTC))
    return f"{formatting.size(found.size):>10}  {moment}  {one_line(found.key)}"


def _json(found: Listed) -> dict[str, Any]:
    return {
        "key": found.key,
        "size": found.size,
        "modified": datetime.fromtimestamp(found.modified, UTC).isoformat(),
        "etag": found.etag.strip('"'),
    }

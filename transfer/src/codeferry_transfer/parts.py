"""Cut what is uploaded into parts that S3 accepts: streams of unknown length, and large objects.

An object of known size is cut the same way every time, so that its transfer can be resumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MIB = 1 << 20
# Five are in memory at a time (see upload_stream), beside what 100,000 files take to pack.
PART_SIZE = 8 * MIB
SMALLEST_PART = 5 * MIB  # S3's limits; the smallest is for all parts but the last
LARGEST_PART = 5 << 30
MOST_PARTS = 10_000

_GROWS_EVERY = 900


def part_size_of(number: int, first: int) -> int:
    """How large part ``number`` (from 1) is when the first has ``first`` bytes.

    It doubles every 900 parts: nobody knows a stream's length beforehand, and so 10,000
    parts that begin with 5 MiB hold 5 TiB, while the usual ones stay small in memory.
    """
    return min(first << ((number - 1) // _GROWS_EVERY), LARGEST_PART)


def cut(chunks: Iterable[bytes], first: int) -> Iterator[bytes]:
    """The same bytes in parts of ``part_size_of``; at least one part, the last may be shorter.

    Keeps no reference to a part it has given out.
    """
    number, held, size = 1, list[bytes | memoryview](), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while size + len(rest) > (wanted := part_size_of(number, first)):
            taken = wanted - size
            held.append(rest[:taken])
            yield _emptied(held)
            rest, size, number = rest[taken:], 0, number + 1
        if rest:
            held.append(bytes(rest) if len(rest) < len(chunk) else chunk)
            size += len(rest)
    yield _emptied(held)


def _emptied(held: list[bytes | memoryview]) -> bytes:
    """All of it as one, and nothing of it left in the list."""
    part = b"".join(held)
    held.clear()
    return part


_COMPOSITE = re.compile(r".+-(\d+)")
# What other programs cut objects into.
_USUAL = (5, 8, 15, 16, 32, 50, 64, 100, 128)


def part_bytes(size: int) -> int:
    """The size of every part but the last of an object of ``size`` bytes: whole MiB."""
    least = -(-size // MOST_PARTS)
    return max(PART_SIZE, -(-least // MIB) * MIB)


def part_count(size: int, part: int) -> int:
    return max(1, -(-size // part))


def span(number: int, size: int, part: int) -> tuple[int, int]:
    """Offset and length of part ``number``, from 1."""
    offset = (number - 1) * part
    return offset, min(part, size - offset)


def possible_parts(size: int, checksum: str) -> list[int]:
    """The part sizes that fit a composite checksum (``<base64>-<parts>``) of such an object."""
    found = _COMPOSITE.fullmatch(checksum)
    if not found:
        return []
    sizes = dict.fromkeys([part_bytes(size), *(number * MIB for number in _USUAL)])
    return [part for part in sizes if part_count(size, part) == int(found.group(1))]

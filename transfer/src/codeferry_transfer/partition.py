"""How a large object of known size is cut: the same way every time, so that it can be resumed."""

from __future__ import annotations

import re

from codeferry_transfer.parts import MIB, MOST_PARTS

PART_BYTES = 8 * MIB
"""What is larger is carried in pieces, each checked and tried again alone."""

_COMPOSITE = re.compile(r".+-(\d+)")
# What other programs cut objects into.
_USUAL = (5, 8, 15, 16, 32, 50, 64, 100, 128)


def part_bytes(size: int) -> int:
    """The size of every part but the last of an object of ``size`` bytes: whole MiB."""
    least = -(-size // MOST_PARTS)
    return max(PART_BYTES, -(-least // MIB) * MIB)


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

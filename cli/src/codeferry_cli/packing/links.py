"""Whether a symlink stays inside the tree that travels."""

# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH115

from __future__ import annotations

import os

_MOST_HOPS = 40  # as the kernel has it; a longer chain is a loop, and a loop stays inside


def leaves_tree(root: bytes, path: bytes, target: bytes) -> str | None:
    """Why the link at ``path`` (relative to ``root``) would lead out of the tree; None if not.

    Every ``..`` and every link on the way is followed as the kernel would on the instance,
    so a target that goes out and comes back in leaves too.
    """
    if target.startswith(b"/"):
        return "is absolute"
    place = path.split(b"/")[:-1]
    ahead = target.split(b"/")[::-1]
    hops = 0
    while ahead and hops < _MOST_HOPS:
        part = ahead.pop()
        if part == b"..":
            if not place:
                return "leads out of the project"
            place.pop()
        elif part not in (b"", b"."):
            place.append(part)
            onward = _link_at(root, place)
            if onward is not None:
                hops += 1
                if onward.startswith(b"/"):
                    return "leads to an absolute link"
                place.pop()
                ahead.extend(onward.split(b"/")[::-1])
    return None


def _link_at(root: bytes, place: list[bytes]) -> bytes | None:
    try:
        return os.readlink(b"/".join((root, *place)))
    except OSError:
        return None  # no link, or nothing there: a link may dangle inside the tree

"""Whether a symlink stays inside the tree that travels."""

from __future__ import annotations

from collections.abc import Callable

_MOST_HOPS = 40  # as the kernel has it; a longer chain is a loop, and a loop stays inside


def leaves_tree(path: bytes, target: bytes, link_at: Callable[[bytes], bytes | None]) -> str | None:
    """Why the link at ``path`` (relative to the root) would lead out of the tree; None if not.

    Every ``..`` and every link on the way (``link_at`` gives a path's target, if it is one) is
    followed as the kernel would, so a target that goes out and comes back in leaves too.
    """
    if target.startswith(b"/"):
        return "is absolute"
    place = path.split(b"/")[:-1]
    ahead = target.split(b"/")[::-1]
    hops = 0
    while ahead and hops <= _MOST_HOPS:
        part = ahead.pop()
        if part == b"..":
            if not place:
                return "leads out of the project"
            place.pop()
        elif part not in (b"", b"."):
            place.append(part)
            onward = link_at(b"/".join(place))
            if onward is not None:
                hops += 1
                if onward.startswith(b"/"):
                    return "leads to an absolute link"
                place.pop()
                ahead.extend(onward.split(b"/")[::-1])
    return None

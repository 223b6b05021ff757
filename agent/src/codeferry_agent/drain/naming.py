"""Which bucket and key a path below the root means."""

from __future__ import annotations

import re
from collections.abc import Mapping

from codeferry_agent.drain.errors import NameImpossible

_KEY_BYTES = 1024
_BUCKET = re.compile(r"(?!xn--|sthree-)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)")
_NOT_IN_BUCKETS = re.compile(r"\.\.|\d+\.\d+\.\d+\.\d+$")


def bucket_of(directory: str, mapped: Mapping[str, str]) -> str:
    """The bucket that a directory in the root stands for: what it is ``mapped`` to, or its
    name with ``-`` for ``_``.

    Raises NameImpossible when no bucket can have that name.
    """
    name = mapped.get(directory) or directory.replace("_", "-")
    if not is_bucket_name(name):
        raise NameImpossible(
            f"No bucket can be called like the directory {shown(directory)}.",
            hint="Rename the directory, or give --bucket-map OLD=NEW.",
        )
    return name


def is_bucket_name(name: str) -> bool:
    """Whether S3 allows it as the name of a bucket (without access point ARNs)."""
    return bool(_BUCKET.fullmatch(name)) and not _NOT_IN_BUCKETS.search(name)


def key_of(path: str) -> str:
    """The key of ``<bucket>/<key…>``. Raises NameImpossible when S3 cannot hold it."""
    key = path.partition("/")[2]
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise NameImpossible(
            f"The name of {shown(path)} is not valid UTF-8, and S3 keys are.",
            hint="Rename the file.",
        ) from None
    if size > _KEY_BYTES:
        raise NameImpossible(
            f"The key of {shown(path)} has {size} bytes, and S3 keys at most {_KEY_BYTES}.",
            hint="Move the file to a shorter path.",
        )
    return key


def shown(path: str) -> str:
    """A path for a message: on one line, and not without end."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    quoted = repr(text)
    return quoted if len(quoted) <= 300 else f"{quoted[:150]}…{quoted[-149:]}"

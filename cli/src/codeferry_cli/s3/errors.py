"""What `ferry s3` itself can find wrong.

FerryError
├── PlaceUnusable       2  source or destination cannot be what was asked for
├── S5cmdMissing        3  --use-s5cmd, and there is none
├── NothingFound        1  there is nothing to list
└── ObjectsFailed       1  some objects could not be dealt with
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codeferry_cli.errors import CONFIGURATION, USAGE, FerryError
from codeferry_contracts.errors import CodeferryError


class PlaceUnusable(FerryError):
    code = "place_unusable"
    exit_code = USAGE


class S5cmdMissing(FerryError):
    code = "s5cmd_missing"
    exit_code = CONFIGURATION


class ObjectsFailed(FerryError):
    """Some paths failed; ``details`` list them beside what went well."""

    code = "objects_failed"


class NothingFound(FerryError):
    code = "nothing_found"


@contextmanager
def own_remedies() -> Iterator[None]:
    """Of a bucket that is missing: here it is not a stage's, which would have to be deployed."""
    try:
        yield
    except CodeferryError as error:
        if error.code == "bucket_missing":
            error.hint = "Check the name, --profile, --region and --endpoint-url."
        raise

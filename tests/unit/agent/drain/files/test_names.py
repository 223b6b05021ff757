"""The bucket and key that a path means."""

from __future__ import annotations

import os

import pytest

from codeferry_agent.drain.errors import NameImpossible, SettingsInvalid
from codeferry_agent.drain.files.scan import bucket_of, key_of, shown
from codeferry_agent.drain.settings import account_of, bucket_map


@pytest.mark.parametrize(
    ("directory", "bucket"),
    [
        ("results", "results"),
        ("distributed_colony", "distributed-colony"),
        ("my.bucket", "my.bucket"),
        ("logs-1.2.3.4", "logs-1.2.3.4"),
        ("Old", "new-bucket"),
    ],
)
def test_a_directory_is_a_bucket(directory: str, bucket: str) -> None:
    """Underscores become dashes, and a mapped directory is what it is mapped to."""
    assert bucket_of(directory, {"Old": "new-bucket"}) == bucket


@pytest.mark.parametrize(
    "directory",
    ["Upper", "ab", "a" * 64, "-a-b", "a b", "10.0.0.1", "a..b", "xn--a-b", "a-s3alias", "_ab", ""],
)
def test_a_directory_that_no_bucket_can_be_called_like(directory: str) -> None:
    """What S3 does not allow as a bucket's name is refused by name, with the way out."""
    with pytest.raises(NameImpossible, match="--bucket-map") as error:
        bucket_of(directory, {})
    assert directory in str(error.value)


@pytest.mark.parametrize(
    "key", ["a/b", "|", "new\nline", "\"quote'", "-leading", "\u00e4", "a" * 1024, " ", "%2F"]
)
def test_a_path_is_its_key(key: str) -> None:
    """Whatever a file may be called that S3 can hold is its key, byte for byte."""
    assert key_of(f"bucket/{key}") == key


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a" * 1025, "\u00e4".encode() * 513])
def test_a_name_that_no_key_can_have(name: bytes) -> None:
    """Invalid UTF-8 and more than 1,024 bytes are refused."""
    with pytest.raises(NameImpossible):
        key_of("bucket/" + os.fsdecode(name))


def test_a_path_in_a_message_is_one_short_line() -> None:
    """Newlines and broken bytes are escaped, long paths shortened in the middle."""
    assert shown("a\nb" + os.fsdecode(b"\xff")) == r"'a\nb\\xff'"
    assert len(shown("x" * 5000)) == 300


@pytest.mark.parametrize("value", ["a", "=b", "a=", "a=B_"])
def test_a_bucket_map_that_makes_no_sense(value: str) -> None:
    """Both sides have to be there, and the new one has to be a possible bucket."""
    with pytest.raises(SettingsInvalid):
        bucket_map([value])


def test_an_owner_is_an_account() -> None:
    """The owner of a bucket is a number of twelve digits."""
    assert account_of(["b=111122223333"]) == {"b": "111122223333"}
    with pytest.raises(SettingsInvalid):
        account_of(["b=1111"])

"""The XML of S3: answers read, requests written."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, ParseError, fromstring

from codeferry_transfer.errors import answer_invalid
from codeferry_transfer.s3.values import (
    Listed,
    Page,
    SentPart,
    Undeleted,
    Unfinished,
    whole_number,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_UNSAYABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# S3 writes no declarations and no NUL (UTF-16 has some), and a page of it has some 20,000 tags:
# what goes beyond is memory that somebody else decides about.
_FOREIGN = (b"\0", b"<!DOCTYPE", b"<!ENTITY")
_MOST_TAGS = 200_000
_XMLNS = f' xmlns="{_NAMESPACE}"'.encode()


def error(body: bytes) -> dict[str, str]:
    """What an error answer says, by element name; empty when it is no error in XML."""
    root = _root(body) if body else None
    if root is None or _name(root) != "Error":
        return {}
    return {_name(child): child.text or "" for child in root}


def parsed(body: bytes, name: str) -> Element:
    """The root of an answer, which is called ``name``; names without namespace.

    Raises AnswerInvalid: an empty list is nothing that any page of a proxy may say.
    """
    root = _root(body.replace(_XMLNS, b"", 1))
    if root is None or root.tag != name:
        raise answer_invalid(f"a {name} was asked for")
    return root


def _root(body: bytes) -> Element | None:
    if any(mark in body for mark in _FOREIGN) or body.count(b"<") > _MOST_TAGS:
        return None
    try:
        return fromstring(body)  # noqa: S314 - without declarations nothing expands
    except (ParseError, ValueError, LookupError):  # the latter two of encodings
        return None


def reading(read: Callable[_P, _T]) -> Callable[_P, _T]:
    """What reads an answer raises AnswerInvalid when something is missing or of another kind."""

    @wraps(read)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return read(*args, **kwargs)
        except (ValueError, LookupError, OverflowError) as error:
            raise answer_invalid("something is missing from it, or of another kind") from error

    return wrapped


@reading
def required(root: Element, name: str) -> str:
    """The text of an element that must be there. Raises AnswerInvalid."""
    found = text(root, name)
    if not found:
        raise ValueError(name)
    return found


def text(element: Element, name: str) -> str:
    return element.findtext(name) or ""


@reading
def page(root: Element, prefix: str) -> Page:
    """The objects and prefixes of a ListObjectsV2 answer, all below ``prefix``."""
    encoded = text(root, "EncodingType") == "url"
    objects = [_listed(entry, encoded) for entry in root.iterfind("Contents")]
    prefixes = [
        _decoded(text(entry, "Prefix"), encoded) for entry in root.iterfind("CommonPrefixes")
    ]
    _require_below(prefix, [*(each.key for each in objects), *prefixes])
    return Page(objects, prefixes)


def _require_below(prefix: str, names: Iterable[str]) -> None:
    """What was not asked for would be taken for something else, and perhaps be deleted."""
    if not all(name and name.startswith(prefix) for name in names):
        raise ValueError(prefix)


def _listed(entry: Element, encoded: bool) -> Listed:
    found = {child.tag: child.text or "" for child in entry}
    return Listed(
        _decoded(found["Key"], encoded),
        whole_number(found["Size"]),
        moment(found["LastModified"]),
        found.get("ETag", ""),
    )


def _decoded(name: str, encoded: bool) -> str:
    return unquote_plus(name, errors="surrogateescape") if encoded else name


def moment(iso: str) -> float:
    """Seconds since 1970 of S3's ISO 8601; 0 when it says none."""
    if not iso:
        return 0.0
    said = datetime.fromisoformat(iso)
    return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()


@reading
def sent_parts(root: Element) -> list[SentPart]:
    """The parts of a ListParts answer."""
    return [_sent_part(entry) for entry in root.iterfind("Part")]


def _sent_part(entry: Element) -> SentPart:
    checksum = text(entry, "ChecksumSHA256")
    return SentPart(
        whole_number(text(entry, "PartNumber")),
        whole_number(text(entry, "Size")),
        text(entry, "ETag"),
        b64decode(checksum, validate=True) if checksum else None,
    )


@reading
def unfinished(root: Element, prefix: str) -> list[Unfinished]:
    """The uploads of a ListMultipartUploads answer, all below ``prefix``."""
    encoded = text(root, "EncodingType") == "url"
    uploads = [
        Unfinished(
            _decoded(text(entry, "Key"), encoded),
            required(entry, "UploadId"),
            moment(text(entry, "Initiated")),
        )
        for entry in root.iterfind("Upload")
    ]
    _require_below(prefix, (upload.key for upload in uploads))
    return uploads


def marker(root: Element, name: str) -> str:
    """What a page says the next one begins after; keys are spelled as the page spells keys."""
    encoded = text(root, "EncodingType") == "url" and name == "NextKeyMarker"
    return _decoded(text(root, name), encoded)


def undeleted(root: Element) -> list[Undeleted]:
    """The keys that a DeleteObjects answer says were not deleted."""
    return [Undeleted(text(e, "Key"), text(e, "Code")) for e in root.iterfind("Error")]


def completion(parts: Sequence[SentPart]) -> bytes:
    """The body of CompleteMultipartUpload."""
    inside = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{_escaped(part.etag)}</ETag>"
        + (f"<ChecksumSHA256>{base64(part.sha256)}</ChecksumSHA256>" if part.sha256 else "")
        + "</Part>"
        for part in parts
    )
    return (
        f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{inside}</CompleteMultipartUpload>'.encode()
    )


def can_say(key: str) -> bool:
    """Whether XML 1.0 has all of its characters: one it has not makes S3 refuse the request."""
    return not _UNSAYABLE.search(key)


def deletion(keys: Iterable[str]) -> bytes:
    """The body of DeleteObjects; only what could not be deleted is to be answered."""
    inside = "".join(f"<Object><Key>{_escaped(key)}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{_NAMESPACE}">{inside}<Quiet>true</Quiet></Delete>'.encode()


def base64(raw: bytes) -> str:
    return b64encode(raw).decode()


# Line ends would be normalised if they were not references.
_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;", "\n": "&#10;"})


def _escaped(text: str) -> str:
    """As XML text. Not the standard library's: importing that brings a whole HTTP client."""
    return text.translate(_REFERENCES)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]

"""The XML of S3: answers read, requests written."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, ParseError, fromstring

from codeferry_transfer.errors import TransferError
from codeferry_transfer.s3.values import Listed, Page, SentPart, Undeleted, Unfinished

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_UNSAYABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_XMLNS = f' xmlns="{_NAMESPACE}"'.encode()


def error(body: bytes) -> dict[str, str]:
    """What an error answer says, by element name; empty when it is no error in XML."""
    try:
        root = fromstring(body) if body else None  # noqa: S314 - expat limits expansion
    except ParseError:
        return {}
    if root is None or _name(root) != "Error":
        return {}
    return {_name(child): child.text or "" for child in root}


def parsed(body: bytes) -> Element:
    """The root of an answer, names without namespace. Raises TransferError when it is not XML."""
    try:
        return fromstring(body.replace(_XMLNS, b"", 1))  # noqa: S314 - expat limits expansion
    except ParseError as problem:
        raise TransferError("S3 gave an answer that is not XML.") from problem


def text(element: Element, name: str) -> str:
    return element.findtext(name) or ""


def page(root: Element) -> Page:
    """The objects and prefixes of a ListObjectsV2 answer."""
    encoded = text(root, "EncodingType") == "url"
    objects = [_listed(entry, encoded) for entry in root.iterfind("Contents")]
    prefixes = [
        _decoded(text(entry, "Prefix"), encoded) for entry in root.iterfind("CommonPrefixes")
    ]
    return Page(objects, prefixes)


def _listed(entry: Element, encoded: bool) -> Listed:
    found = {child.tag: child.text or "" for child in entry}
    return Listed(
        _decoded(found["Key"], encoded),
        int(found["Size"]),
        moment(found["LastModified"]),
        found.get("ETag", ""),
    )


def _decoded(name: str, encoded: bool) -> str:
    return unquote_plus(name, errors="surrogateescape") if encoded else name


def moment(iso: str) -> float:
    """Seconds since 1970 of S3's ISO 8601; 0 when it says none."""
    return datetime.fromisoformat(iso).timestamp() if iso else 0.0


def sent_parts(root: Element) -> list[SentPart]:
    """The parts of a ListParts answer."""
    return [_sent_part(entry) for entry in root.iterfind("Part")]


def _sent_part(entry: Element) -> SentPart:
    checksum = text(entry, "ChecksumSHA256")
    return SentPart(
        int(text(entry, "PartNumber")),
        int(text(entry, "Size")),
        text(entry, "ETag"),
        b64decode(checksum) if checksum else None,
    )


def unfinished(root: Element) -> list[Unfinished]:
    """The uploads of a ListMultipartUploads answer."""
    encoded = text(root, "EncodingType") == "url"
    return [
        Unfinished(
            _decoded(text(entry, "Key"), encoded),
            text(entry, "UploadId"),
            moment(text(entry, "Initiated")),
        )
        for entry in root.iterfind("Upload")
    ]


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

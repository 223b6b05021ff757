"""The documents of the local SSM and their versions."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import yaml

from codeferry_local.ssm.documents import content as document_content
from codeferry_local.ssm.documents.content import Content
from codeferry_local.ssm.errors import (
    DocumentAlreadyExists,
    DuplicateDocumentContent,
    DuplicateDocumentVersionName,
    InvalidDocument,
    InvalidDocumentOperation,
    InvalidDocumentVersion,
    MaxDocumentSizeExceeded,
    ValidationException,
)

SIZE_LIMIT = 64 * 1024
_RESERVED = ("aws", "amazon", "amzn", "ssm")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a document: the text as it was sent, and what it means."""

    number: int
    text: str
    format: str
    content: Content
    created: datetime
    name: str | None = None

    @property
    def sha256(self) -> str:
        """The hash that SendCommand can pin, over the text's UTF-8 bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def in_format(self, wanted: str | None) -> str:
        """The text in the wanted format; verbatim when that is its own."""
        if wanted in (None, self.format):
            return self.text
        value = document_content.load(self.text, self.format)
        return yaml.safe_dump(value) if wanted == "YAML" else json.dumps(value, indent=2)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document; a new one replaces it at each change, so readers need no lock."""

    name: str
    versions: dict[int, Version]
    default: int = 1
    tags: dict[str, str] = field(default_factory=dict)
    target_type: str | None = None
    display_name: str | None = None

    @property
    def latest(self) -> int:
        """The number of the newest version."""
        return max(self.versions)

    def version(self, wanted: str | None = None, name: str | None = None) -> Version:
        """A version by number, ``$LATEST``, ``$DEFAULT`` (the default) or version name.

        Raises InvalidDocumentVersion.
        """
        for version in self.versions.values():
            if name is not None and version.name == name:
                return version
        numbers = {"$LATEST": self.latest, "$DEFAULT": self.default, None: self.default}
        number = numbers.get(wanted) or int(wanted or 0)
        if name is not None or number not in self.versions:
            raise InvalidDocumentVersion(f"Document {self.name} has no such version.")
        return self.versions[number]


class DocumentStore:
    """Every document by name; safe to use from many threads."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._lock = threading.Lock()

    def all(self) -> list[Document]:
        """Every document."""
        with self._lock:
            return list(self._documents.values())

    def get(self, name_or_arn: str) -> Document:
        """The document of this name, or of the name in this ARN; raises InvalidDocument."""
        name = name_or_arn.rpartition("document/")[2]
        with self._lock:
            return self._known(name)

    def create(self, request: dict[str, Any]) -> Document:
        """A new document from a CreateDocument request."""
        name = request["Name"]
        _refuse_reserved(name)
        first = _version(request, 1)
        document = Document(
            name=name,
            versions={1: first},
            tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", [])},
            target_type=request.get("TargetType"),
            display_name=request.get("DisplayName"),
        )
        with self._lock:
            if name in self._documents:
                raise DocumentAlreadyExists(f"Document with name {name} already exists.")
            self._documents[name] = document
        return document

    def update(self, request: dict[str, Any]) -> Document:
        """A further version from an UpdateDocument request; the default stays as it is."""
        with self._lock:
            document = self._known(request["Name"])
            request.setdefault("DocumentFormat", document.versions[document.latest].format)
            base = document.version(request.get("DocumentVersion", "$LATEST"))
            if base.number != document.latest:
                raise InvalidDocumentVersion("Only the latest version can be updated.")
            added = _version(request, document.latest + 1)
            _refuse_repetition(document, added)
            versions = {**document.versions, added.number: added}
            self._documents[document.name] = replace(document, versions=versions)
            return self._documents[document.name]

    def set_default(self, name: str, wanted: str) -> Document:
        """The document with another default version."""
        with self._lock:
            document = self._known(name)
            changed = replace(document, default=document.version(wanted).number)
            self._documents[name] = changed
            return changed

    def delete(self, name: str, wanted: str | None = None, version_name: str | None = None) -> None:
        """Delete the document, or one version that is not its default."""
        with self._lock:
            document = self._known(name)
            if wanted is None and version_name is None:
                del self._documents[name]
                return
            number = document.version(wanted, version_name).number
            if number == document.default:
                raise InvalidDocumentOperation("The default version cannot be deleted.")
            versions = {key: kept for key, kept in document.versions.items() if key != number}
            self._documents[name] = replace(document, versions=versions)

    def tag(self, name: str, tags: dict[str, str]) -> None:
        """Add or overwrite tags of a document."""
        with self._lock:
            document = self._known(name)
            self._documents[name] = replace(document, tags={**document.tags, **tags})

    def _known(self, name: str) -> Document:
        if name not in self._documents:
            raise InvalidDocument(f"Document with name {name} does not exist.")
        return self._documents[name]


def _version(request: dict[str, Any], number: int) -> Version:
    text, document_format = request["Content"], request.get("DocumentFormat", "JSON")
    if len(text.encode()) > SIZE_LIMIT:
        raise MaxDocumentSizeExceeded("The size limit of a document is 64 KB.")
    return Version(
        number=number,
        text=text,
        format=document_format,
        content=document_content.parse(text, document_format),
        created=datetime.now(UTC),
        name=request.get("VersionName"),
    )


def _refuse_reserved(name: str) -> None:
    if name.lower().startswith(_RESERVED):
        raise ValidationException(
            f"Document name {name} starts with a prefix AWS keeps for itself: "
            f"{', '.join(_RESERVED)}."
        )


def _refuse_repetition(document: Document, added: Version) -> None:
    for version in document.versions.values():
        if version.text == added.text:
            raise DuplicateDocumentContent(
                f"The content of version {version.number} is the same.",
                hint="Change the content, or do not update.",
            )
        if added.name is not None and version.name == added.name:
            raise DuplicateDocumentVersionName(f"Version name {added.name} is taken.")

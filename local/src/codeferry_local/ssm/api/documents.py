"""The operations on documents."""

from __future__ import annotations

from dataclasses import dataclass

from codeferry_local.ssm.api.answers import Answer, Request, page
from codeferry_local.ssm.documents.content import Parameter
from codeferry_local.ssm.documents.store import Document, DocumentStore, Version
from codeferry_local.ssm.errors import InvalidFilterKey


@dataclass(frozen=True)
class DocumentOperations:
    """Create, update, describe, read, list and delete documents."""

    documents: DocumentStore
    account: str

    def create_document(self, request: Request) -> Answer:
        """A first version, which is the default."""
        document = self.documents.create(request)
        return {"DocumentDescription": self._description(document, document.version())}

    def update_document(self, request: Request) -> Answer:
        """A further version; the default version stays what it was."""
        document = self.documents.update(request)
        return {"DocumentDescription": self._description(document, document.version("$LATEST"))}

    def update_document_default_version(self, request: Request) -> Answer:
        """Make a version the default."""
        document = self.documents.set_default(request["Name"], request["DocumentVersion"])
        return {"Description": {"Name": document.name, "DefaultVersion": str(document.default)}}

    def describe_document(self, request: Request) -> Answer:
        """Hash, versions and parameters of a version, by default the default one."""
        document = self.documents.get(request["Name"])
        version = document.version(request.get("DocumentVersion"), request.get("VersionName"))
        return {"Document": self._description(document, version)}

    def get_document(self, request: Request) -> Answer:
        """The content of a version, verbatim or in the other format."""
        document = self.documents.get(request["Name"])
        version = document.version(request.get("DocumentVersion"), request.get("VersionName"))
        wanted = request.get("DocumentFormat")
        return {
            "Name": document.name,
            "CreatedDate": version.created,
            "VersionName": version.name,
            "DocumentVersion": str(version.number),
            "Status": "Active",
            "Content": version.in_format(wanted),
            "DocumentType": "Command",
            "DocumentFormat": wanted or version.format,
        }

    def delete_document(self, request: Request) -> Answer:
        """Delete a document, or one version of it."""
        self.documents.delete(
            request["Name"], request.get("DocumentVersion"), request.get("VersionName")
        )
        return {}

    def list_documents(self, request: Request) -> Answer:
        """Documents by name prefix, owner, type, platform or tag."""
        filters = [
            *((entry["Key"], entry["Values"]) for entry in request.get("Filters", [])),
            *((f["key"], [f["value"]]) for f in request.get("DocumentFilterList", [])),
        ]
        found = (d for d in self.documents.all() if all(_selects(d, *f) for f in filters))
        items, token = page(found, lambda d: d.name, request)
        return {
            "DocumentIdentifiers": [self._identifier(d, d.version()) for d in items],
            "NextToken": token,
        }

    def _identifier(self, document: Document, version: Version) -> Answer:
        return {
            "Name": document.name,
            "CreatedDate": version.created,
            "DisplayName": document.display_name,
            "Owner": self.account,
            "VersionName": version.name,
            "PlatformTypes": version.content.platforms,
            "DocumentVersion": str(version.number),
            "DocumentType": "Command",
            "SchemaVersion": version.content.schema_version,
            "DocumentFormat": version.format,
            "TargetType": document.target_type,
            "Tags": [{"Key": key, "Value": value} for key, value in document.tags.items()],
        }

    def _description(self, document: Document, version: Version) -> Answer:
        return {
            **self._identifier(document, version),
            "Hash": version.sha256,
            "HashType": "Sha256",
            "Status": "Active",
            "Description": version.content.description,
            "Parameters": [_parameter(p) for p in version.content.parameters.values()],
            "LatestVersion": str(document.latest),
            "DefaultVersion": str(document.default),
        }


def _parameter(parameter: Parameter) -> Answer:
    default = parameter.default
    return {
        "Name": parameter.name,
        "Type": parameter.type,
        "Description": parameter.description,
        "DefaultValue": None if default is None else str(default),
    }


def _selects(document: Document, key: str, values: list[str]) -> bool:
    if key in ("Name", "SearchKeyword"):
        return any(document.name.startswith(value) for value in values)
    if key == "Owner":
        return any(value in ("Self", "All", "Private") for value in values)
    if key == "DocumentType":
        return "Command" in values
    if key == "PlatformTypes":
        return any(value in document.version().content.platforms for value in values)
    if key.startswith("tag:"):
        return document.tags.get(key[4:]) in values
    raise InvalidFilterKey(f"Filter {key} is not valid.")

"""The operations on instances and on tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from codeferry_local.ssm.api.answers import Answer, Request, page
from codeferry_local.ssm.documents.store import DocumentStore
from codeferry_local.ssm.errors import (
    InvalidDocument,
    InvalidFilterKey,
    InvalidInstanceId,
    InvalidInstanceInformationFilterValue,
    InvalidResourceId,
    InvalidResourceType,
)
from codeferry_local.ssm.faults import Faults
from codeferry_local.ssm.instances import Fleet, LocalInstance

# What a call without MaxResults gets: small, so that a caller who forgets to page notices.
_DEFAULT_PAGE = 10
_PING = ("Online", "ConnectionLost", "Inactive")


@dataclass(frozen=True)
class InstanceOperations:
    """DescribeInstanceInformation and the tags of instances and documents."""

    fleet: Fleet
    faults: Faults
    documents: DocumentStore

    def describe_instance_information(self, request: Request) -> Answer:
        """The instances that every filter selects, by id."""
        filters = [
            *((entry["Key"], entry["Values"]) for entry in request.get("Filters", [])),
            *((f["key"], f["valueSet"]) for f in request.get("InstanceInformationFilterList", [])),
        ]
        found = [
            instance
            for instance in self.fleet.all()
            if all(self._selects(instance, key, values) for key, values in filters)
        ]
        items, token = page(found, lambda i: i.instance_id, request, _DEFAULT_PAGE)
        return {"InstanceInformationList": [self._view(i) for i in items], "NextToken": token}

    def list_tags_for_resource(self, request: Request) -> Answer:
        """The tags of a document or a managed instance."""
        tags = self._tagged(request["ResourceType"], request["ResourceId"])
        return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def add_tags_to_resource(self, request: Request) -> Answer:
        """Add or overwrite tags of a document or a managed instance."""
        kind, resource = request["ResourceType"], request["ResourceId"]
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        self._tagged(kind, resource)
        if kind == "Document":
            self.documents.tag(resource, tags)
        else:
            self.fleet.tag(resource, tags)
        return {}

    def _tagged(self, kind: str, resource: str) -> dict[str, str]:
        if kind not in ("Document", "ManagedInstance"):
            raise InvalidResourceType(f"{kind} has no tags here.")
        try:
            if kind == "Document":
                return self.documents.get(resource).tags
            return dict(self.fleet.require([resource])[0].tags)
        except (InvalidDocument, InvalidInstanceId) as error:
            raise InvalidResourceId(f"There is no {kind} {resource}.") from error

    def _ping(self, instance: LocalInstance) -> str:
        silent = instance.polls and instance.last_ping is None
        lost = silent or self.faults.offline(instance.instance_id)
        return "ConnectionLost" if lost else "Online"

    def _selects(self, instance: LocalInstance, key: str, values: Sequence[str]) -> bool:
        if key == "PingStatus" and not set(values) <= set(_PING):
            raise InvalidInstanceInformationFilterValue(f"PingStatus is one of {_PING}.")
        if key.startswith("tag:"):
            return instance.tags.get(key[4:]) in values
        if key == "tag-key":
            return any(value in instance.tags for value in values)
        known = {
            "InstanceIds": instance.instance_id,
            "PingStatus": self._ping(instance),
            "PlatformTypes": instance.platform_type,
            "AgentVersion": instance.agent_version,
            "ResourceType": "EC2Instance",
        }
        if key not in known:
            raise InvalidFilterKey(f"Filter {key} is not valid; there are {', '.join(known)}.")
        return known[key] in values

    def _view(self, instance: LocalInstance) -> Answer:
        return {
            "InstanceId": instance.instance_id,
            "PingStatus": self._ping(instance),
            "LastPingDateTime": instance.last_ping or datetime.now(UTC),
            "AgentVersion": instance.agent_version,
            "IsLatestVersion": True,
            "PlatformType": instance.platform_type,
            "PlatformName": instance.platform_name,
            "PlatformVersion": instance.platform_version,
            "ResourceType": "EC2Instance",
            "Name": instance.name or None,
            "RegistrationDate": instance.registered,
            "IPAddress": instance.ip_address,
            "ComputerName": f"{instance.instance_id}.local",
            "SourceId": instance.instance_id,
            "SourceType": "AWS::EC2::Instance",
        }

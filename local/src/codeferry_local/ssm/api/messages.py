"""The operations that agents call: their messages, their replies, their registration.

The names, members and errors of ec2messages (JSON 1.1, ``EC2WindowsMessageDeliveryService``) and of
the calls to Systems Manager that only agents make; no public model has them. Source:
amazon-ssm-agent, vendor/github.com/aws/aws-sdk-go/service/ssmmds and agent/ssm/service.go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from codeferry_local.ssm.agent.polling import Messages, PollingAgents
from codeferry_local.ssm.api.answers import Answer, Request
from codeferry_local.ssm.errors import InvalidDestination, InvalidInstanceId, ValidationException
from codeferry_local.ssm.instances import Fleet

DELIVERY_PREFIX = "EC2WindowsMessageDeliveryService."
# The agent gives a call up after 20 seconds (Mds.StopTimeoutMillis) and takes that for an error
# of the line; an empty answer before that is none.
POLL_SECONDS = 15.0
_SHORTEST_ID = 16
_HIDDEN_SECONDS = 10
_REPORTED = {
    "AgentVersion": "agent_version",
    "PlatformName": "platform_name",
    "PlatformVersion": "platform_version",
    "IPAddress": "ip_address",
}


@dataclass(frozen=True, kw_only=True)
class MessageOperations:
    """The operations that only agents call; ``url`` is what GetEndpoint answers."""

    fleet: Fleet
    messages: Messages
    agents: PollingAgents
    url: Callable[[], str]
    poll_seconds: float = POLL_SECONDS

    def by_name(self) -> dict[str, Callable[[Request], Answer]]:
        """Each operation by its name in ``X-Amz-Target`` (without ``AmazonSSM.``)."""
        return {
            f"{DELIVERY_PREFIX}GetMessages": self._get_messages,
            f"{DELIVERY_PREFIX}AcknowledgeMessage": self._acknowledge_message,
            f"{DELIVERY_PREFIX}SendReply": self._send_reply,
            f"{DELIVERY_PREFIX}FailMessage": self._fail_message,
            f"{DELIVERY_PREFIX}DeleteMessage": self._acknowledge_message,
            f"{DELIVERY_PREFIX}GetEndpoint": self._get_endpoint,
            "UpdateInstanceInformation": self._update_instance_information,
            "ListInstanceAssociations": lambda _: {"Associations": []},
        }

    def _get_messages(self, request: Request) -> Answer:
        destination = self._destination(request)
        number = _text(request, "MessagesRequestId", _SHORTEST_ID)
        found = self.messages.receive(
            destination,
            hidden=request.get("VisibilityTimeoutInSeconds", _HIDDEN_SECONDS),
            wait=self.poll_seconds,
        )
        return {
            "Destination": destination,
            "MessagesRequestId": number,
            "Messages": [message.to_json() for message in found],
        }

    def _acknowledge_message(self, request: Request) -> Answer:
        self.agents.acknowledge(_text(request, "MessageId", _SHORTEST_ID))
        return {}

    def _send_reply(self, request: Request) -> Answer:
        message_id = _text(request, "MessageId", _SHORTEST_ID)
        reply_id = _text(request, "ReplyId", _SHORTEST_ID)
        self.agents.reply(message_id, _text(request, "Payload"))
        return {"MessageId": message_id, "ReplyId": reply_id, "ReplyStatus": "Created"}

    def _fail_message(self, request: Request) -> Answer:
        message_id = _text(request, "MessageId", _SHORTEST_ID)
        self.agents.fail(message_id, _text(request, "FailureType"))
        return {}

    def _get_endpoint(self, request: Request) -> Answer:
        self._destination(request)
        return {"Endpoint": self.url()}

    def _update_instance_information(self, request: Request) -> Answer:
        """What an agent says of itself at its start and every five minutes: it is there."""
        instance_id = _text(request, "InstanceId")
        instance = self.fleet.get(instance_id)
        if instance is None:
            raise InvalidInstanceId(f"There is no instance {instance_id}.")
        reported = {
            ours: request[theirs] for theirs, ours in _REPORTED.items() if request.get(theirs)
        }
        self.fleet.add(replace(instance, last_ping=datetime.now(UTC), **reported))
        return {}

    def _destination(self, request: Request) -> str:
        destination = _text(request, "Destination")
        if self.fleet.get(destination) is None:
            raise InvalidDestination(f"There is no instance {destination}.")
        return destination


def _text(request: Request, name: str, shortest: int = 1) -> str:
    value = request.get(name)
    if not isinstance(value, str) or len(value) < shortest:
        raise ValidationException(f"{name} must be a text of at least {shortest} characters.")
    return value

"""The errors the local SSM answers with, named as AWS names them."""

from __future__ import annotations

from codeferry_contracts.errors import CodeferryError


class SsmError(CodeferryError):
    """An answer of the local SSM that is an error; ``code``, its ``__type``, is AWS's name for it:
    the class's, unless it says otherwise."""

    http_status = 400

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = cls.__name__


class ValidationException(SsmError):
    """The request breaks a constraint of the service model."""


class SerializationException(SsmError):
    """The body is no JSON object, or a member has another type than the model says."""


class UnknownOperationException(SsmError):
    """There is no such operation, or the local SSM does not have it."""


class ThrottlingException(SsmError):
    """Too many calls; only ever raised because a fault asks for it."""


class AccessDeniedException(SsmError):
    """The caller's policies do not allow the call."""


class InternalServerError(SsmError):
    """The local SSM itself failed; its log has the traceback."""

    http_status = 500


class InvalidDocument(SsmError):
    """The document does not exist, or its hash is not the pinned one."""


class InvalidDocumentContent(SsmError):
    """The content is no Command document the agent could run."""


class InvalidDocumentSchemaVersion(SsmError):
    """Only schema 2.2 is run here."""


class InvalidDocumentVersion(SsmError):
    """The document has no such version."""


class InvalidDocumentOperation(SsmError):
    """The document does not allow this operation in its state."""


class DocumentAlreadyExists(SsmError):
    """A document of this name exists."""


class DuplicateDocumentContent(SsmError):
    """A version of the document has exactly this content."""


class DuplicateDocumentVersionName(SsmError):
    """A version of the document has this name."""


class MaxDocumentSizeExceeded(SsmError):
    """Document, or document plus parameters, is larger than 64 KB."""


class InvalidParameters(SsmError):
    """The parameters do not fit the document's definitions."""


class UnsupportedPlatformType(SsmError):
    """The document runs on none of the platforms of the instances."""


class InvalidInstanceId(SsmError):
    """An instance is unknown to Systems Manager; it refuses the whole call."""


class DuplicateInstanceId(SsmError):
    """An instance id is given twice."""


class InvalidCommandId(SsmError):
    """There is no such command."""


class InvocationDoesNotExist(SsmError):
    """The command has no such invocation, or (normal for seconds) not yet."""


class InvalidPluginName(SsmError):
    """The document has no such step, or has several and none was named."""


class InvalidFilterKey(SsmError):
    """The operation does not know this filter."""


class InvalidFilterValue(SsmError):
    """The filter cannot have this value."""


class InvalidInstanceInformationFilterValue(SsmError):
    """The filter of DescribeInstanceInformation cannot have this value."""


class InvalidNextToken(SsmError):
    """The token was not made by this operation."""


class InvalidResourceId(SsmError):
    """There is no such document or instance to tag."""


class InvalidResourceType(SsmError):
    """Only documents and managed instances carry tags here."""


class InvalidMessageId(SsmError):
    """No message with this id was ever sent."""

    code = "InvalidMessageIdException"


class InvalidDestination(SsmError):
    """There is no instance that messages could go to under this id."""

    code = "InvalidDestinationException"

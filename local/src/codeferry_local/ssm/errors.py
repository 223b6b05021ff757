"""The errors the local SSM answers with, named as AWS names them.

CodeferryError
└── SsmError                        HTTP 400, ``__type`` = ``code``
    ├── ValidationException         the request breaks a constraint of the service model
    ├── SerializationException      the body is no JSON object, or a member has another type
    ├── UnknownOperationException   no such operation (here)
    ├── ThrottlingException         too many calls
    ├── AccessDeniedException       the caller's policies do not allow it
    ├── InternalServerError         HTTP 500
    ├── InvalidDocument, InvalidDocumentContent, InvalidDocumentSchemaVersion,
    │   InvalidDocumentVersion, DocumentAlreadyExists, DuplicateDocumentContent,
    │   DuplicateDocumentVersionName, InvalidDocumentOperation, MaxDocumentSizeExceeded
    ├── InvalidParameters, UnsupportedPlatformType
    ├── InvalidInstanceId, DuplicateInstanceId
    ├── InvalidCommandId, InvocationDoesNotExist, InvalidPluginName
    ├── InvalidFilterKey, InvalidFilterValue, InvalidInstanceInformationFilterValue,
    │   InvalidNextToken
    ├── InvalidResourceId, InvalidResourceType
    └── InvalidMessageId, InvalidDestination   of the delivery service that agents poll
"""

from __future__ import annotations

from codeferry_contracts.errors import CodeferryError


class SsmError(CodeferryError):
    """An answer of the local SSM that is an error; ``code`` is AWS's name for it."""

    code = "InternalServerError"
    http_status = 400


class ValidationException(SsmError):
    """The request breaks a constraint of the service model."""

    code = "ValidationException"


class SerializationException(SsmError):
    """The body is no JSON object, or a member has another type than the model says."""

    code = "SerializationException"


class UnknownOperationException(SsmError):
    """There is no such operation, or the local SSM does not have it."""

    code = "UnknownOperationException"


class ThrottlingException(SsmError):
    """Too many calls; only ever raised because a fault asks for it."""

    code = "ThrottlingException"


class AccessDeniedException(SsmError):
    """The caller's policies do not allow the call."""

    code = "AccessDeniedException"


class InternalServerError(SsmError):
    """The local SSM itself failed; its log has the traceback."""

    code = "InternalServerError"
    http_status = 500


class InvalidDocument(SsmError):
    """The document does not exist, or its hash is not the pinned one."""

    code = "InvalidDocument"


class InvalidDocumentContent(SsmError):
    """The content is no Command document the agent could run."""

    code = "InvalidDocumentContent"


class InvalidDocumentSchemaVersion(SsmError):
    """Only schema 2.2 is run here."""

    code = "InvalidDocumentSchemaVersion"


class InvalidDocumentVersion(SsmError):
    """The document has no such version."""

    code = "InvalidDocumentVersion"


class InvalidDocumentOperation(SsmError):
    """The document does not allow this operation in its state."""

    code = "InvalidDocumentOperation"


class DocumentAlreadyExists(SsmError):
    """A document of this name exists."""

    code = "DocumentAlreadyExists"


class DuplicateDocumentContent(SsmError):
    """A version of the document has exactly this content."""

    code = "DuplicateDocumentContent"


class DuplicateDocumentVersionName(SsmError):
    """A version of the document has this name."""

    code = "DuplicateDocumentVersionName"


class MaxDocumentSizeExceeded(SsmError):
    """Document, or document plus parameters, is larger than 64 KB."""

    code = "MaxDocumentSizeExceeded"


class InvalidParameters(SsmError):
    """The parameters do not fit the document's definitions."""

    code = "InvalidParameters"


class UnsupportedPlatformType(SsmError):
    """The document runs on none of the platforms of the instances."""

    code = "UnsupportedPlatformType"


class InvalidInstanceId(SsmError):
    """An instance is unknown to Systems Manager; it refuses the whole call."""

    code = "InvalidInstanceId"


class DuplicateInstanceId(SsmError):
    """An instance id is given twice."""

    code = "DuplicateInstanceId"


class InvalidCommandId(SsmError):
    """There is no such command."""

    code = "InvalidCommandId"


class InvocationDoesNotExist(SsmError):
    """The command has no such invocation, or (normal for seconds) not yet."""

    code = "InvocationDoesNotExist"


class InvalidPluginName(SsmError):
    """The document has no such step, or has several and none was named."""

    code = "InvalidPluginName"


class InvalidFilterKey(SsmError):
    """The operation does not know this filter."""

    code = "InvalidFilterKey"


class InvalidFilterValue(SsmError):
    """The filter cannot have this value."""

    code = "InvalidFilterValue"


class InvalidInstanceInformationFilterValue(SsmError):
    """The filter of DescribeInstanceInformation cannot have this value."""

    code = "InvalidInstanceInformationFilterValue"


class InvalidNextToken(SsmError):
    """The token was not made by this operation."""

    code = "InvalidNextToken"


class InvalidResourceId(SsmError):
    """There is no such document or instance to tag."""

    code = "InvalidResourceId"


class InvalidResourceType(SsmError):
    """Only documents and managed instances carry tags here."""

    code = "InvalidResourceType"


class InvalidMessageId(SsmError):
    """No message with this id was ever sent."""

    code = "InvalidMessageIdException"


class InvalidDestination(SsmError):
    """There is no instance that messages could go to under this id."""

    code = "InvalidDestinationException"

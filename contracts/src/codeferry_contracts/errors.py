"""The error every part of Codeferry raises, and the ones the contracts raise themselves.

CodeferryError
├── RequestInvalid     a run request does not have the agreed shape
├── TargetInvalid      a target is none of the forms a target can take
├── NameInvalid        a stage, project or run id cannot be used as a name
├── ArchiveInvalid     an archive or its manifest does not have the agreed shape
└── ResultInvalid      an instance's output carries no readable result line
"""

from __future__ import annotations


class CodeferryError(Exception):
    """What failed, why, and what to do about it.

    ``code`` is stable and for programs, ``message`` says what failed and why,
    ``hint`` names the remedy (it may be empty when there is none).
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def to_json(self) -> dict[str, str]:
        """The shape every report and every ``--json`` answer uses for an error."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class RequestInvalid(CodeferryError):
    """The run request is not usable; ``message`` lists every problem, not only the first."""

    code = "request_invalid"


class TargetInvalid(CodeferryError):
    """The target is none of the forms a target can take."""

    code = "target_invalid"


class NameInvalid(CodeferryError):
    """A stage, project or run id has characters that its many uses cannot carry."""

    code = "name_invalid"


class ArchiveInvalid(CodeferryError):
    """The archive or its manifest does not have the agreed shape."""

    code = "archive_invalid"


class ResultInvalid(CodeferryError):
    """The output of an instance carries no readable result line."""

    code = "result_invalid"

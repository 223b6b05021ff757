"""What can go wrong in a bootstrap; every message comes with a remedy.

Errors:
    BootstrapFailed
        ToolMissing       something this needs is not installed
        NotSignedIn       no credentials, or none that AWS accepts
        StepFailed        a program this runs ended with an error; its last words are quoted
        NotThere          something that should be there after a step is not
"""

from __future__ import annotations

from codeferry_contracts.errors import CodeferryError


class BootstrapFailed(CodeferryError):
    code = "bootstrap_failed"


class ToolMissing(BootstrapFailed):
    code = "tool_missing"


class NotSignedIn(BootstrapFailed):
    code = "not_signed_in"


class StepFailed(BootstrapFailed):
    code = "step_failed"


class NotThere(BootstrapFailed):
    code = "not_there"

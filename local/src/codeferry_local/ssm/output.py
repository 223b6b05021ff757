"""What the agent tells of a step's two outputs: both cut to size, in bytes.

The limits and the cuts are those of ``iohandler.go`` and ``runpluginutil.go`` of the
amazon-ssm-agent.
"""

from __future__ import annotations

# GetCommandInvocation has so many bytes of either output (DefaultOutputConfig, MaxStdoutLength:
# the agent cuts stderr by it too), ListCommandInvocations so many of both
# (MaximumPluginOutputSize).
HEAD_LIMIT, BOTH_LIMIT = 24_000, 2_500

_HEAD_CUT = "--output truncated--"
_ERROR_TITLE = "\n----------ERROR-------\n"
_OUTPUT_CUT = "\n---Output truncated---"
_ERROR_CUT = "\n---Error truncated----"


def head(text: str, limit: int = HEAD_LIMIT) -> str:
    """The output, or its first bytes and a mark: ``limit`` in all (StringPrefix).

    Exactly ``limit`` is cut already.
    """
    whole = text.encode()
    return text if len(whole) < limit else _first(whole, limit - len(_HEAD_CUT)) + _HEAD_CUT


def both(stdout: str, stderr: str, limit: int = BOTH_LIMIT) -> str:
    """Both outputs as one text of at most ``limit`` bytes (TruncateOutput).

    Exactly ``limit`` is cut already; stdout of half the limit is still kept whole.
    """
    out, err = stdout.encode(), stderr.encode()
    title = _ERROR_TITLE if err else ""
    space = limit - len(title)
    if len(out) + len(err) < space:
        return stdout + title + stderr
    if len(out) > space // 2 and len(err) > space // 2:
        half = (space - len(_ERROR_CUT) - len(_OUTPUT_CUT)) // 2
        return _first(out, half) + _OUTPUT_CUT + title + _first(err, half) + _ERROR_CUT
    if len(out) <= space // 2:
        return stdout + title + _first(err, space - len(_ERROR_CUT) - len(out)) + _ERROR_CUT
    return _first(out, space - len(_OUTPUT_CUT) - len(err)) + _OUTPUT_CUT + title + stderr


def _first(text: bytes, size: int) -> str:
    return text[: max(size, 0)].decode(errors="ignore")

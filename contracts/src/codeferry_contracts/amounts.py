"""Numbers as people read them, in the terminal and on the report's page alike."""

from __future__ import annotations


def seconds(value: float) -> str:
    """``0.4 s``, ``1 min 5 s``, ``2 h 3 min``."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: int) -> str:
    """Bytes in decimal units, such as ``4.1 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2,113 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

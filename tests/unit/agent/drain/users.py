"""Doing something as another user, or with no more of root's power than the unit leaves."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNIT = Path(__file__).resolve().parents[4] / "agent" / "systemd" / "codeferry-drain.service"
# capability.h of Linux; what the unit may name.
_CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_LEASE": 28}
_VERSION_3 = 0x20080522
MALLORY, ALICE = 4711, 4712


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def become_unit() -> None:
    """Keep of root's capabilities those of the unit's bounding set."""
    (names,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    kept = sum(1 << _CAPABILITIES[name] for name in names.split())
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def forked(begin: Callable[[], object], act: Callable[[], object]) -> None:
    """``begin`` and ``act`` in a child; AssertionError, with what it met, where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            begin()
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - told to the parent
            os.write(writing, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        told = said.read()
    assert os.waitpid(child, 0)[1] == 0, told


def as_user(uid: int, act: Callable[[], object]) -> None:
    forked(lambda: become(uid), act)


def as_unit(act: Callable[[], object]) -> None:
    forked(become_unit, act)


@contextmanager
def meanwhile(uid: int, act: Callable[[], object]) -> Iterator[int]:
    """A process of the user that has done ``act`` and keeps what it holds; its pid."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            become(uid)
            act()
            os.write(writing, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"!"
        yield child
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

"""Output of a program, between it and a reader that has its own pace."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeferry_agent.run.command import output as module
from codeferry_agent.run.command.output import Output

LINES = [f"{number:08}\n".encode() * 512 for number in range(2000)]  # 9 MB
PRINTED = b"".join(LINES)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, its = os.pipe()
    yield ours, its
    for each in (ours, its):
        os.close(each)


def taken(output: Output, reader: int, seconds: float = 60) -> bytes:
    """What a reader gets when the program has ended."""
    found: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reader, 1 << 16):
            found.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    output.finish(seconds)
    os.dup2(reader, output.descriptor)  # closes the writing end
    thread.join()
    return b"".join(found)


def test_what_waits_is_whole_and_in_order(pipe: tuple[int, int], tmp_path: Path) -> None:
    """Through memory and spool, though nobody has read while it was printed."""
    output = Output(pipe[1], tmp_path)
    for line in LINES:
        output.take(line)
    assert len(output.spool) > 7 << 20
    assert taken(output, pipe[0]) == PRINTED


def test_a_reader_in_turns_gets_it_in_order(pipe: tuple[int, int], tmp_path: Path) -> None:
    """What comes while the spool is being read waits behind it."""
    output = Output(pipe[1], tmp_path)
    got = b""
    for line in LINES:
        output.take(line)
        if len(got) < len(PRINTED) // 4:
            output.pass_on()
            got += os.read(pipe[0], 4096)
    assert got + taken(output, pipe[0]) == PRINTED


def test_the_spool_is_nobodys_to_read_and_leaves_nothing(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    """It has no name, and its mode is 0600; once it is passed on it takes no room."""
    output = Output(pipe[1], tmp_path)
    for line in LINES:
        output.take(line)
    assert list(tmp_path.iterdir()) == []
    state = os.fstat(output.spool.file)
    assert (state.st_nlink, state.st_mode & 0o777) == (0, 0o600)
    assert state.st_blocks > 0
    while output.spool:
        output.spool.take(1 << 20)
    assert os.fstat(output.spool.file).st_size == 0


def test_beyond_the_quota_the_middle_is_left_out(pipe: tuple[int, int], tmp_path: Path) -> None:
    """The line says how many bytes, and what comes before and after it is whole."""
    output = Output(pipe[1], tmp_path, limit=2 << 20)
    for line in LINES:
        output.take(line)
    head, _, rest = taken(output, pipe[0]).partition(b"\n[codeferry: ")
    note, _, tail = rest.partition(b" bytes are left out here]\n")
    assert head == PRINTED[: 2 << 20]
    assert tail == PRINTED[-module.KEPT :]
    assert int(note.replace(b",", b"")) == len(PRINTED) - len(head) - len(tail)


def test_a_disk_with_nothing_to_spare_is_left_alone(
    pipe: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the floor nothing is written to it: what memory holds is passed on, and the end."""
    monkeypatch.setattr(module, "DISK_FLOOR", 1 << 62)
    output = Output(pipe[1], tmp_path)
    for line in LINES:
        output.take(line)
    assert os.fstat(output.spool.file).st_size == 0
    got = taken(output, pipe[0])
    assert got.startswith(PRINTED[: module.IN_MEMORY])
    assert b" bytes are left out here]\n" in got
    assert got.endswith(PRINTED[-module.KEPT :])
    assert len(got) < 2 << 20


def test_a_slow_reader_gets_the_end_and_not_the_rest(pipe: tuple[int, int], tmp_path: Path) -> None:
    """The step has an end too: what is not taken in time is left out, but for the last of it."""
    output = Output(pipe[1], tmp_path)
    for line in LINES:
        output.take(line)
    got = taken(output, pipe[0], seconds=0)
    note = f"\n[codeferry: {len(PRINTED) - module.KEPT:,} bytes are left out here]\n".encode()
    assert got == note + PRINTED[-module.KEPT :]


def test_what_fits_into_what_is_kept_is_not_spoken_of(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    """Nothing is missing then."""
    output = Output(pipe[1], tmp_path)
    output.take(b"all of it\n")
    assert taken(output, pipe[0], seconds=0) == b"all of it\n"


def test_a_reader_that_is_gone_is_noticed(pipe: tuple[int, int], tmp_path: Path) -> None:
    """And nothing is kept for it."""
    output = Output(pipe[1], tmp_path)
    for line in LINES:
        output.take(line)
    os.dup2(pipe[1], pipe[0])  # closes the reading end
    output.pass_on()
    assert (output.gone, bytes(output.waiting), len(output.spool)) == (True, b"", 0)
    output.take(b"more\n")
    output.finish()
    assert output.tail().endswith("more\n")

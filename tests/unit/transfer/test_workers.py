"""Threads that work off a plan, and one object in pieces."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from codeferry_transfer.errors import TransferError
from codeferry_transfer.workers import Pieces, Work, WorkerPool


def test_everything_is_done_once_also_what_is_added() -> None:
    """Works may add works; run returns when there is nothing left."""
    done: list[int] = []
    pool = WorkerPool(8)

    def work(number: int) -> Work:
        def do() -> None:
            done.append(number)
            if number % 100 == 0:
                pool.add(iter([lambda: done.append(-number - 1)]))

        return do

    pool.run(work(number) for number in range(1000))
    assert sorted(done) == sorted([*range(1000), *(-n - 1 for n in range(0, 1000, 100))])


def test_an_unknown_error_ends_the_run_and_is_raised() -> None:
    """Nothing is begun after it, and what goes on is halted."""
    halted = threading.Event()
    begun: list[int] = []

    def works() -> Iterator[Work]:
        yield lambda: 1 / 0  # type: ignore[return-value]
        for number in range(100_000):
            yield lambda number=number: begun.append(number)  # type: ignore[misc]

    with pytest.raises(ZeroDivisionError):
        WorkerPool(1, halt=halted.set).run(works())
    assert halted.is_set()
    assert len(begun) < 100_000


def test_an_error_of_the_plan_is_raised() -> None:
    """A listing that fails is the run's failure."""

    def works() -> Iterator[Work]:
        yield lambda: None
        raise TransferError("no listing")

    with pytest.raises(TransferError, match="no listing"):
        WorkerPool().run(works())


def test_an_interrupt_waits_for_nobody_who_can_be_halted() -> None:
    """Ctrl-C in the watching thread halts the works that hang, and comes through."""
    hanging, halt = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        assert halt.wait(60)

    def interrupt() -> None:
        if hanging.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WorkerPool(2, halt=halt.set).run([hang], interrupt)


class Carried:
    def __init__(self, failing: int = 0) -> None:
        self.failing, self.pieces, self.ends = failing, list[int](), list[object]()

    def carry(self, piece: int) -> None:
        if piece == self.failing:
            raise TransferError("piece")
        self.pieces.append(piece)

    def finish(self) -> None:
        self.ends.append("finished")

    def give_up(self, error: Exception) -> None:
        self.ends.append(error)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_pieces_end_once(count: int) -> None:
    """All are carried, then the object is finished, also one that had all its pieces."""
    carried, pool = Carried(), WorkerPool(8)
    pieces = range(1, count + 1)
    pool.run([lambda: pool.add(Pieces(carried, pieces).works())])
    assert (sorted(carried.pieces), carried.ends) == (list(pieces), ["finished"])


def test_a_piece_that_fails_gives_the_object_up_once() -> None:
    """The rest is not carried for nothing, and the reason is told."""
    carried, pool = Carried(failing=3), WorkerPool(1)
    pool.run([lambda: pool.add(Pieces(carried, range(1, 50)).works())])
    assert carried.pieces == [1, 2]
    assert [str(end) for end in carried.ends] == ["piece"]

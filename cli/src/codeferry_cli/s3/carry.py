"""A transfer shown or done, with its progress and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codeferry_cli.aws.session import Aws
from codeferry_cli.errors import Interrupted
from codeferry_cli.options.groups import Access
from codeferry_cli.s3.client import open_s3, own_remedies
from codeferry_cli.s3.options import Choice, Server
from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.progress import progress
from codeferry_cli.terminal.transfers import TransferProgress, show_plan, show_result

if TYPE_CHECKING:
    from codeferry_transfer.s3 import S3
    from codeferry_transfer.transfers import Transfer


@dataclass(frozen=True)
class Order:
    """What was asked for, by any of the commands that carry something."""

    operation: str
    source: str
    destination: str
    choice: Choice
    server: Server
    access: Access
    dry_run: bool
    output: Output

    @property
    def facts(self) -> dict[str, str]:
        """What every ``--json`` answer repeats."""
        return {
            "operation": self.operation,
            "source": self.source,
            "destination": self.destination,
        }


def carry(order: Order, doing: str, make: Callable[[S3], Transfer]) -> None:
    """Plan what ``make`` makes and show it, or do it. Raises ObjectsFailed, Interrupted."""
    s3 = open_s3(Aws(order.access), order.server)
    try:
        with own_remedies():
            transfer = make(s3)
            if order.dry_run:
                show_plan(transfer.plan(), transfer.tally, order.output, order.facts)
            else:
                _run(transfer, doing, order)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted: what was complete stays, nothing unfinished is left behind."
        ) from stop
    finally:
        s3.close()


def _run(transfer: Transfer, doing: str, order: Order) -> None:
    with progress() as shown:
        meter = TransferProgress(doing, transfer.tally, shown)
        transfer.run(meter)
    show_result(transfer.tally, meter.seconds, order.output, order.facts)

"""cleanup: nothing of the run goes on, and its archive is gone. Done twice, it is the same."""

from __future__ import annotations

from codeferry_lambdas.aws.observability import Event, entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.cleanup import clean_up
from codeferry_lambdas.runs.record import Run


@entry
@phase("cleanup")
def handler(event: Event) -> None:
    """Takes ``run`` and ``request`` as it was handed in, checked or not."""
    clean_up(Settings.from_env(), Run(**event["run"]), event["request"])

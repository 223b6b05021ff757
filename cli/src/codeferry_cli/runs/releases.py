"""List the releases that runs have given to instances, as the runs' reports say."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import ReleaseNotFound
from codeferry_cli.runs.find import Run, runs_of_project
from codeferry_cli.runs.record import RunRecord
from codeferry_contracts import formatting

MOST_RUNS = 100  # whose reports are read: each costs two calls
_READERS = 8


@dataclass(frozen=True)
class GivenReleases:
    """A run, and the release that each of its instances had after it, by id; of ``all`` of the
    instances asked for where it has no report."""

    run: Run
    releases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """``given`` is the run that was first to give it; ``current`` the instances that had it last,
    of ``instances`` that ever had it."""

    release_id: str
    given: Run
    current: tuple[str, ...]
    instances: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "release_id": self.release_id,
            "current": list(self.current),
            "instances": list(self.instances),
            "given_by": self.given.to_json(),
        }


def given_releases(
    stage: DeployedStage, project: str, instance_ids: Collection[str], most: int = MOST_RUNS
) -> Iterator[GivenReleases]:
    """What the project's runs have given to any of these instances, newest run first."""
    runs = itertools.islice(runs_of_project(stage, project), most)
    with ThreadPoolExecutor(_READERS) as readers:
        while some := list(itertools.islice(runs, _READERS)):
            for found in readers.map(
                lambda run: _releases_of_run(stage, run, project, instance_ids), some
            ):
                if found.releases:
                    yield found


def _releases_of_run(
    stage: DeployedStage, run: Run, project: str, instance_ids: Collection[str]
) -> GivenReleases:
    report = RunRecord(stage, run.execution.run_id).report()
    if report is None or report["project"] != project:
        return GivenReleases(run)
    outcomes = (o for o in report["instances"] if o["instance_id"] in instance_ids)
    return GivenReleases(
        run, {o["instance_id"]: r for o in outcomes if (r := formatting.release(o))}
    )


def list_releases(
    stage: DeployedStage, project: str, instance_ids: Collection[str]
) -> list[Release]:
    """The releases of the project on these instances, the one that was given last first."""
    last: dict[str, str] = {}
    first: dict[str, Run] = {}
    had: dict[str, set[str]] = {}
    for one in given_releases(stage, project, instance_ids):
        for instance_id, release in one.releases.items():
            last.setdefault(instance_id, release)
            had.setdefault(release, set()).add(instance_id)
            first[release] = one.run  # the oldest is seen last
    return [
        Release(
            release,
            first[release],
            tuple(sorted(i for i, has in last.items() if has == release)),
            tuple(sorted(instances)),
        )
        for release, instances in had.items()
    ]


def find_release(
    stage: DeployedStage, project: str, instance_ids: Collection[str], typed: str, target: str
) -> str:
    """The release whose id begins with ``typed``. Raises ReleaseNotFound."""
    found = [r.release_id for r in list_releases(stage, project, instance_ids)]
    matching = [release for release in found if release.startswith(typed)]
    if len(matching) == 1:
        return matching[0]
    listed = f"List them: ferry releases {target} --project {project}{stage.option()}"
    if matching:
        shown = "\n".join(matching[:10])
        raise ReleaseNotFound(
            f"{len(matching)} releases begin with {typed!r}.", hint=f"Type more of one:\n{shown}"
        )
    raise ReleaseNotFound(
        f"No run has given a release that begins with {typed!r} of {project!r} to {target}.",
        hint=listed,
    )

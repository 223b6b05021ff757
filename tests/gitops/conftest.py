"""An AWS account, a GitHub, a laptop and a machine for workflows, all empty, all on this one.

What is not as it is out there, and why:

- ``tests/gitops/emulator.py`` adds to MiniStack the three things that the stacks need and it has
  not. One setting is added to the page's bootstrap, ``empty_on_destroy=false``: MiniStack cannot
  answer the CDK's function that empties buckets, which speaks HTTPS only.
- An Auto Scaling group of MiniStack's starts nothing, so an instance is started by hand.
- IAM refuses nothing there. Who gets credentials is decided by the deployed roles' trust; what
  was done with them is compared with the roles' policies afterwards.
- ``gh`` and ``aws`` are stand-ins: neither GitHub's CLI nor AWS's is a dependency of this project.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codeferry_local.emulator.process import Emulator, free_port
from codeferry_local.instances import launch
from codeferry_local.ssm.server import SsmServer
from tests.gitops.cloud import Cloud
from tests.gitops.github import REPOSITORY, GitHub
from tests.gitops.page import Terminal, boxes
from tests.gitops.runner import Runner
from tests.gitops.workplace import clean_environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gitops.md"
REGION = "eu-west-1"
TARGET = "workers"
GITHUB_SETTINGS = '--context "github=$REPOSITORY"'
FOR_MINISTACK = "--context empty_on_destroy=false"

COMMAND = """#!{python}
import sys
sys.path.insert(0, {root!r})
from {module} import main
sys.exit(main())
"""
GIT_CONFIG = """[user]
name = Maintainer
email = maintainer@example.org
[init]
defaultBranch = main
[url "{repository}"]
insteadOf = https://github.com/{name}
"""


@dataclass
class Following:
    """The page, as far as it has been followed."""

    terminal: Terminal
    runner: Runner
    left: list
    printed: dict = field(default_factory=dict)

    def through(self, heading):
        """Paste every box down to those under ``heading``; GitHub works between them."""
        assert heading in [box.heading for box in self.left]
        while self.left and (heading not in self.printed or self.left[0].heading == heading):
            box = self.left.pop(0)
            printed = self.terminal.paste(adapted(box.commands))
            self.printed[box.heading] = self.printed.get(box.heading, "") + printed
            self.runner.settle()

    def paste(self, commands):
        """What the page leaves to the reader."""
        printed = self.terminal.paste(commands)
        self.runner.settle()
        return printed


def adapted(commands):
    """The page's placeholder filled in, and what MiniStack needs at the bootstrap."""
    named = commands.replace("OWNER/NAME", REPOSITORY)
    return named.replace(GITHUB_SETTINGS, f"{FOR_MINISTACK} {GITHUB_SETTINGS}")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("gitops")


@pytest.fixture(scope="module")
def cloud(place):
    port = free_port()
    ssm = SsmServer(region=REGION, aws_endpoint=f"http://127.0.0.1:{port}", paced=False)
    variables = {"AWS_ENDPOINT_URL_SSM": ssm.url, "MINISTACK_REGION": REGION}
    # -P: the modules beside the script are not the emulator's.
    program = ("-P", str(Path(__file__).with_name("emulator.py")))
    emulator = Emulator.start(port, place / "aws", place / "aws.log", variables, program)
    try:
        with ssm:
            cloud = Cloud(emulator.url, REGION)
            directory = place / "instances"
            launch(cloud.client("ec2"), ssm, directory, count=1, target=TARGET, stage="prod")
            yield cloud
    finally:
        emulator.stop()


@pytest.fixture(scope="module")
def github(place):
    """A repository with what this checkout has now, committed or not."""
    sources = place / "sources"
    listed = _git(ROOT, "ls-files", "-co", "--exclude-standard", "-z").rstrip("\0").split("\0")
    for name in filter(lambda name: (ROOT / name).exists(), listed):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, sources / name, follow_symlinks=False)
    (place / "gitconfig").write_text(
        GIT_CONFIG.format(repository=place / "github" / "repository.git", name=REPOSITORY)
    )
    _git(sources, "init", "--quiet", "--initial-branch=main")
    _git(sources, "add", "--all", "--force")
    who = ("-c", "user.name=Maintainer", "-c", "user.email=maintainer@example.org")
    _git(sources, *who, "commit", "--quiet", "--message=Codeferry")
    (place / "github").mkdir()
    github = GitHub(place / "github")
    github.create(sources)
    return github


def _git(directory, *arguments):
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def machine(place, github):
    """The environment of a clean machine whose ``gh`` and ``aws`` are the stand-ins."""
    commands = place / "bin"
    commands.mkdir()
    for name, module in (("gh", "tests.gitops.gh"), ("aws", "tests.gitops.aws_cli")):
        text = COMMAND.format(python=sys.executable, root=str(ROOT), module=module)
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return clean_environment(commands, place) | {"FAKE_GITHUB": str(place / "github")}


@pytest.fixture(scope="module")
def runner(place, github, cloud, machine):
    """ci.yml is read and not run: ``make test`` is what this test is part of."""
    return Runner(github, cloud, place / "runner", machine, only_read=("ci.yml",))


@pytest.fixture(scope="module")
def following(place, cloud, runner, machine):
    laptop = place / "laptop"
    laptop.mkdir()
    signed_in = {"AWS_ENDPOINT_URL": cloud.url}
    signed_in |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "laptop")
    terminal = Terminal(laptop, machine | signed_in)
    try:
        yield Following(terminal, runner, boxes(PAGE.read_text()))
    finally:
        terminal.close()

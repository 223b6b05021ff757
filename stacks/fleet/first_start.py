"""What a fleet instance does once, at its first start: the agent, its service, the models.

Embedded in the user data, run as root by the instance's own Python (3.9 or newer, standard
library only). Everything it installs lies below ``CODEFERRY_ROOT`` (default ``/``). It ends
with 0 when the instance is whole and says so to Auto Scaling and to CloudFormation, which wait
for it; otherwise with 1, having told them that this instance failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ATTEMPTS = 4
COMMAND_SECONDS = 120
MODELS_SECONDS = 45 * 60
UNIT = "codeferry-drain.service"
# The same variable, and the same default, as in the AWS SDKs.
METADATA_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
METADATA = "http://169.254.169.254"


class FirstStartFailed(Exception):
    """The instance cannot be made whole; the message says at which step."""


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text())
    root = Path(os.environ.get("CODEFERRY_ROOT", "/"))
    try:
        make_whole(settings, root)
        tell_auto_scaling(settings, "CONTINUE")
    except FirstStartFailed as failure:
        print(f"codeferry: first start failed: {failure}", file=sys.stderr)
        give_up(settings)
        return 1
    tell_cloudformation(settings, "0")
    print("codeferry: first start complete")
    return 0


def make_whole(settings: dict[str, Any], root: Path) -> None:
    """Each step raises FirstStartFailed; each may be done again."""
    for step in (
        close_ssm_log, install_agent, fetch_models, write_files, install_packages, ship_log,
        start_service,
    ):  # fmt: skip
        step(settings, root)


def close_ssm_log(settings: dict[str, Any], root: Path) -> None:
    """The SSM agent logs the scripts of commands, into a file that everybody may read."""
    log = root / "var/log/amazon/ssm"
    log.mkdir(parents=True, exist_ok=True)
    log.chmod(0o700)


def install_agent(settings: dict[str, Any], root: Path) -> None:
    """The agent, by digest: what was downloaded is checked before it gets its name."""
    agent = settings["agent"]
    place = root / agent["path"]
    place.parent.mkdir(parents=True, exist_ok=True)
    arriving = place.with_name(place.name + ".part")
    aws(settings, "s3", "cp", "--only-show-errors", agent["url"], str(arriving))
    digest = hashlib.sha256(arriving.read_bytes()).hexdigest()
    if digest != agent["sha256"]:
        arriving.unlink()
        raise FirstStartFailed(f"the agent's SHA-256 is {digest}, not {agent['sha256']}")
    arriving.chmod(0o755)
    arriving.replace(place)


def fetch_models(settings: dict[str, Any], root: Path) -> None:
    """Data and weights from the permanent bucket, if the fleet is to have any."""
    if settings["models"]:
        place = root / "opt/codeferry/models"
        place.mkdir(parents=True, exist_ok=True)
        source = settings["models"]
        command = ("s3", "sync", "--only-show-errors", source, str(place))
        aws(settings, *command, seconds=MODELS_SECONDS)
        if not any(place.iterdir()):
            raise FirstStartFailed(f"there is nothing below {source}")


def install_packages(settings: dict[str, Any], root: Path) -> None:
    """What the distribution has and the image does not."""
    patiently(settings, "dnf", "--assumeyes", "--quiet", "install", *settings["packages"])


def ship_log(settings: dict[str, Any], root: Path) -> None:
    """The service's log goes to CloudWatch, which makes metrics of it."""
    (root / "var/log/codeferry").mkdir(parents=True, exist_ok=True)
    config = root / "etc/codeferry/cloudwatch.json"
    control = ("amazon-cloudwatch-agent-ctl", "-a", "fetch-config", "-m", "ec2", "-s")
    run(*control, "-c", f"file:{config}")


def start_service(settings: dict[str, Any], root: Path) -> None:
    """The drain agent as a service that is seen to run, in the directory it serves."""
    (root / "opt/codeferry").mkdir(parents=True, exist_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--now", UNIT)
    run("systemctl", "is-active", UNIT)


def write_files(settings: dict[str, Any], root: Path) -> None:
    """The unit and what belongs to it."""
    for name, text in settings["files"].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def give_up(settings: dict[str, Any]) -> None:
    """Tell both that it failed; neither hearing it changes what happens: it shuts down."""
    for tell, word in ((tell_auto_scaling, "ABANDON"), (tell_cloudformation, "1")):
        try:
            tell(settings, word)
        except FirstStartFailed as failure:
            print(f"codeferry: {failure}", file=sys.stderr)


def tell_auto_scaling(settings: dict[str, Any], result: str) -> None:
    """Complete the lifecycle action that holds the instance back until now."""
    action = ("autoscaling", "complete-lifecycle-action", "--lifecycle-action-result", result)
    group = ("--auto-scaling-group-name", settings["group"])
    hook = ("--lifecycle-hook-name", settings["hook"])
    aws(settings, *action, *group, *hook, "--instance-id", instance_id())


def tell_cloudformation(settings: dict[str, Any], code: str) -> None:
    """The signal the stack's creation waits for. Outside of one nobody does: not an error."""
    where = ("--stack", settings["stack"], "--resource", settings["resource"])
    command = ("cfn-signal", "--exit-code", code, *where, "--region", settings["region"])
    try:
        run(*command)
    except FirstStartFailed as failure:
        print(f"codeferry: no stack took the signal: {failure}", file=sys.stderr)


def instance_id() -> str:
    """From the instance metadata service, version 2: a token first."""
    base = os.environ.get(METADATA_VARIABLE, METADATA)
    try:
        token = ask(f"{base}/latest/api/token", "PUT", "X-aws-ec2-metadata-token-ttl-seconds", "60")
        address = f"{base}/latest/meta-data/instance-id"
        return ask(address, "GET", "X-aws-ec2-metadata-token", token)
    except OSError as error:
        raise FirstStartFailed(f"the metadata service did not answer: {error}") from error


def ask(url: str, method: str, header: str, value: str) -> str:
    request = urllib.request.Request(url, method=method, headers={header: value})  # noqa: S310 - the metadata service
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        text: str = answer.read().decode()
        return text


def aws(settings: dict[str, Any], *arguments: str, seconds: int = COMMAND_SECONDS) -> None:
    command = ("aws", *arguments, "--region", settings["region"])
    patiently(settings, *command, seconds=seconds)


def patiently(settings: dict[str, Any], *command: str, seconds: int = COMMAND_SECONDS) -> None:
    """Try again: a new role's credentials take a while to be known everywhere."""
    for attempt in range(ATTEMPTS):
        try:
            return run(*command, seconds=seconds)
        except FirstStartFailed:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(settings["retry_seconds"] * 2**attempt)
    return None


def run(*command: str, seconds: int = COMMAND_SECONDS) -> None:
    """Run a command; FirstStartFailed with what it said when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirstStartFailed(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise FirstStartFailed(f"{' '.join(command[:3])} ended with {done.returncode}: {said}")


if __name__ == "__main__":
    sys.exit(main())

"""An instance of a deployed fleet, on this machine: its user data and its drain, as somebody."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import until
from tests.proxy.rules import Hold, Rule
from tests.proxy.server import FaultProxy
from tests.unit.agent.drain.imds import Imds

AWS_CLI = Path(__file__).with_name("instance_aws.py")
AGENT = (sys.executable, "-m", "codeferry_agent.main", "drain", "-s", "0")
# What Amazon Linux has; here they do nothing.
OF_THE_SYSTEM = ("amazon-cloudwatch-agent-ctl", "cfn-signal", "dnf", "shutdown", "systemctl")
# More than one part.
LARGE = 20 << 20


class Instance:
    """Everything it calls is in the journal under the access key ``who``."""

    def __init__(self, directory, laptop, who):
        self.directory, self._laptop = directory, laptop
        self.root, self.output = directory / "root", directory / "output"
        self._environment = {
            "HOME": str(directory),
            "CODEFERRY_DRAIN_STATE": str(directory / "drain-state"),
            "TMPDIR": str(directory),
            "PATH": f"{directory / 'bin'}:/usr/bin:/bin",
            "CODEFERRY_ROOT": str(self.root),
            "AWS_ENDPOINT_URL": laptop.url,
            "AWS_ACCESS_KEY_ID": who,
            "AWS_SECRET_ACCESS_KEY": who,
            "AWS_REGION": laptop.region,
        }
        self.root.mkdir(parents=True)
        self._install()

    def _install(self):
        programs = self.directory / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        lines = dict.fromkeys(OF_THE_SYSTEM, "exit 0")
        lines |= {"aws": f'exec {python} {shlex.quote(str(AWS_CLI))} "$@"'}
        lines |= {"python3": f'exec {python} "$@"'}
        for name, line in lines.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)

    def first_start(self):
        """Run the launch template's user data as cloud-init would."""
        script = self.directory / "user_data.sh"
        script.write_text(self._user_data())
        with Imds() as imds:
            imds.values["/latest/meta-data/instance-id"] = "i-0123456789abcdef0"
            metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url}
            return subprocess.run(
                ["bash", str(script)],
                env=self._environment | metadata,
                capture_output=True,
                text=True,
                check=False,
            )

    def _user_data(self):
        ec2 = self._laptop.client("ec2")
        (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
        answer = ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
        )
        (version,) = answer["LaunchTemplateVersions"]
        return base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()

    def write(self, bucket, key, content):
        path = self.output / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (0, 0))

    def drain(self):
        """One scan, to its end."""
        return subprocess.run(
            [*AGENT, "--once", "-d", str(self.output)],
            env=self._agent(self._laptop.url),
            capture_output=True,
            text=True,
            check=False,
        )

    def drain_and_be_killed(self):
        """In the middle of a large file, whose first parts stay behind."""
        with FaultProxy(self._laptop.url) as proxy:
            proxy.set(Rule(Hold(), method="PUT", path="partNumber=2"))
            agent = subprocess.Popen(
                [*AGENT, "-d", str(self.output), "-i", "3600"],
                env=self._agent(proxy.url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                until(lambda: proxy.hits)
            finally:
                agent.kill()
                agent.wait()

    def _agent(self, url):
        kept = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": url}
        return self._environment | kept | {"AWS_EC2_METADATA_DISABLED": "true"}

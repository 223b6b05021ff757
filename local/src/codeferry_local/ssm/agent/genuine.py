"""Genuine agents as the agents of local instances: one process tree each, in namespaces of its own.

amazon-ssm-agent keeps everything below ``/etc/amazon``, ``/var/lib/amazon`` and ``/var/log/amazon``
and ends other agents' workers that it sees (core/workerprovider). So each has a mount namespace in
which those three are directories of its instance, and a PID namespace, whose end leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from codeferry_local.errors import AgentUnusable, StartFailed, tail
from codeferry_local.ssm.agent.tls_relay import TlsRelay
from codeferry_local.ssm.instances import Fleet, LocalInstance

NAME = "amazon-ssm-agent"
# What it starts; without the first beside it, it looks for all of them in /usr/bin.
_WORKERS = ("ssm-session-worker", "ssm-agent-worker", "ssm-document-worker")
_SYSTEM = Path("/usr/bin")
_DOMAIN = "localhost"
_BY_NAME = ("logs", "monitoring", "ssmmessages")
_PLACES = ("/etc/amazon", "/var/lib/amazon", "/var/log/amazon")
_PROGRAMS = ("unshare", "openssl")
_START_SECONDS = 60
_STOP_SECONDS = 10
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The first process of the namespace; it takes over whatever other processes leave behind. A step
# that ends with 194 makes the agent shut the machine down: it shall not be this one.
_INIT = """\
root=$1 agent=$2
for place in /etc/amazon /var/lib/amazon /var/log/amazon /etc/hosts; do
  mount --bind "$root$place" "$place" || exit 1
done
test ! -e /sbin/shutdown || mount --bind /bin/true /sbin/shutdown || exit 1
"$agent" &
wait
"""


def usable_agent(path: Path) -> Path:
    """The agent's absolute path; AgentUnusable says what is missing at ``path`` or here."""
    path = path.absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise AgentUnusable(f"{path} is no program.", hint=f"Name the {NAME} of AWS's package.")
    said = _version(path)
    if not said.startswith("SSM Agent version"):
        raise AgentUnusable(
            f"{path} does not call itself an SSM agent when asked for its -version.",
            hint=f"Name the {NAME} of AWS's package.",
        )
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, _PROGRAMS)):
        raise AgentUnusable(
            f"A genuine agent needs Linux, root, {' and '.join(_PROGRAMS)}: its directories are "
            "fixed, and each instance gets its own by a mount namespace.",
            hint="Run it with sudo, or without --agent.",
        )
    _check_workers(path.parent)
    return path


def _version(path: Path) -> str:
    try:
        asked = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return asked.stdout


def _check_workers(directory: Path) -> None:
    """The agent's own conditions (agent/appconfig/constants_unix.go, validateAgentBinary)."""
    for name in _WORKERS[1:] if directory == _SYSTEM else _WORKERS:
        worker = directory / name
        if not worker.is_file():
            raise AgentUnusable(
                f"{worker} is missing: the agent starts it.",
                hint="Unpack all programs of AWS's package into one directory.",
            )
        found = worker.stat()
        if found.st_uid or found.st_gid or found.st_mode & 0o022 or found.st_mode & 0o511 != 0o511:
            raise AgentUnusable(
                f"The agent takes {worker} only if it is root's and nobody else can write it.",
                hint=f"chown root:root {directory}/*; chmod 755 {directory}/*",
            )


@dataclass
class GenuineAgents:
    """Runs ``agent`` for each instance of ``fleet`` whose agent is a program of its own.

    ``ssm_url`` and ``aws_url`` are the endpoints of Systems Manager and of all else; ``directory``
    is for a certificate.
    """

    agent: Path
    fleet: Fleet
    region: str
    ssm_url: str
    aws_url: str
    directory: Path
    log: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _made: list[Path] = field(default_factory=list)
    _tls: TlsRelay | None = None
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """From now on every instance of the fleet has its agent."""
        for place in map(Path, _PLACES):
            # A namespace can mount only over what exists.
            missing = [place, *place.parents]
            for directory in reversed([p for p in missing if not p.exists()]):
                directory.mkdir()
                self._made.append(directory)
        self._tls = TlsRelay(self.directory, f"*.{self.region}.{_DOMAIN}", self.aws_url)
        self._tls.start()
        self.fleet.subscribe(self._follow)
        self._follow()

    def wait(self) -> None:
        """Return when every agent has said that it is there; StartFailed shows what it said."""
        for instance_id in list(self._running):
            there = Retrying(
                retry=retry_if_result(lambda pinged: not pinged),
                wait=wait_fixed(0.1),
                stop=stop_after_delay(_START_SECONDS),
            )
            try:
                there(self._pinged, instance_id)
            except RetryError as error:
                raise StartFailed(
                    f"The agent of {instance_id} did not register within {_START_SECONDS} s: "
                    f"{tail(self.log)}"
                ) from error

    def stop(self) -> None:
        """End every agent with all it has started, and remove the directories that were made."""
        with self._lock:
            self._stopped = True
            _end(self._running.values())
        if self._tls is not None:
            self._tls.stop()
        # Removing what another embedded AWS has mounted over would unmount it there.
        if not _mounted():
            for directory in reversed(self._made):
                # Not empty: by now somebody else's.
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def _pinged(self, instance_id: str) -> bool:
        instance = self.fleet.get(instance_id)
        return instance is None or instance.last_ping is not None

    def _follow(self) -> None:
        """Start agents of new instances, end those of instances that are gone."""
        wanted = {i.instance_id: i for i in self.fleet.all() if i.polls}
        with self._lock:
            if self._stopped:
                return
            gone = [self._running.pop(i) for i in set(self._running) - set(wanted)]
            for instance_id in wanted.keys() - self._running.keys():
                self._running[instance_id] = self._launch(wanted[instance_id])
        _end(gone)

    def _launch(self, instance: LocalInstance) -> subprocess.Popen[bytes]:
        for place in _PLACES:
            (instance.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._configure(instance)
        init = ("/bin/sh", "-c", _INIT, "init", str(instance.root), str(self.agent))
        namespaces = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["unshare", *namespaces, "--", *init],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_SYSTEM,  # the WorkingDirectory of the package's unit
                env=self._environment(instance),
                start_new_session=True,
            )

    def _configure(self, instance: LocalInstance) -> None:
        directory = instance.root / "etc/amazon/ssm"
        directory.mkdir(exist_ok=True)
        assert self._tls is not None
        domain = f"{_DOMAIN}:{self._tls.port}"
        settings = configuration(
            instance.instance_id, self.region, self.ssm_url, self.aws_url, domain
        )
        names = [f"{service}.{self.region}.{_DOMAIN}" for service in _BY_NAME]
        hosts = Path("/etc/hosts").read_text()
        (instance.root / "etc/hosts").write_text(f"{hosts}\n127.0.0.1 {' '.join(names)}\n")
        (directory / f"{NAME}.json").write_text(json.dumps(settings, indent=2))
        credentials = _credentials(instance)
        credentials.touch(mode=0o600)
        credentials.write_text(
            f"[default]\naws_access_key_id = {instance.instance_id}\n"
            "aws_secret_access_key = codeferry-local\n"
        )

    def _environment(self, instance: LocalInstance) -> dict[str, str]:
        """As systemd starts it, and where its instance, its (made up) credentials and the relay's
        certificate lie."""
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "CODEFERRY_ROOT": str(instance.home),
            "CODEFERRY_LOGIN_UID": str(os.getuid()),
            "AWS_SHARED_CREDENTIALS_FILE": str(_credentials(instance)),
            "SSL_CERT_FILE": str(self._tls.certificate if self._tls else ""),
        }


def configuration(
    instance_id: str, region: str, ssm_url: str, aws_url: str, domain: str
) -> dict[str, object]:
    """amazon-ssm-agent.json: who it is, and every endpoint on loopback.

    ``domain`` (with a port) is that of services which have no setting of their own: CloudWatch Logs
    is ``https://logs.<region>.<domain>``. The control channel of Session Manager does not exist
    here; the agent then polls for messages, as it does wherever it cannot be reached.
    """
    host = ssm_url.partition("://")[2]
    return {
        "Profile": {"ShareCreds": False},
        "Mds": {"Endpoint": ssm_url},
        "Ssm": {"Endpoint": ssm_url},
        "Mgs": {"Endpoint": host, "Region": region},
        "S3": {"Endpoint": aws_url, "Region": region},
        "Kms": {"Endpoint": aws_url},
        "Agent": {
            "Region": region,
            "ServiceDomain": domain,
            "TelemetryMetricsToSSM": False,
        },
        "Identity": {
            "ConsumptionOrder": ["CustomIdentity"],
            "CustomIdentities": [
                {
                    "InstanceID": instance_id,
                    "Region": region,
                    "AvailabilityZone": f"{region}a",
                    "InstanceType": "t3.micro",
                }
            ],
        },
    }


def _credentials(instance: LocalInstance) -> Path:
    return instance.root / "etc/amazon/credentials"


def _mounted() -> bool:
    """Whether an agent of anybody's still has its directories."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mounts = (process / "mountinfo").read_text()
            if any(f" {place} " in mounts for place in _PLACES):
                return True
    return False


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Kill them with all they have started; a namespace ends with its first process."""
    children = [child for p in processes for child in _descendants(p.pid)]
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait()
    psutil.wait_procs(children, timeout=_STOP_SECONDS)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []

"""The process behind ``ferry local up``: starts everything, keeps it running, ends it.

Reports each step as one JSON line on stdout and closes stdout when all is ready. With
``attached`` it ends when its standard input does, and so with whoever started it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.local_stage import Credentials
from codeferry_contracts.names import OUTPUT_BUCKET, WORKFLOWS, Stage, output_state_machine
from codeferry_contracts.signing import EXPONENT
from codeferry_local.emulator.deployment import ACCOUNT, Deployment, synthesise
from codeferry_local.emulator.process import Emulator, free_port, local_url
from codeferry_local.errors import AlreadyRunning
from codeferry_local.home import Access, Home, State, write_state
from codeferry_local.instances import launch
from codeferry_local.process import Options
from codeferry_local.ssm.agent.genuine import GenuineAgents, usable_agent
from codeferry_local.ssm.api.access import ask_iam
from codeferry_local.ssm.instances import POLLING
from codeferry_local.ssm.server import SsmServer

_BITS = 3072  # as the one in KMS

STAGE = Stage("local")
REGION = "eu-west-1"
CREDENTIALS: Credentials = {
    "access_key_id": "codeferry-local",
    "secret_access_key": "codeferry-local",
}


def make_key(path: Path) -> str:
    """Write a new private key to ``path`` (PKCS #8, PEM, mode 0600); its public key as KMS gives
    one: base64 of a SubjectPublicKeyInfo."""
    key = rsa.generate_private_key(EXPONENT, _BITS)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def main(home: Home, options: Options) -> None:
    """Run the embedded AWS until a signal ends it."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.attached:
        threading.Thread(target=_end_with_starter, args=(stop,), daemon=True).start()
    try:
        if options.agent:
            options = replace(options, agent=usable_agent(Path(options.agent)))
        serve(home, options, stop, sys.stdout)
    except CodeferryError as error:
        _say(sys.stdout, error=error.to_json())
        sys.exit(1)


def serve(home: Home, options: Options, stop: threading.Event, report: IO[str]) -> None:
    """Start all parts, write the state file, wait for ``stop``, take everything down."""
    with ExitStack() as parts:
        parts.enter_context(_only_one(home))
        state = _start(home, options, parts, report)
        write_state(home, state)
        _say(report, ready=True)
        _close(report)
        stop.wait()


def _start(home: Home, options: Options, parts: ExitStack, report: IO[str]) -> State:
    log = home.log_file
    key = make_key(home.signing_key) if options.signing else ""
    synth = parts.enter_context(ThreadPoolExecutor(1)).submit(synthesise, STAGE, log, key)
    with _step(report, "Starting the embedded AWS"):
        port = free_port()
        ssm = SsmServer(
            region=REGION,
            account_id=ACCOUNT,
            aws_endpoint=local_url(port),
            time_scale=options.time_scale,
            paced=options.paced,
            executor=POLLING if options.agent else "shell",
            authorize=ask_iam(local_url(port)),
        )
        variables = {"AWS_ENDPOINT_URL_SSM": ssm.url, "MINISTACK_REGION": REGION}
        emulator = Emulator.start(port, home.temporary, log, {**variables, **options.variables})
        parts.callback(emulator.stop)
        parts.enter_context(ssm)
        agents = _agents(options, ssm, emulator, home)
        if agents is not None:
            parts.callback(agents.stop)
            agents.start()
    access = Access(emulator.url, REGION, CREDENTIALS)
    deployment = Deployment(stage=STAGE, access=access, log=log)
    with _step(report, "Bootstrapping it for the CDK"):
        deployment.bootstrap()
    with _step(report, "Synthesising the stacks"):
        assembly = synth.result()
    with _step(report, "Deploying with the CDK CLI"):
        deployment.deploy(assembly)
        deployment.put_lifecycles(assembly)
        deployment.register_documents(assembly, ssm.url)
    with _step(report, f"Starting {options.instances} instances"):
        records = launch(
            access.client("ec2"),
            ssm,
            home.instances,
            count=options.instances,
            target=options.target,
            stage=STAGE.name,
        )
        if agents is not None:
            agents.wait()
    outputs = deployment.outputs()
    return State(
        pid=os.getpid(),
        stage=STAGE.name,
        region=REGION,
        account=ACCOUNT,
        endpoints={"aws": emulator.url, "ssm": ssm.url},
        credentials=CREDENTIALS,
        bucket=outputs[OUTPUT_BUCKET],
        state_machines={name: outputs[output_state_machine(name)] for name in WORKFLOWS},
        instances=records,
        signing_key=str(home.signing_key) if options.signing else "",
    )


def _agents(
    options: Options, ssm: SsmServer, emulator: Emulator, home: Home
) -> GenuineAgents | None:
    if not options.agent:
        return None
    return GenuineAgents(
        agent=Path(options.agent),
        fleet=ssm.fleet,
        region=REGION,
        ssm_url=ssm.url,
        aws_url=emulator.url,
        directory=home.temporary,
        log=home.log_file,
    )


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock; what an earlier one left behind is removed first and last."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with home.lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                "The embedded AWS is already running.",
                hint="See it with ferry local status, end it with ferry local down.",
            ) from error
        home.log_file.write_text("")
        _remove(home)
        try:
            yield
        finally:
            _remove(home)


def _remove(home: Home) -> None:
    home.state_file.unlink(missing_ok=True)
    for directory in (home.instances, home.temporary):
        if directory.exists():
            shutil.rmtree(directory)


@contextmanager
def _step(report: IO[str], name: str) -> Iterator[None]:
    _say(report, step=name)
    started = time.monotonic()
    yield
    _say(report, done=name, seconds=round(time.monotonic() - started, 1))


def _say(report: IO[str], **line: object) -> None:
    print(json.dumps(line), file=report, flush=True)


def _close(report: IO[str]) -> None:
    """The starter reads to the end of the pipe; what follows goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), report.fileno())


def _end_with_starter(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


if __name__ == "__main__":
    main(Home(Path(sys.argv[1])), Options(**json.loads(sys.argv[2])))

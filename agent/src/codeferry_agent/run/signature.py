"""Check that a run is signed with the key that this instance's document pins.

<root>/.signed/<project>    the highest sequence that each target has had of the project"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.files import read_json, write_json
from codeferry_contracts import signing

SEQUENCES = ".signed"


class PinnedKey:
    """The key that the document pins, for one stage; without one everything is as it was."""

    def __init__(self, environ: Mapping[str, str], root: Path, workflow: str) -> None:
        self.key = environ.get("CODEFERRY_SIGNING_KEY", "")
        self.stage = environ.get("CODEFERRY_STAGE", "")
        self.instance = environ.get("AWS_SSM_INSTANCE_ID", "")
        self.root, self.workflow = root, workflow

    def check(self, payload: SimpleNamespace) -> None:
        """Raises RunFailed unless all that the payload has us do is signed for this run and
        instance."""
        if not self.key:
            return
        signature = payload.signature
        if not signature:
            raise RunFailed("signature_missing", "The release is not signed.")
        stated = signing.payload_message(
            signature, payload, stage=self.stage, workflow=self.workflow
        )
        if not signing.is_valid(self.key, stated, signature["value"]):
            raise RunFailed("signature_invalid", "The signature is of something else.")
        if signature["run_id"] not in ("", payload.run_id):
            raise RunFailed("signature_invalid", "The signature is of another run.")
        if bool(payload.environment) != bool(signature["environment"]):
            raise RunFailed("signature_invalid", "The signature is of other variables.")
        if 0 < signature["expires_at"] < time.time():
            raise RunFailed("signature_expired", "The signature has expired.")
        if self.is_for_others(signature["target"]):
            raise RunFailed("signature_target", "The release was signed for other instances.")

    def is_for_others(self, target: str) -> bool:
        """Whether the target names instances, and not this one. Its own tags it cannot know."""
        named = target.split(",")
        return bool(self.instance) and target.startswith("i-") and self.instance not in named

    def check_variables(self, payload: SimpleNamespace, content: bytes) -> None:
        if self.key:
            found = hashlib.sha256(content).hexdigest()
            if not hmac.compare_digest(found, payload.signature["environment"]):
                raise RunFailed(
                    "signature_invalid", "The variables are not those that were signed."
                )

    # --- what was had before; only under the project's lock

    def check_newer(self, payload: SimpleNamespace) -> None:
        """Raises RunFailed when the target has had a later release of the project here."""
        if self.key and payload.signature["sequence"] < self.highest(payload):
            raise RunFailed(
                "signature_replayed", "A release that was signed later has been here already."
            )

    def highest(self, payload: SimpleNamespace) -> int:
        known = read_json(self.path(payload)) or {}
        return int(known.get(payload.signature["target"], 0))

    def note(self, payload: SimpleNamespace) -> None:
        """Remember the release as had; nothing of a rollback, which has no signature."""
        if not self.key or not payload.signature:
            return
        if payload.signature["sequence"] <= self.highest(payload):
            return
        path = self.path(payload)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        known = read_json(path) or {}
        write_json(path, {**known, payload.signature["target"]: payload.signature["sequence"]})

    def path(self, payload: SimpleNamespace) -> Path:
        return self.root / SEQUENCES / str(payload.project)

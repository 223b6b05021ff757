"""docs/train.md, followed: every command of its boxes, on an embedded AWS that is up already."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "train.md").read_text()
BOXES = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROGRAM = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# The suite has made and started these; and it has boto3, not the AWS CLI.
DONE_ALREADY = ("make setup", "export PATH", "ferry local up")
MAKES_THE_BUCKET = "aws s3 mb s3://"


def test_the_recipe_ends_with_the_model_on_the_laptop(aws, tmp_path):
    """What the page types and shows last: the trained model's file, beside the project."""
    (program,) = PROGRAM
    project = tmp_path / "line"
    project.mkdir()
    (project / "train.py").write_text(program)
    typed = [
        line.removeprefix("$ ")
        for box in BOXES
        for line in box.splitlines()
        if line.startswith("$ ") and not line[2:].startswith(DONE_ALREADY)
    ]
    (makes,) = [line for line in typed if line.startswith(MAKES_THE_BUCKET)]
    typed.remove(makes)
    aws.client("s3").create_bucket(
        Bucket=makes.removeprefix(MAKES_THE_BUCKET),
        CreateBucketConfiguration={"LocationConstraint": aws.state.region},
    )
    tools = f"{Path(sys.executable).parent}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(typed)],
        cwd=project,
        env={
            **aws.environment,
            "PATH": f"{tools}:{aws.environment['PATH']}",
            "FERRY_STAGE": aws.state.stage,
            "CODEFERRY_DRAIN_STATE": str(tmp_path / "drain"),
        },
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (shown,) = re.findall(r"^\{.*\}$", BOXES[-1], re.MULTILINE)
    assert done.stdout.splitlines()[-1] == shown
    (model,) = (tmp_path / "results").rglob("model.json")
    assert model.read_text().strip() == shown
    assert list(project.iterdir()) == [project / "train.py"]

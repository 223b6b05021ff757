"""Stand-ins for the actions the workflows use; ``with`` has to be what is written here."""

from __future__ import annotations

import re
import shutil
import subprocess


class StepFailed(Exception):
    """A step ended with an error; the message is what it printed."""


def checkout(job, given):
    assert given == {"persist-credentials": False}, given
    work, sha = job.workplace.checkout, job.run.event.sha
    job.workplace.clear()
    _git("clone", "--quiet", "--shared", "--no-checkout", job.github.repository, work)
    _git("-C", work, "checkout", "--quiet", "--detach", sha)
    job.workplace.fetch_set_up()


def setup_python(job, given):
    """A Python that is at least the one asked for is there, first on the PATH."""
    assert set(given) == {"python-version"}, given
    said = job.bash("python3 --version")
    found = [int(part) for part in re.findall(r"\d+", said)]
    assert found >= [int(part) for part in given["python-version"].split(".")], said


def upload_artifact(job, given):
    assert set(given) == {"name", "path", "if-no-files-found", "retention-days"}, given
    kept = job.run.artifacts / given["name"]
    kept.mkdir(parents=True)
    shutil.copy(job.workplace.checkout / given["path"], kept)


def download_artifact(job, given):
    assert set(given) == {"name"}, given
    kept = job.run.artifacts / given["name"]
    if not kept.is_dir():
        raise StepFailed(f"there is no artifact {given['name']}")
    shutil.copytree(kept, job.workplace.checkout, dirs_exist_ok=True)


def configure_aws_credentials(job, given):
    """Credentials for a job whose token the role trusts."""
    assert set(given) - {"role-duration-seconds"} == {"role-to-assume", "aws-region"}, given
    if job.permissions.get("id-token") != "write":
        raise StepFailed("the job may not ask for a token: id-token is not write")
    subject = job.github.subject(job.run.event, job.environment_name)
    if not job.cloud.trusts(given["role-to-assume"], subject):
        raise StepFailed(
            f"Not authorized to perform sts:AssumeRoleWithWebIdentity: {subject}, "
            f"{given['role-to-assume']}"
        )
    job.role = given["role-to-assume"]
    region = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), given["aws-region"])
    job.environment |= region | job.cloud.credentials(given["role-to-assume"])


ACTIONS = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "actions/upload-artifact": upload_artifact,
    "actions/download-artifact": download_artifact,
    "aws-actions/configure-aws-credentials": configure_aws_credentials,
}


def _git(*arguments):
    subprocess.run(["git", *map(str, arguments)], capture_output=True, text=True, check=True)

"""A bucket of a test's own in the embedded S3, `ferry s3` beside it, the failing proxy between."""

from __future__ import annotations

import os
import subprocess
import uuid
from contextlib import ExitStack

import boto3
import pytest

from tests.e2e.conftest import FERRY, Ran
from tests.proxy.server import FaultProxy

MIB = 1 << 20


PART = 8 * MIB


def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
    }


class Bucket:
    """A bucket of the test's own, and `ferry s3` beside it."""

    def __init__(self, endpoint, tmp_path):
        self.endpoint = endpoint
        self.name = f"s3-{uuid.uuid4().hex[:12]}"
        self.environment = environment(tmp_path)
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_bucket(Bucket=self.name)

    def at(self, path=""):
        return f"s3://{self.name}/{path}"

    def command(self, *arguments, endpoint=None):
        words = [str(word) for word in arguments]
        return [str(FERRY), "s3", *words, "--endpoint-url", endpoint or self.endpoint]

    def ferry(self, *arguments, endpoint=None, **environment):
        done = subprocess.run(
            self.command(*arguments, endpoint=endpoint),
            capture_output=True,
            text=True,
            env=self.environment | environment,
            timeout=150,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments, endpoint):
        return subprocess.Popen(
            self.command(*arguments, endpoint=endpoint),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def put(self, **objects):
        for key, content in objects.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def keys(self, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def content(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def unfinished(self):
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


@pytest.fixture
def bucket(ministack, tmp_path):
    return Bucket(ministack, tmp_path)


@pytest.fixture
def faulty(ministack):
    with ExitStack() as proxies:

        def start(*rules):
            proxy = proxies.enter_context(FaultProxy(ministack))
            proxy.set(*rules)
            return proxy

        yield start


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def plant(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tree_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }

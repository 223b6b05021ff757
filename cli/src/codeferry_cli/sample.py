"""The `codeferry.toml` that `ferry init` writes: every key, explained, most commented out."""

from __future__ import annotations

import json

_SAMPLE = """\
# Defaults for `ferry` in this project. A flag or a FERRY_… variable wins over a line here.

# The name of the directory on the instances: /opt/codeferry/<project>/current
project = {project}

# Where Codeferry is deployed, and how to get there.
# stage = "dev"                      # `ferry … --stage local` is the embedded AWS
# profile = "my-aws-profile"
# region = "eu-west-1"

# Which instances, so that `ferry push` needs no argument: a value of the instance tag
# codeferry:target, i-0123456789abcdef0, tag:Key=Value, asg:NAME, or all.
# target = "gpu-workers"

# What is packed: what git would track. These come along although they are ignored:
# include = ["data/small", "models/*.json"]
# Files that look like secrets and are none:
# allow_secrets = ["tests/fixtures/fake.pem"]

# How a run goes.
# timeout_seconds = 900              # of the work or the command on each instance; or "15m"
# max_concurrency = "100%"           # instances at a time: a number or a percentage
# max_errors = "0"                   # failed instances a run may have and still go on
# waves = "1,10%,50%,100%"           # how many have the release after each wave
# bake = "60s"                       # leave each instance alone for this long, then
# health = "./scripts/health.sh"     # this must end with 0, or the release before comes back
# strict = false                     # an unmet expectation fails the instance
# install = false                    # install dependencies, before the command if there is one
# wait_timeout = "1h"                # stop waiting (not the run) after this time

# What is on the instance.
# keep_releases = 5                  # older releases are removed
# user = "ec2-user"                  # owner of the tree
# persist = ["output", "checkpoints", "data"]   # lives on from release to release

# What must exist in every release.
# [expect]
# files = ["train.py"]
# directories = ["configs"]
"""


def sample(project: str) -> str:
    return _SAMPLE.format(project=json.dumps(project))

"""What an instance may do, and why: values, for the stacks, the docs and the tests.

To receive code it needs Systems Manager alone. ``command_output`` and ``drain`` are policies
that a stage exports for any instance's role; ``first_start`` and ``models`` are for the fleet's.
What the SSM agent itself does is AmazonSSMManagedInstanceCore, which AWS keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stacks.permissions import Permission

_SSM_AGENT = "The SSM agent's, which streams a command's output; the suite has none of AWS's."
_LOG_AGENT = "The CloudWatch agent's, which ships the drain's log; the suite has none."

# Granted by the CDK to the instances of a group that waits for signals.
SIGNALS: Mapping[str, str] = {
    "cloudformation:SignalResource": "Comes with the CDK's signals. cfn-signal does without: it "
    "proves which instance it is by the instance's own identity document.",
}


def command_output(log_group: str) -> list[Permission]:
    """``log_group``: the ARN of the stage's command log."""
    writing = ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")
    return [
        Permission(
            writing,
            (log_group,),
            "Run Command streams output while it runs.",
            unseen=dict.fromkeys(writing, _SSM_AGENT),
        ),
        Permission(
            ("logs:DescribeLogGroups",),
            ("*",),
            "The SSM agent looks the group up by listing; that call has no narrower resource.",
            unseen={"logs:DescribeLogGroups": _SSM_AGENT},
        ),
    ]


def drain(buckets: Sequence[str], log_group: str) -> list[Permission]:
    """What the drain agent needs to upload into ``buckets``, to prove that it did, and to log."""
    writing = ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    return [
        Permission(
            ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
            tuple(f"{bucket}/*" for bucket in buckets),
            "Uploads, under the names that programs chose; asks for the checksum of what is there "
            "already (HeadObject); gives up the parts of an upload that was cut off.",
        ),
        Permission(
            ("s3:ListBucket",),
            tuple(buckets),
            "Without it a missing key answers 403, which is no answer to whether it is there.",
            unseen={"s3:ListBucket": "No call of its own: S3 asks for it to answer 404."},
        ),
        Permission(
            writing,
            (log_group,),
            "The service's log.",
            unseen=dict.fromkeys(writing, _LOG_AGENT),
        ),
    ]


def first_start(agent: str, group: str) -> list[Permission]:
    """``agent`` is one object's ARN, ``group`` the Auto Scaling group's."""
    return [
        Permission(("s3:GetObject",), (agent,), "Installs the agent, from the one object it is."),
        Permission(
            ("autoscaling:CompleteLifecycleAction",),
            (group,),
            "Says that its own start is done. A group's ARN has a number in the middle.",
        ),
    ]


def models(bucket: str, prefix: str) -> list[Permission]:
    """What the first start of a fleet with models fetches of the permanent bucket."""
    return [
        Permission(
            ("s3:GetObject",),
            (f"{bucket}/{prefix}/*",),
            "Fetches the models; they come in as many files as they like.",
        ),
        Permission(
            ("s3:ListBucket",),
            (bucket,),
            "Finds the models.",
            conditions={"StringLike": {"s3:prefix": [f"{prefix}/*"]}},
        ),
    ]

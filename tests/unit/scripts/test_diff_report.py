"""The plan of a pull request, from what the real CDK CLI says of two templates."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.diff_report import LARGEST_DIFF, MARKER, main, parse, render

ROOT = Path(__file__).resolve().parents[3]
STACK = "Codeferry-prod-Storage"
OLD = {
    "Resources": {
        "Kept": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "one"}},
        "Gone": {"Type": "AWS::SQS::Queue", "Properties": {}},
        "Orphaned": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "Properties": {},
        },
        "Changed": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "one"}},
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": "sts:AssumeRole",
                            "Principal": {"Service": "ec2.amazonaws.com"},
                        }
                    ]
                }
            },
        },
    }
}


def changed():
    new = copy.deepcopy(OLD)
    resources = new["Resources"]
    del resources["Gone"], resources["Orphaned"]
    resources["Kept"]["Properties"]["BucketName"] = "two"
    resources["Changed"]["Properties"]["DisplayName"] = "two"
    resources["New"] = {"Type": "AWS::SQS::Queue", "Properties": {}}
    statement = resources["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    statement["Principal"] = {"AWS": "*"}
    return new


@pytest.fixture(scope="module")
def diff(tmp_path_factory):
    """The real CLI's comparison of two templates, which takes it two seconds and no AWS."""
    directory = tmp_path_factory.mktemp("diff")
    assembly = directory / "cdk.out"
    assembly.mkdir()
    (assembly / f"{STACK}.template.json").write_text(json.dumps(changed()))
    artifact = {
        "type": "aws:cloudformation:stack",
        "environment": "aws://unknown-account/unknown-region",
        "properties": {"templateFile": f"{STACK}.template.json"},
    }
    manifest = {"version": "36.0.0", "artifacts": {STACK: artifact}}
    (assembly / "manifest.json").write_text(json.dumps(manifest))
    old = directory / "old.json"
    old.write_text(json.dumps(OLD))
    cdk = [sys.executable, str(ROOT / "scripts" / "cdk.py")]
    done = subprocess.run(
        [*cdk, "diff", "--app", str(assembly), "--template", str(old), "--no-color", "--ci"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "CDK_DISABLE_CLI_TELEMETRY": "true"},
    )
    return done.stdout


def report(text):
    return "\n".join(render(parse(text.splitlines()), text, "prod", "ab" * 32))


def test_what_would_be_lost_is_named_first(diff):
    """A resource that goes, one that is left behind, one that is replaced."""
    (stack,) = parse(diff.splitlines())
    lost = "\n".join(stack.lost)
    assert "**destroy** AWS::SQS::Queue Gone" in lost
    assert "**orphan** AWS::S3::Bucket Orphaned" in lost
    assert "AWS::S3::Bucket Kept" in lost
    assert "Changed" not in lost
    text = report(diff)
    assert text.index("Deletes or replaces") < text.index("| stack |") < text.index("<details>")


def test_changes_of_permission_are_named(diff):
    """Who may do what is a decision of its own."""
    assert "Changes who may do what" in report(diff)
    (stack,) = parse(diff.splitlines())
    assert stack.opened == ["IAM Statement changes"]


def test_the_counts_are_those_of_the_diff(diff):
    """One new, three changed, two gone."""
    (stack,) = parse(diff.splitlines())
    assert stack.counts == {"+": 1, "~": 3, "-": 2}
    assert f"| {STACK} | 1 | 3 | 2 |" in report(diff)


def test_the_report_says_which_assembly_and_starts_with_its_marker(diff):
    """The comment is found again by its first line; the digest is what gets deployed."""
    text = report(diff)
    assert text.startswith(MARKER + "\n")
    assert f"Assembly `{'ab' * 32}`" in text


def test_a_harmless_change_raises_no_warning():
    """A caution that is always there is read by nobody."""
    text = f"Stack {STACK}\nResources\n[+] AWS::SQS::Queue New New123\n"
    assert "CAUTION" not in report(text)


def test_nothing_to_change_is_said_in_a_line():
    """And the comment that said otherwise before is brought up to date."""
    text = report(f"Stack {STACK}\nThere were no differences\n")
    assert "Nothing would change." in text
    assert "<details>" not in text


def test_the_diff_cannot_leave_its_fence():
    """A description with backticks stays text."""
    text = f"Stack {STACK}\n[+] AWS::SNS::Topic A B\n````\n<script>\n"
    lines = report(text).splitlines()
    assert lines.count("`````") == 2


def test_names_cannot_mention_or_link():
    """What stands outside the fence is inert."""
    text = f"Stack {STACK}\n[-] AWS::SNS::Topic @all/<b>[x](y) Z destroy\n"
    outside = report(text).split("<details>")[0]
    assert r"\@all/\<b\>\[x\](y)" in outside


def test_a_comment_always_fits():
    """GitHub takes 65,536 characters; a long diff is cut and says so."""
    line = "[-] AWS::SNS::Topic " + "x" * 200 + " destroy\n"
    text = f"Stack {STACK}\n" + line * (2 * LARGEST_DIFF // len(line))
    found = report(text)
    assert len(found) < 65_000
    assert "… cut here" in found
    assert "more" in found


def test_an_embedded_program_does_not_hide_the_rest():
    """Its lines of letters are shortened before anything is cut: what comes after is seen."""
    program = f" │   [+] {'x' * 1000}\n" * 100
    last = "[~] AWS::Logs::LogGroup Log Log123\n"
    text = report(
        f"Stack Documents\n[~] AWS::SSM::Document Sync Sync1\n{program}Stack {STACK}\n{last}"
    )
    assert last in text
    assert "more characters)" in text
    assert "… cut here" not in text


def test_the_command_reads_a_file_and_prints(diff, tmp_path, capsys):
    """As the workflow calls it."""
    path = tmp_path / "diff.txt"
    path.write_text(diff)
    assert main(["--stage", "prod", "--sha256", "ab" * 32, str(path)]) == 0
    assert capsys.readouterr().out == report(diff) + "\n"

"""`cdk diff`, for a person who has to say yes: what is lost, what is opened, then everything.

Reads the CDK's own text (``cdk diff --method=template --no-color``) and writes Markdown that
fits into one GitHub comment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARKER = "<!-- codeferry: plan -->"
# A comment has at most 65,536 characters (GitHub's API answers 422 beyond).
LARGEST_DIFF = 50_000
# A document's embedded program is lines of a thousand letters each, which nobody reads.
LONGEST_LINE = 300
LARGEST_LIST = 40

_STACK = re.compile(r"^Stack (\S+)")
# "[~] AWS::S3::Bucket Artifacts/Bucket ArtifactsBucket8867 replace"
_RESOURCE = re.compile(r"^\[([-+~←])\] (\S+::\S+) (.+)$")
_LOST = re.compile(r"\b(destroy|orphan|replace|may be replaced)$")
_NESTED_REPLACEMENT = re.compile(r"\((requires replacement|may cause replacement)\)")
_SECURITY = re.compile(r"^(IAM Statement|IAM Policy|Security Group) Changes")


@dataclass
class StackDiff:
    """One stack's part: counts by sign, and what deserves a second look."""

    name: str
    counts: dict[str, int] = field(default_factory=lambda: {"+": 0, "~": 0, "-": 0})
    lost: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any(self.counts.values()) or bool(self.opened)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Render a cdk diff for review.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--sha256", required=True, help="of the assembly that was compared")
    parser.add_argument("diff", type=Path)
    chosen = parser.parse_args(arguments)
    text = chosen.diff.read_text()
    print("\n".join(render(parse(text.splitlines()), text, chosen.stage, chosen.sha256)))
    return 0


def parse(lines: Iterable[str]) -> list[StackDiff]:
    """The stacks of a diff, in its order."""
    stacks: list[StackDiff] = []
    for line in lines:
        if found := _STACK.match(line):
            stacks.append(StackDiff(found[1]))
        elif stacks:
            _read(line, stacks[-1])
    return stacks


def _read(line: str, stack: StackDiff) -> None:
    if resource := _RESOURCE.match(line):
        sign, kind, what = resource.groups()
        stack.counts[sign if sign in stack.counts else "~"] += 1
        if fate := _LOST.search(what):
            stack.lost.append(f"**{fate[1]}** {kind} {what[: fate.start()].strip()}")
    elif nested := _NESTED_REPLACEMENT.search(line):
        stack.lost.append(f"**{nested[1]}**: {line.strip(' ├└─│').strip()}")
    elif security := _SECURITY.match(line):
        stack.opened.append(f"{security[1]} changes")


def render(stacks: list[StackDiff], text: str, stage: str, sha256: str) -> Iterator[str]:
    """The comment, line by line."""
    yield from (MARKER, f"## Plan for `{stage}`", "")
    yield from (f"Assembly `{sha256}`", "")
    changed = [stack for stack in stacks if stack.changed]
    if not changed:
        yield "Nothing would change."
        return
    yield from _warning("Deletes or replaces", [(s, what) for s in changed for what in s.lost])
    yield from _warning(
        "Changes who may do what", [(s, what) for s in changed for what in s.opened]
    )
    yield from ("| stack | new | changed | gone |", "|---|---|---|---|")
    for stack in changed:
        counts = stack.counts
        yield f"| {stack.name} | {counts['+']} | {counts['~']} | {counts['-']} |"
    yield from _whole(text)


def _warning(title: str, found: list[tuple[StackDiff, str]]) -> Iterator[str]:
    if not found:
        return
    yield from ("> [!CAUTION]", f"> {title}:")
    for stack, what in found[:LARGEST_LIST]:
        yield f"> - {stack.name}: {_inert(what)}"
    if len(found) > LARGEST_LIST:
        yield f"> - and {len(found) - LARGEST_LIST} more"
    yield ""


def _inert(what: str) -> str:
    """No mention, link or HTML out of a construct's name."""
    return re.sub(r"([<>@\[\]`])", r"\\\1", what)


def _whole(text: str) -> Iterator[str]:
    """The diff itself, behind a fence longer than any in it."""
    shown = "\n".join(_shortened(line) for line in text.splitlines())
    if len(shown) > LARGEST_DIFF:
        shown = shown[:LARGEST_DIFF] + "\n… cut here"
    longest = max((len(ticks) for ticks in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from ("", "<details><summary>cdk diff</summary>", "", fence, shown.rstrip(), fence)
    yield from ("", "</details>")


def _shortened(line: str) -> str:
    left = len(line) - LONGEST_LINE
    return line if left <= 0 else f"{line[:LONGEST_LINE]}… ({left} more characters)"


if __name__ == "__main__":
    sys.exit(main())

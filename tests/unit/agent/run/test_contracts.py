"""The agent cannot import contracts; these tests hold its copies to them."""

from __future__ import annotations

import ast
import base64
import json
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codeferry_agent.run
from codeferry_agent.run import payload as run_payload
from codeferry_agent.run import result as run_result
from codeferry_agent.run.command.supervise import Ended
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.release import archive as run_archive
from codeferry_agent.run.release import manifest as run_manifest
from codeferry_contracts import archive, names, signing
from codeferry_contracts.parameters import LONGEST_STEP_SECONDS, Payload
from codeferry_contracts.request_schema import MAX_ARGUMENTS, SCHEMA, problems
from codeferry_contracts.result import (
    RESULT_MAX_CHARACTERS,
    CommandOutcome,
    ExitStatus,
    InstanceResult,
    parse_result,
)
from tests.unit.agent.archives import SMALL, hostile, member, pack
from tests.unit.agent.archives import entries as packed_entries
from tests.unit.agent.conftest import SOURCES, Instance

PACKAGE, RUN = "codeferry_agent.run", Path(codeferry_agent.run.__file__).parent
names_of_files = st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.mark.parametrize("source", [*SOURCES, Path(signing.__file__)], ids=lambda path: path.stem)
def test_the_sources_need_the_standard_library_only(source: Path) -> None:
    """Every import is a module Python brings along or one of them, in the grammar of 3.9. What
    they share with the functions is the one module that travels with them."""
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    modules = [
        ".".join((PACKAGE, *other.relative_to(RUN).with_suffix("").parts)) for other in SOURCES
    ]
    own = {*modules, *(module.rpartition(".")[0] for module in modules), "codeferry_contracts"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            shared = module == "codeferry_contracts"
            assert not shared or [name.name for name in node.names] == ["signing"]
            assert module in own or module.split(".")[0] in sys.stdlib_module_names


def test_names_and_limits_are_those_of_the_contracts() -> None:
    """Patterns, field names and bounds are the same on both sides."""
    assert f"^{run_payload.RUN_ID}$" == names.RUN_ID_PATTERN
    assert run_result.RESULT_MAX_CHARACTERS == RESULT_MAX_CHARACTERS
    assert archive.LINK_MODE == run_manifest.LINK_MODE
    assert run_payload.META.decode() == archive.META_DIRECTORY
    assert run_archive.MANIFEST.decode() == archive.MANIFEST_PATH
    assert run_archive.SUMS.decode() == archive.SUMS_PATH
    assert (run_archive.MAX_PATH, run_archive.MAX_COMPONENT) == (archive.MAX_PATH, archive.MAX_NAME)
    assert set(run_payload.FIELDS) == set(Payload.__dataclass_fields__)
    fields = set(InstanceResult.__dataclass_fields__)
    assert set(run_result.blank_result("r")) - {"codeferry_result"} == fields
    assert run_payload.MAX_ARGUMENTS == MAX_ARGUMENTS
    assert run_payload.MAX_SECONDS == LONGEST_STEP_SECONDS


def test_endings_are_those_of_the_contracts() -> None:
    """How a command ended has the same words and fields on both sides."""
    result = run_result.interrupted(run_result.blank_result("r"))
    assert set(result["ran"]) == set(CommandOutcome.__dataclass_fields__)
    ways = [Ended(reason, -1, 0, 0.0, 0, 0, False) for reason in ("timed_out", "cancelled", "")]
    ways.append(ways[-1]._replace(signal=9))
    ways.append(ways[-1]._replace(oom=True))
    ours = {way.outcome for way in ways} | {"not_started", "interrupted"}
    assert ours == set(get_args(ExitStatus))
    for way in ways:
        assert not way._replace(exit_code=0).failure(5) or way.reason or way.signal


@given(st.dictionaries(names_of_files, st.tuples(st.integers(0, 0o777), digests)))
def test_the_digest_is_the_contracts_digest(tree: dict[bytes, tuple[int, str]]) -> None:
    """Over any names, modes and contents both sides compute the same release."""
    ours = {path: run_manifest.Entry(mode, 0, sha) for path, (mode, sha) in tree.items()}
    theirs = [
        archive.Entry(path.decode("utf-8", "surrogateescape"), mode, 0, sha)
        for path, (mode, sha) in tree.items()
    ]
    assert run_manifest.tree_digest(ours) == archive.tree_digest(theirs)


@given(
    st.dictionaries(names_of_files, st.tuples(st.integers(0, 0o777), st.integers(0), digests)),
    st.dictionaries(names_of_files, names_of_files),
)
def test_every_manifest_of_the_contracts_is_accepted(
    files: dict[bytes, tuple[int, int, str]], links: dict[bytes, bytes]
) -> None:
    """What contracts write over a tree, apply reads as exactly that tree."""
    ours: dict[bytes, Any] = {path: run_manifest.Entry(*fields) for path, fields in files.items()}
    ours.update({path: run_manifest.link_entry(target) for path, target in links.items()})
    theirs = [_theirs(path, entry) for path, entry in ours.items()]
    document = b"".join(archive.manifest_lines(archive.summarise("p", theirs), theirs))
    run_manifest.check_manifest(document, ours)
    if ours:
        path = next(iter(ours))
        with pytest.raises(RunFailed):
            run_manifest.check_manifest(
                document, {**ours, path: run_manifest.Entry(0o1, 1, "0" * 64)}
            )


def _theirs(path: bytes, entry: run_manifest.Entry) -> archive.Entry:
    name = path.decode("utf-8", "surrogateescape")
    if entry.link is not None:
        return archive.link_entry(name, entry.link.decode("utf-8", "surrogateescape"))
    return archive.Entry(name, entry.mode, entry.size, entry.sha256)


@given(st.lists(st.text(max_size=60), max_size=40), st.lists(st.text(max_size=1000), max_size=1000))
def test_a_result_line_always_fits_and_is_read(unmet: list[str], warnings: list[str]) -> None:
    """However much there is to say, in whatever script, it is one line the workflow can read."""
    error = {"code": "c" * 99, "message": "\ud800" * 999, "hint": "\u00e9\n" * 999}
    result = run_result.blank_result("r" * 80) | {"unmet": unmet, "warnings": warnings}
    for said in (result, result | {"error": error}):
        line = run_result.result_line(said)
        assert len(line) <= RESULT_MAX_CHARACTERS
        assert "\n" not in line
        assert parse_result(line).run_id == "r" * 80


def test_what_is_cut_from_a_result_line_is_counted() -> None:
    """A thousand warnings: the first ones whole, and how many more there were."""
    result = run_result.blank_result("r") | {"warnings": [f"warning {n}" for n in range(1000)]}
    warnings = parse_result(run_result.result_line(result)).warnings
    assert warnings[0] == "warning 0"
    assert warnings[-1] == f"... and {1000 - len(warnings) + 1} more"


def test_a_thousand_unmet_paths_fit(instance: Instance) -> None:
    """Two hundred expected paths that are missing still give one readable line."""
    expected = tuple(f"missing/{'n' * 40}/{n}" for n in range(100))
    body = pack(SMALL)
    result = instance.apply(body, expect_files=expected, expect_directories=expected).result
    assert result.status == "applied"
    assert result.unmet[0] == expected[0]
    assert result.unmet[-1].endswith(" more")


def payload(**changes: object) -> str:
    fields = asdict(
        Payload("r", "p", "https://h/x", "0" * 64, 1, "", -1, 1, 1, 5, False, "", (), (), ())
    )
    return base64.b64encode(json.dumps(fields | changes).encode()).decode()


WRONG: dict[str, list[object]] = {
    "run_id": ["", "../x", "a/b", "a" * 81, "a\n", 3, None],
    "project": ["", "..", ".", "a/b", "a b", "a" * 65, "p\n"],
    "url": ["", "h", "ftp://h/x", "file:///x", "https://h", "https://h/x y", "https://h/\n", "http://h/\xe9"],
    "sha256": ["", "0" * 63, "g" * 64, "0" * 64 + "\n"],
    "size": [0, -1, 1.0, True, "1", 1 << 60],
    "digest": ["0", None],
    "files": [-2, True],
    "unpacked_bytes": [-1, None],
    "unpacked_files": [0, 1.5],
    "keep_releases": [0, 101],
    "strict": [0, None],
    "user": ["root;id", "-x", "A", "a" * 33],
    "persist": [
        "output", ["/abs"], ["../x"], ["a/../b"], ["."], [""], [".codeferry/x"], ["\ud800"],
        ["a\ud800"], ["a\n"], [3], ["x"] * 101,
    ],
    "expect_files": [["/etc/passwd"], ["a/.."]],
    "expect_directories": [["/"], [".."]],
    "command": ["true", [3], ["a\0"], ["\ud800"], ["x\udfff"], ["x"] * 2001],
    "command_seconds": [-1, 172_801, True],
    "environment": ["https://h/x", 1, None],
    "install": [0, "yes"],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(f, v) for f in WRONG for v in WRONG[f]])
def test_nonsense_in_a_payload_is_refused_by_name(field: str, value: object) -> None:
    """The instance does not trust what it is sent, and says which field it is."""
    with pytest.raises(RunFailed, match=field) as raised:
        run_payload.parse_payload(payload(**{field: value}))
    assert raised.value.code == "payload_invalid"


@given(st.text(max_size=60))
def test_every_path_a_request_may_name_is_taken(path: str) -> None:
    """What contracts accept as a path inside the project, apply accepts, its own names excepted."""
    schema = SCHEMA["properties"]["options"]["properties"]["persist"]
    own = path.split("/")[0] == archive.META_DIRECTORY
    if not own and not any(0xD800 <= ord(c) <= 0xDFFF for c in path):
        assert run_payload.paths([path]) == (not list(problems([path], schema)))


@pytest.mark.parametrize("text", ["", "!", "e30=", "bnVsbA==", "WzFd", "W1tb" * 5000, "\udcff"])
def test_a_payload_that_is_none_is_answered(instance: Instance, text: str) -> None:
    """Not base64, not JSON, not an object, not its fields: a result line with the run's id."""
    answer = instance.send(text)
    assert answer.code == "payload_invalid"
    assert answer.result.run_id == "run-0"
    assert not instance.project.exists()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([member("a", bytes(60)), member("b", bytes(41))], "more bytes than it may, with 'b'"),
        ([member("a/b/c/d", b""), member("a/b/e", b"")], "more than the 4 files and directories"),
        ([member(name, b"") for name in "abcde"], "more than the 4 files and directories"),
    ],
    ids=["bytes", "directories", "files"],
)
def test_what_was_announced_is_the_bound(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], says: str
) -> None:
    """One byte, file or directory more than announced is refused; as many as that are not."""
    (tmp_path / "archive").write_bytes(hostile(*members))

    def extract(size: int, files: int) -> run_archive.TreeWriter:
        into = tmp_path / f"tree-{files}"
        into.mkdir()
        most = SimpleNamespace(unpacked_bytes=size, unpacked_files=files)
        return run_archive.extract(tmp_path / "archive", into, None, most)

    with pytest.raises(RunFailed, match=says) as raised:
        extract(100, 4)
    assert raised.value.code == "archive_too_large"
    assert "archive.unpacked_bytes" in raised.value.hint
    assert len(extract(101, 5).entries) == len(members)


def test_headers_alone_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of nothing but long headers ends when it has more than its files can need."""
    monkeypatch.setattr(run_archive, "MAX_MANIFEST", 0)
    padded = member("a", b"", pax_headers={"comment": "c" * 200_000})
    (tmp_path / "archive").write_bytes(hostile(padded))
    (tmp_path / "tree").mkdir()
    most = SimpleNamespace(unpacked_bytes=0, unpacked_files=2)
    with pytest.raises(RunFailed, match="longer headers than it may"):
        run_archive.extract(tmp_path / "archive", tmp_path / "tree", None, most)


links_inside = st.dictionaries(
    st.sampled_from(["a", "b", "d/c", "d/e", "d/f/g"]),
    st.lists(st.sampled_from(["..", ".", *"abcdefx"]), min_size=1, max_size=7).map("/".join),
)


@given(links_inside)
def test_no_link_that_is_let_through_leads_out(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]
) -> None:
    """Made on a real disk, whatever leads_out lets pass resolves inside the tree or nowhere."""
    top = tmp_path_factory.mktemp("links")
    (top / "tree/d/f").mkdir(parents=True)
    raw = {path.encode(): target.encode() for path, target in links.items()}
    passed = not any(run_archive.leads_out(path, raw, 2) for path in raw)
    for path, target in links.items():
        (top / "tree" / path).symlink_to(target)
    for path in links:
        try:
            real = (top / "tree" / path).resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        inside = real.is_relative_to(top / "tree")
        assert inside or not passed


def test_the_answers_fields_are_json(instance: Instance) -> None:
    """The line begins with the key the workflow looks for."""
    answer = instance.push({e.path: b"" for e in packed_entries({"f": b""})})
    assert next(iter(json.loads(answer.out))) == "codeferry_result"

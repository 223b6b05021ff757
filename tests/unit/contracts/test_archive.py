"""The manifest and where an archive keeps it."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts import archive
from codeferry_contracts.errors import ArchiveInvalid

HEX = "0123456789abcdef"
paths = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20
) | st.binary(min_size=1, max_size=8).filter(lambda b: b"\0" not in b).map(
    lambda b: b.decode("utf-8", "surrogateescape")
)
files = st.builds(
    archive.Entry,
    path=paths,
    mode=st.integers(0, 0o777),
    size=st.integers(0, 1 << 40),
    sha256=st.text(HEX, min_size=64, max_size=64),
)
links = st.builds(archive.link_entry, path=paths, target=paths)
trees = st.lists(files | links, max_size=6, unique_by=lambda entry: archive.path_bytes(entry.path))


@given(trees)
def test_a_manifest_survives_the_round_trip(entries):
    """What is written into an archive is read back entry for entry, whatever the names."""
    summary = archive.summarise("demo", entries)
    read = archive.parse_manifest(b"".join(archive.manifest_lines(summary, entries)))
    assert read == archive.Manifest(summary=summary, entries=tuple(entries))


@given(trees, st.randoms())
def test_the_digest_does_not_depend_on_order(entries, random):
    """The same tree is the same release however it was walked."""
    shuffled = random.sample(entries, len(entries))
    assert archive.tree_digest(shuffled) == archive.tree_digest(entries)


def test_the_digest_depends_on_everything_that_matters():
    """Another mode, content, name or link target is another release."""
    base = archive.Entry("a", 0o644, 1, "0" * 64)
    variants = [
        [base],
        [archive.Entry("a", 0o755, 1, "0" * 64)],
        [archive.Entry("a", 0o644, 1, "1" * 64)],
        [archive.Entry("b", 0o644, 1, "0" * 64)],
        [archive.link_entry("a", "x")],
        [archive.link_entry("a", "y")],
        [],
    ]
    assert len({archive.tree_digest(variant) for variant in variants}) == len(variants)


def test_sha256sum_reads_the_sums(tmp_path):
    """GNU sha256sum -c accepts the file, also with newlines and backslashes in names."""
    names = ["plain", "with space", "new\nline", "back\\slash", "-rf"]
    entries = []
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        digest = archive.hashlib.sha256(name.encode()).hexdigest()
        entries.append(archive.Entry(name, 0o644, len(name), digest))
    (tmp_path / "SUMS").write_bytes(b"".join(archive.sha256sums_lines(entries)))
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == len(names)


HEAD = b'{"format": 1, "project": "p", "release_id": "r", "digest": "d", "files": 1, "bytes": 1'
NO_MANIFESTS = [
    *(b"", b"{}", b"[]", b'{"format": 2}', b'{"format": 1}', HEAD + b"}"),
    *(HEAD + b', "entries": [%s]}' % each for each in (b"3", b'{"a": 1}', b'{"path": "a"}')),
    HEAD + b', "entries": [{"path": 3, "mode": "644", "size": 1, "sha256": "x"}]}',
    HEAD + b', "entries": [{"path": "a", "link": 3}]}',
    HEAD[:-1] + b'"many", "entries": []}',
    HEAD[:-1] + b'-1, "entries": []}',
]


@pytest.mark.parametrize("document", NO_MANIFESTS)
def test_what_is_no_manifest_is_refused(document):
    """A broken manifest is an error that says so, not a crash."""
    with pytest.raises(ArchiveInvalid):
        archive.parse_manifest(document)


def test_directories_are_counted_once():
    """Whatever it takes to hold the files, down to the root, which is there."""
    paths = ["a", "b/c", "b/d", "b/e/f/g", "h/i"]
    entries = [archive.Entry(path, 0o644, 0, "0" * 64) for path in paths]
    assert archive.directory_count(entries) == len({"b", "b/e", "b/e/f", "h"})


@given(st.integers(0, (1 << 62)))
def test_the_footer_leads_to_the_manifest(offset):
    """The last bytes of an archive tell where its manifest begins."""
    tail = b"x" * 10 + archive.footer(offset)
    assert archive.manifest_offset(tail) == offset


@given(st.binary(max_size=100))
def test_a_foreign_archive_has_no_footer(tail):
    """Other gzip files simply have no manifest."""
    assert archive.manifest_offset(tail) is None
    assert archive.manifest_offset(gzip.compress(tail)) is None


def test_the_manifest_is_read_from_its_own_member():
    """A ranged GET of the tail is enough."""
    summary = archive.summarise("demo", [archive.Entry("a", 0o644, 0, "0" * 64)])
    document = b"".join(archive.manifest_lines(summary, []))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as writer:
        member = tarfile.TarInfo(archive.MANIFEST_PATH)
        member.size = len(document)
        writer.addfile(member, io.BytesIO(document))
    assert archive.read_manifest(gzip.compress(tar.getvalue())).summary == summary


@pytest.mark.parametrize(
    "member",
    [b"", b"not gzip", gzip.compress(b"not tar" * 200, mtime=0)],
    ids=["empty", "no gzip", "no tar"],
)
def test_an_unreadable_manifest_member_is_refused(member):
    """A damaged tail is an error that says so."""
    with pytest.raises(ArchiveInvalid):
        archive.read_manifest(member)

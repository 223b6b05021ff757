"""Hostile and damaged archives: refused whole, nothing around touched, the old release stays."""

from __future__ import annotations

import gzip
import io
import os
import resource
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codeferry_agent.run.files import opened
from codeferry_agent.run.release import archive
from codeferry_contracts import archive as contract
from tests.unit.agent.archives import (
    SMALL,
    Link,
    Tree,
    entries,
    hostile,
    link,
    member,
    pack,
    tar,
)
from tests.unit.agent.conftest import Gnu, Instance, picture

HARD, DIR = tarfile.LNKTYPE, tarfile.DIRTYPE


def _zeros() -> bytes:
    header = tarfile.TarInfo("zeros")
    header.size = 1 << 30
    one = gzip.compress(bytes(1 << 20))
    return gzip.compress(header.tobuf()) + one * 1024 + gzip.compress(bytes(1024))


ZEROS = _zeros()  # of less than a megabyte


def _pax_globally(headers: dict[str, str]) -> bytes:
    """An archive whose first header overrides fields of all that follow."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers
    ) as out:
        out.addfile(tarfile.TarInfo("innocent"))
    return gzip.compress(buffer.getvalue(), 1)


def _hidden_member() -> bytes:
    """A file whose pax size says nothing, so that its content is read as the next member."""
    evil = tarfile.TarInfo("../evil").tobuf()
    return hostile(member("innocent", evil, pax_headers={"size": "0"}))


REFUSED: dict[str, bytes] = {
    "parent": hostile(member("../evil", b"x")),
    "parent inside": hostile(member("a/../../evil", b"x")),
    "harmless parent": hostile(member("a/../b", b"x")),
    "absolute": hostile(member("/tmp/evil", b"x")),
    "absolute behind a dot": hostile(member(".//evil", b"x")),
    "absolute directory": hostile(member("/", type=DIR)),
    "dot inside": hostile(member("a/./b", b"x")),
    "empty component": hostile(member("a//b", b"x")),
    "empty name": hostile(member("", b"x")),
    "file that is the root": hostile(member(".", b"x")),
    "file with a final slash": hostile(member("a/", b"x", type=tarfile.REGTYPE)),
    "component of 256 bytes": hostile(member("n" * 256, b"x")),
    "path of 4,099 bytes": hostile(member("/".join(["n" * 99] * 41), b"x")),
    "character device": hostile(member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": hostile(member("sda", type=tarfile.BLKTYPE, devmajor=8)),
    "FIFO": hostile(member("pipe", type=tarfile.FIFOTYPE)),
    "contiguous": hostile(member("c", b"x", type=tarfile.CONTTYPE)),
    "unknown type": hostile(member("w", type=b"W")),
    "volume label": hostile(member("label", type=b"V")),
    "directory with content": hostile(member("d", b"x" * 512, type=DIR)),
    "duplicate": hostile(member("a", b"1"), member("a", b"2")),
    "duplicate spelt otherwise": hostile(member("a", b"1"), member("./a", b"2")),
    "duplicate directory": hostile(member("d", type=DIR), member("./d/", type=DIR)),
    "directory as file": hostile(member("d/x", b"1"), member("d", b"2")),
    "file as directory": hostile(member("d", b"2"), member("d/x", b"1")),
    "file then directory": hostile(member("d", b"2"), member("d", type=DIR)),
    "file and link": hostile(member("a", b"1"), link("a", "b")),
    "link and file": hostile(link("a", "b"), member("a", b"1")),
    "link and directory": hostile(link("a", "b"), member("a", type=DIR)),
    "directory and link": hostile(member("a/x", b""), link("a", "b")),
    "below a link": hostile(member("d/x", b"1"), link("l", "d"), member("l/y", b"2")),
    "below a link out": hostile(link("l", "/etc"), member("l/evil", b"x")),
    "link out": hostile(link("l", "../../evil")),
    "link out from below": hostile(link("a/b/l", "../../../evil")),
    "absolute link": hostile(link("l", "/etc/passwd")),
    "empty link": hostile(link("l", "")),
    "link chain out": hostile(link("a", "d/b"), link("d/b", "../c"), link("c", "../evil")),
    "link through a link out": hostile(link("d/l", "."), link("m", "d/l/../../evil")),
    "links that add up": hostile(link("x/y", ".."), link("z", "x/y/../evil")),
    "hard link out": hostile(link("h", "../../around/passwd", HARD)),
    "absolute hard link": hostile(link("h", "/etc/passwd", HARD)),
    "hard link ahead": hostile(link("h", "f", HARD), member("f", b"x")),
    "hard link to a link": hostile(member("f", b""), link("s", "f"), link("h", "s", HARD)),
    "hard link to a directory": hostile(member("d", type=DIR), link("h", "d", HARD)),
    "hard link to itself": hostile(link("h", "h", HARD)),
    "hard link to the manifest": hostile(
        member(contract.MANIFEST_PATH, b"{}"), link("h", contract.MANIFEST_PATH, HARD)
    ),
    "hard link with content": hostile(
        member("f", b"x"), member("h", b"x" * 512, type=HARD, linkname="f")
    ),
    "reserved name": hostile(member(".codeferry/other", b"x")),
    "reserved name as file": hostile(member(".codeferry", b"x")),
    "manifest as link": hostile(member("f", b""), link(contract.MANIFEST_PATH, "../f")),
    "pax path out": hostile(member("innocent", b"x", pax_headers={"path": "../evil"})),
    "pax link out": hostile(
        member("l", type=tarfile.SYMTYPE, linkname="f", pax_headers={"linkpath": "../../evil"})
    ),
    "pax global path out": _pax_globally({"path": "../evil"}),
    "pax link out of the tree by hard link": hostile(
        member("f", b"x"), member("h", type=HARD, linkname="f", pax_headers={"linkpath": "../f"})
    ),
    "pax size below zero": hostile(member("x", b"x", pax_headers={"size": "-512"})),
    "pax size that is no number": hostile(member("x", b"x", pax_headers={"size": "many"})),
    "pax size beyond the end": hostile(member("x", b"x", pax_headers={"size": "1000000"})),
    "pax size of a directory": hostile(member("d", type=DIR, pax_headers={"size": "512"})),
    "pax size that hides a member": _hidden_member(),
    "pax path that is empty": hostile(member("x", b"x", pax_headers={"path": ""})),
    "pax name with NUL": hostile(member("x", b"x", pax_headers={"path": "a\0b"})),
    "pax sparse": hostile(
        member(
            "s",
            b"0\n" + bytes(510),
            pax_headers={
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": "s",
                "GNU.sparse.realsize": "0",
            },
        )
    ),
    "pax sparse of the oldest kind": hostile(
        member(
            "s",
            b"x",
            pax_headers={
                "GNU.sparse.size": "1",
                "GNU.sparse.map": "0,1",
                "GNU.sparse.numblocks": "1",
            },
        )
    ),
    "GNU sparse": hostile(member("s", b"x", type=tarfile.GNUTYPE_SPARSE)),
    "GNU long link out": hostile(link("l", "../" * 60 + "evil"), kind=tarfile.GNU_FORMAT),
    "GNU long name of a million bytes": hostile(
        member("n" * 1_000_000, b"x"), kind=tarfile.GNU_FORMAT
    ),
    "GNU dump directory": hostile(member("d", type=b"D")),
    "GNU continued on another volume": hostile(member("m", b"x", type=b"M")),
    "hard link chain to a link out": hostile(
        link("s", "../../around/passwd"), link("h", "s", HARD), link("i", "h", HARD)
    ),
    "hard link to a link to a file": hostile(
        member("f", b"x"), link("s", "f"), link("h", "s", HARD), member("h", b"y")
    ),
    "setuid device": hostile(
        member("tool", type=tarfile.CHRTYPE, mode=0o4755, devmajor=1, devminor=1)
    ),
    "GNU long name out": hostile(member("../" * 60 + "evil", b"x"), kind=tarfile.GNU_FORMAT),
    "extended header of 2 MB": hostile(member("x", b"", pax_headers={"comment": "c" * 2_000_000})),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_archive_is_refused_whole(instance: Instance, name: str) -> None:
    """Nothing of it is outside staging, and the old release is still current and as it was."""
    old = instance.settle()
    before = picture(instance.project / "releases")
    answer = instance.apply(REFUSED[name])
    assert answer.code in ("archive_refused", "archive_invalid"), answer.err
    assert "Traceback" not in answer.err
    assert answer.message
    assert instance.current_id == old
    assert picture(instance.project / "releases") == before


@pytest.mark.parametrize("name", ["parent", "link chain out", "below a link", "FIFO", "duplicate"])
def test_every_python_refuses(any_python: Instance, name: str) -> None:
    """Python's own tar reading differs between versions; the refusals do not."""
    assert any_python.apply(REFUSED[name]).code == "archive_refused"


def _empty_members(count: int) -> bytes:
    headers = (tarfile.TarInfo(f"f{n}").tobuf(tarfile.USTAR_FORMAT) for n in range(count))
    return gzip.compress(b"".join(headers) + bytes(1024), 6)


def _one_long_name() -> bytes:
    """A GNU long name of 1 GiB, in about a megabyte."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    return gzip.compress(header.tobuf()) + gzip.compress(bytes(1 << 20)) * 1024


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "1 GiB of zeros": (lambda: ZEROS, "more bytes than it may, with 'zeros'"),
    "1 GiB of a name": (_one_long_name, "header that is far too long"),
    "200,000 empty members": (lambda: _empty_members(200_000), "more than the 100,000 files"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_fills_neither_memory_nor_disk(instance: Instance, name: str) -> None:
    """It is refused within 160 MiB of memory and what was announced on disk, then all is gone.

    The kernel holds the process to both limits: beyond them it would fail in other words.
    """
    make, says = BOMBS[name]
    old = instance.settle()
    instance.store.body = body = make()
    assert len(body) < 4 << 20
    announced = 64 << 20
    run = instance.start(instance.payload(body, unpacked_bytes=announced, unpacked_files=100_000))
    for limit, most in (
        (resource.RLIMIT_DATA, 160 << 20),
        (resource.RLIMIT_FSIZE, announced),
    ):
        resource.prlimit(run.pid, limit, (most, most))
    answer = instance.finish(run)
    assert answer.code in ("archive_refused", "archive_too_large")
    assert says in answer.message
    assert instance.current_id == old


def test_what_compresses_extremely_well_arrives(instance: Instance) -> None:
    """A manifest announces 80 MiB in less than 100 kB of archive, and that is what comes out."""
    tree: Tree = {"mask.npy": bytes(80 << 20)}
    instance.push(tree)
    assert len(instance.store.body) < 1 << 20
    assert (instance.current / "mask.npy").stat().st_size == 80 << 20


def test_very_deep_paths_arrive_and_go(instance: Instance) -> None:
    """As deep as Linux can open; nothing of it is left when its release is pruned."""
    deep = "/".join(["d"] * 2046) + "/end"
    assert len(deep) == archive.MAX_PATH
    first = instance.push({deep: b"x", "up": Link(deep[:-4])})
    with opened(instance.current.resolve()) as root:
        assert os.stat(deep, dir_fd=root).st_size == 1
    for content in (b"1", b"2", b"3"):
        instance.push({"f": content}, keep_releases=2)
    assert first.result.release_id not in instance.releases()


def test_dropped_mode_bits_are_named(instance: Instance) -> None:
    """setuid, setgid and sticky do not travel, and the report says of what."""
    answer = instance.apply(
        hostile(
            member("bin/su", b"x", mode=0o4755),
            member("shared", type=DIR, mode=0o2775),
            member("tmp", type=DIR, mode=0o1777),
            member("plain", b"x", mode=0o755),
        )
    )
    assert answer.result.warnings == (
        "Without their setuid, setgid or sticky bits: 'bin/su', 'shared', 'tmp'.",
    )
    assert (instance.current / "bin/su").stat().st_mode & 0o7777 == 0o755
    assert (instance.current / "tmp").stat().st_mode & 0o7777 == 0o777


def test_a_sparse_file_is_refused_by_name(instance: Instance, gnu_tar: Gnu, tmp_path: Path) -> None:
    """What GNU tar makes with --sparse is called that, in each of its formats."""
    (tmp_path / "src").mkdir()
    with (tmp_path / "src/weights.bin").open("wb") as file:
        file.truncate(1 << 20)
        file.write(b"head")
    for form in (["--format=gnu"], ["--format=pax"], ["--format=pax", "--sparse-version=0.1"]):
        answer = instance.apply(gnu_tar(tmp_path / "src", "--sparse", *form, "weights.bin"))
        assert answer.code == "archive_refused"
        assert "'weights.bin' as a sparse file" in answer.message


def test_what_is_gzip_and_no_tar_is_called_so(instance: Instance) -> None:
    """A compressed file that is named like an archive is not "damaged"."""
    answer = instance.apply(gzip.compress(b"a,b,c\n" * 1000))
    assert answer.code == "archive_invalid"
    assert "is no tar" in answer.message


PLAIN = tar([member("a", b"x" * 100_000), member("b", b"y")])
WHOLE = gzip.compress(PLAIN)
INVALID: dict[str, bytes] = {
    "not gzip": b"hello",
    "empty": gzip.compress(b""),
    "gzip cut in its data": WHOLE[: len(WHOLE) // 2],
    "gzip cut in its trailer": WHOLE[:-4],
    "gzip with a wrong checksum": WHOLE[:-8] + b"\0\0\0\0" + WHOLE[-4:],
    "garbage behind the gzip": WHOLE + b"garbage",
    "another archive behind": WHOLE + WHOLE,
    "tar cut in a file": gzip.compress(PLAIN[:5000]),
    "tar cut in a header": gzip.compress(PLAIN[:100_900]),
    "tar without an end": gzip.compress(PLAIN[: PLAIN.index(b"y" + bytes(511)) + 512]),
    "tar with a damaged first header": gzip.compress(b"X" + PLAIN[1:]),
    "tar with a damaged second header": gzip.compress(PLAIN.replace(b"b\0\0", b"c\0\0", 1)),
    "tar with more behind its end": gzip.compress(PLAIN + b"more"),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_damaged_archive_is_refused(instance: Instance, name: str) -> None:
    """Cut short, spoilt or lengthened anywhere: archive_invalid, and the old release stays."""
    instance.settle()
    assert instance.apply(INVALID[name]).code == "archive_invalid"
    assert (instance.current / "old").exists()


@pytest.mark.slow
def test_every_python_sees_damage(any_python: Instance) -> None:
    """Versions read gzip and tar headers with different code; none lets damage pass."""
    for body in INVALID.values():
        assert any_python.apply(body).code == "archive_invalid"
    for name in REFUSED:
        answer = any_python.apply(REFUSED[name])
        assert answer.code in ("archive_refused", "archive_invalid"), (name, answer.err)
        assert "Traceback" not in answer.err


def test_a_negative_size_is_refused(any_python: Instance) -> None:
    """A size below zero never sends the reader backwards."""
    assert any_python.apply(_negative()).code == "archive_refused"


def _negative() -> bytes:
    block = bytearray(tarfile.TarInfo("n").tobuf())
    block[124:136] = b"\xff" * 11 + b"\x00"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + bytes(1024))


def test_gzip_in_many_members_is_read(any_python: Instance) -> None:
    """pigz, bgzip and the packer itself write several; they are one stream."""
    parts = [PLAIN[at : at + 3000] for at in range(0, len(PLAIN), 3000)]
    answer = any_python.apply(b"".join(map(gzip.compress, parts)))
    assert answer.exit == 0, answer.out
    assert (any_python.current / "a").stat().st_size == 100_000


def test_links_inside_are_kept(instance: Instance) -> None:
    """Up and down, through one another, dangling or round in circles, so long as they stay in."""
    tree: Tree = {
        "a/b/file": b"x",
        "a/up": Link("../a/b"),
        "a/b/root": Link("../.."),
        "top": Link("a/b/root/a/up/file"),
        "dangling": Link("no/such"),
        "self": Link("self"),
        "ping": Link("pong"),
        "pong": Link("ping"),
    }
    instance.push(tree)
    assert (instance.current / "top").read_bytes() == b"x"
    assert (instance.current / "self").is_symlink()


def test_case_twins_and_odd_names_arrive(instance: Instance) -> None:
    """Names are bytes: case twins, NFC and NFD twins, newlines, bytes that are no UTF-8."""
    names = ["README", "readme", "é", "e\u0301", "new\nline", "ret\rurn", "back\\slash"]
    names += ["-rf", "$(id)", "q'u\"o", "\udcff\udc80", " ", "n" * 255, "é" * 127]
    tree = {name: name.encode("utf-8", "surrogateescape") for name in names}
    result = instance.push(tree).result
    assert result.files == len(names)
    assert {path.name for path in instance.current.iterdir()} == {*names, ".codeferry"}


def test_a_directory_may_be_named_after_its_files(instance: Instance) -> None:
    """Some tools write a directory late; its mode still counts."""
    answer = instance.apply(hostile(member("d/x", b"1"), member("d", type=DIR, mode=0o750)))
    assert answer.exit == 0
    assert (instance.current / "d").stat().st_mode & 0o777 == 0o750


def _listed(change: Callable[[dict[str, contract.Entry]], object]) -> bytes:
    """The archive of SMALL with a manifest that is coherent but claims something else."""
    claimed = {entry.path: entry for entry in entries(SMALL)}
    change(claimed)
    summary = contract.summarise("demo", list(claimed.values()))
    text = b"".join(contract.manifest_lines(summary, claimed.values()))
    return _with_manifest(text)


def _with_manifest(text: bytes) -> bytes:
    body = gzip.decompress(pack(SMALL))
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        kept = [
            (
                header,
                (tar.extractfile(header) or io.BytesIO()).read() if header.isreg() else b"",
            )
            for header in tar
            if not header.name.startswith(".codeferry")
        ]
    return hostile(*kept, member(contract.MANIFEST_PATH, text))


MISMATCHES: dict[str, Callable[[dict[str, contract.Entry]], object]] = {
    "missing: 'ghost'": lambda e: e.update(ghost=replace(e["train.py"], path="ghost")),
    "not listed: 'train.py'": lambda e: e.pop("train.py"),
    "different: 'train.py'": lambda e: e.update({"train.py": replace(e["train.py"], mode=0o644)}),
    "different: 'pkg/__init__.py'": lambda e: e.update(
        {"pkg/__init__.py": replace(e["pkg/__init__.py"], sha256="0" * 64)}
    ),
    "different: 'latest'": lambda e: e.update(latest=contract.link_entry("latest", "pkg")),
}


@pytest.mark.parametrize("says", MISMATCHES)
def test_a_manifest_that_does_not_fit_is_refused_by_name(instance: Instance, says: str) -> None:
    """Missing, additional and changed entries are named, and nothing is activated."""
    answer = instance.apply(_listed(MISMATCHES[says]))
    assert answer.code == "manifest_mismatch"
    assert says in answer.message
    assert not instance.current.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b"[" * 100_000,
        b'{"format": 1, "entries": 3}',
        b'{"format": 1, "entries": [{"path": 3}], "digest": "", "release_id": ""}',
        b'{"format": 1, "entries": [{"path": "\\ud800", "link": "x"}]}',
        b"\xff\xfe",
    ],
)
def test_an_unreadable_manifest_is_refused(instance: Instance, text: bytes) -> None:
    """Whatever is where the manifest should be, the answer is archive_invalid."""
    assert instance.apply(_with_manifest(text)).code == "archive_invalid"


def test_a_manifest_that_sums_itself_up_wrongly_is_refused(instance: Instance) -> None:
    """Its digest, id, count and bytes are recomputed, and a repeated entry is no entry."""
    claimed = entries(SMALL)
    summary = contract.summarise("demo", claimed)
    for wrong in (
        replace(summary, digest="0" * 64),
        replace(summary, release_id="0" * 20),
        replace(summary, files=9),
        replace(summary, bytes=9),
    ):
        body = _with_manifest(b"".join(contract.manifest_lines(wrong, claimed)))
        assert instance.apply(body).code == "digest_mismatch"
    twice = _with_manifest(b"".join(contract.manifest_lines(summary, [*claimed, claimed[0]])))
    assert instance.apply(twice).code == "manifest_mismatch"


def test_another_tree_than_announced_is_refused(instance: Instance) -> None:
    """The payload's digest and count are the run's; an archive of another tree is not it."""
    body = pack(SMALL)
    assert instance.apply(body, digest="0" * 64).code == "digest_mismatch"
    assert instance.apply(body, files=99).code == "digest_mismatch"
    assert instance.apply(body, files=len(SMALL)).exit == 0


def test_the_sums_can_be_checked_on_the_instance(instance: Instance) -> None:
    """`sha256sum -c` in the release accepts it, odd names included."""
    instance.push({**SMALL, "new\nline": b"n", "back\\slash": b"b"})
    command = ["sha256sum", "--check", "--strict", contract.SUMS_PATH]
    done = subprocess.run(command, cwd=instance.current, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout

"""Archives: what three tars read from them, and what happens when the tree moves."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.packing import (
    File,
    FilesUnreadable,
    NoFiles,
    PackAgain,
    PathsImpossible,
    pack,
    select,
    send,
)
from codeferry_cli.packing.reader import WHOLE_BYTES, TreeReader
from codeferry_contracts.archive import (
    FOOTER_SIZE,
    MANIFEST_PATH,
    SUMS_PATH,
    Entry,
    link_entry,
    manifest_offset,
    path_bytes,
    read_manifest,
)

Plant = Callable[[Mapping[Any, str | bytes]], Path]
Tree = dict[bytes, tuple[str, int, bytes]]
Git = Callable[..., bytes]

ODD_NAMES: list[bytes] = [
    b"plain", b"with space", b"new\nline", b"-rf", b"$(id)", b"it's \"quoted\"", b"back\\slash",
    b"tab\t", b"\xff\xfe", "é".encode(), "e\u0301".encode(), "日本語".encode(),
    b"*", b"n" * 100, b"n" * 101, b"x" * 255, b"/".join([b"d" * 90] * 4), b"[a]/b{c}/~", b" ",
    b"dir/" + b"y" * 96, b"dir/" + b"y" * 97,
    b"`id`", b"--checkpoint-action=exec=sh", b"\xc3" + b"\xff" * 254, "é".encode() * 127,
    b"a\rb", b"\x1b[31m",
    b".gitignore ", b"dir with\nnewline/-rf/$(id)", "É/x".encode(), "E\u0301/x".encode(),
]  # fmt: skip


def tree_of(root: Path) -> Tree:
    """Every file and link below: kind, permissions and content or target."""
    found: Tree = {}
    for directory, _, _ in os.walk(os.fsencode(root)):
        for entry in os.scandir(directory):
            path = entry.path[len(os.fsencode(root)) + 1 :]
            mode = entry.stat(follow_symlinks=False).st_mode & 0o777
            if entry.is_symlink():
                found[path] = ("link", 0, os.fsencode(Path(os.fsdecode(entry.path)).readlink()))
            elif entry.is_file():
                found[path] = ("file", mode, Path(os.fsdecode(entry.path)).read_bytes())
    return found


def archive_of(root: Path) -> bytes:
    return b"".join(pack(select(root), "demo"))


def by_gnu_tar(archive: Path, target: Path) -> None:
    subprocess.run(["tar", "-xpzf", archive, "-C", target], check=True)


def by_bsdtar(archive: Path, target: Path) -> None:
    if not shutil.which("bsdtar"):
        pytest.skip("bsdtar (package libarchive-tools) is not installed")
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    subprocess.run(["bsdtar", "-xpf", archive, "-C", target], check=True, env=environment)


def by_python(archive: Path, target: Path) -> None:
    with tarfile.open(archive, errors="surrogateescape") as tar:
        tar.extractall(target, filter="tar")


@pytest.fixture(params=[by_gnu_tar, by_bsdtar, by_python])
def extract(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Tree]:
    """Unpacks an archive with one of the three tars and gives what came out, less our own."""

    def run(archive: bytes) -> Tree:
        file, target = tmp_path / "a.tar.gz", tmp_path / "out"
        file.write_bytes(archive)
        target.mkdir()
        request.param(file, target)
        tree = tree_of(target)
        assert tree.pop(MANIFEST_PATH.encode())
        assert tree.pop(SUMS_PATH.encode())
        return tree

    return run


def plant_odd(plant: Plant) -> Path:
    """Every odd name as a file, with odd content, modes and links."""
    root = plant({name: os.urandom(n * 300) for n, name in enumerate(ODD_NAMES)})
    (root / "plain").chmod(0o755)
    (root / ("l" * 120)).symlink_to("/".join(["d" * 90] * 4))
    (root / "short link").symlink_to("plain")
    for number, name in enumerate(ODD_NAMES):
        (root / f"to odd name {number}").symlink_to(os.fsdecode(name))
    return root


@pytest.mark.parametrize("repository", [False, True], ids=["no git", "git"])
def test_every_tar_reads_odd_names_back(
    plant: Plant, git: Git, extract: Callable[[bytes], Tree], repository: bool
) -> None:
    """Names with anything in them, of any length, come back with bytes, modes and links."""
    root = plant_odd(plant)
    expected = tree_of(root)
    if repository:
        git("init", "-q")
        git("add", "--all")
    assert extract(archive_of(root)) == expected


def test_manifest_spells_odd_names_byte_for_byte(plant: Plant) -> None:
    """What a reader of the manifest gets back are the names and link targets on disk."""
    root = plant_odd(plant)
    archive = archive_of(root)
    offset = manifest_offset(archive)
    assert offset is not None
    entries = read_manifest(archive[offset:-FOOTER_SIZE]).entries
    links = {path_bytes(e.path): path_bytes(e.link) for e in entries if e.link is not None}
    tree = tree_of(root)
    assert {path_bytes(e.path) for e in entries} == set(tree)
    assert links == {path: content for path, (kind, _, content) in tree.items() if kind == "link"}


def test_coreutils_verify_the_checksums(plant: Plant, tmp_path: Path) -> None:
    """``sha256sum -c`` in the extracted tree accepts every file, odd names included."""
    root = plant({name: name for name in ODD_NAMES})
    archive, target = tmp_path / "a.tar.gz", tmp_path / "out"
    archive.write_bytes(archive_of(root))
    target.mkdir()
    by_gnu_tar(archive, target)
    check = ["sha256sum", "--check", "--strict", "--quiet", SUMS_PATH]
    subprocess.run(check, cwd=target, check=True)
    assert len((target / SUMS_PATH).read_bytes().splitlines()) == len(ODD_NAMES)


def test_manifest_is_found_from_the_tail_and_tells_the_tree(plant: Plant) -> None:
    """The footer leads to a manifest whose entries are the files, in byte order, with digests."""
    root = plant({"b.sh": "run", "a/c": b"\0" * 1000})
    (root / "b.sh").chmod(0o750)
    (root / "z").symlink_to("b.sh")
    packing = pack(select(root), "demo")
    archive = b"".join(packing)
    offset = manifest_offset(archive)
    assert offset is not None
    manifest = read_manifest(archive[offset:-FOOTER_SIZE])
    assert manifest.summary == packing.summary
    assert list(manifest.entries) == list(packing.entries)
    described = [(e.path, e.mode, e.size, e.sha256) for e in manifest.entries]
    assert described == [
        ("a/c", 0o644, 1000, hashlib.sha256(bytes(1000)).hexdigest()),
        ("b.sh", 0o755, 3, hashlib.sha256(b"run").hexdigest()),
        ("z", 0o120000, 0, link_entry("z", "b.sh").sha256),
    ]
    assert (packing.summary.project, packing.summary.files) == ("demo", 3)


def test_same_tree_gives_the_same_bytes(plant: Plant, tmp_path: Path) -> None:
    """Times, owners and the order of creation leave no trace; one changed byte does."""
    files = {f"{n % 7}/{n}": os.urandom(n) for n in range(60)}
    one = archive_of(plant(files))
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "project", again, copy_function=shutil.copyfile)
    assert archive_of(again) == one
    (again / "0" / "7").write_bytes(b"changed")
    assert archive_of(again) != one


@pytest.fixture
def commit(plant: Plant, git: Git) -> Path:
    """A repository with an executable, a plain file and a link."""
    root = plant({"run.sh": "#!/bin/sh\n", "sub/plain": "x"})
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("run.sh")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    return root


def test_the_same_commit_is_the_same_release_under_any_umask(commit: Path, tmp_path: Path) -> None:
    """Modes by git's rule: what a packing machine's umask adds or takes is no part of it."""
    archives = {archive_of(commit)}
    for umask in (0o022, 0o002, 0o077):
        clone = tmp_path / f"clone-{umask:o}"
        command = f"umask {umask:o} && exec git clone -q '{commit}' '{clone}'"
        subprocess.run(["/bin/sh", "-c", command], check=True)
        archives.add(archive_of(clone))
        shutil.rmtree(clone / ".git")  # as a plain directory, too
        archives.add(archive_of(clone))
    assert len(archives) == 1
    assert {e.path: e.mode for e in _entries(commit)} == {
        "run.sh": 0o755,
        "sub/plain": 0o644,
        "link": 0o120000,
    }


def test_where_the_file_system_has_no_modes_the_index_has_them(commit: Path, git: Git) -> None:
    """With core.fileMode off (Windows mounts, where all is 777) git's own modes are taken."""
    release = pack_digest(commit)
    for path in (commit / "run.sh", commit / "sub" / "plain"):
        path.chmod(0o777)
    git("config", "core.fileMode", "false")
    assert pack_digest(commit) == release
    for name in ("new", "ignored"):
        (commit / name).touch()
        (commit / name).chmod(0o777)
    (commit / ".git" / "info" / "exclude").write_text("ignored\n")
    modes = {e.path: e.mode for e in _entries(commit, "ignored", "run.sh")}
    assert (modes["new"], modes["ignored"], modes["run.sh"]) == (0o644, 0o644, 0o755)


@pytest.mark.parametrize(("found", "lands"), [(0o640, 0o600), (0o777, 0o700), (0o400, 0o600)])
def test_files_let_in_as_secrets_stay_private(plant: Plant, found: int, lands: int) -> None:
    """Only their owner may read them where they land; the others' modes stay git's."""
    root = plant({"a": "", "sub/key.pem": "x", "sub/other.pem": "x"})
    (root / "sub" / "key.pem").chmod(found)
    packing = pack(select(root, (), ["sub/key.pem"]), "demo")
    list(packing)
    modes = {entry.path: entry.mode for entry in packing.entries}
    assert modes == {"a": 0o644, "sub/key.pem": lands, "sub/other.pem": 0o644}


def pack_digest(root: Path) -> str:
    packing = pack(select(root), "demo")
    list(packing)
    return packing.summary.digest


def _entries(root: Path, *include: str) -> Iterable[Entry]:
    packing = pack(select(root, include), "demo")
    list(packing)
    return packing.entries


def test_more_files_than_an_instance_can_list_are_refused(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the archive is complete, so that no run begins with it."""
    monkeypatch.setattr("codeferry_cli.packing.archive._MOST_METADATA", 1000)
    root = plant({f"{n}": "" for n in range(9)})
    with pytest.raises(PathsImpossible, match="too many files"):
        pack_digest(root)


def test_more_files_than_a_run_can_carry_are_refused_before_any_is_read(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What plan would refuse after the upload."""
    monkeypatch.setattr("codeferry_cli.packing.selection.MOST_FILES", 8)
    root = plant({f"{n}": "" for n in range(9)})
    with pytest.raises(PathsImpossible, match="9 files, and a run carries at most 8"):
        select(root)


def test_members_say_nothing_of_who_packed(plant: Plant) -> None:
    """Owner 0, no names, one constant time after 1980, permission bits only."""
    root = plant({"a": "x"})
    (root / "a").chmod(0o4755)
    with tarfile.open(fileobj=io.BytesIO(archive_of(root))) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["a", MANIFEST_PATH, SUMS_PATH]
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
    assert {m.mtime for m in members} == {315_619_200}
    assert members[0].mode == 0o755


def test_size_beyond_the_octal_field_is_written_as_gnu_does() -> None:
    """A header for 8 GiB and more is read back by tarfile."""
    from codeferry_cli.packing.tar import file_header

    header = tarfile.TarInfo.frombuf(file_header(b"big", 0o644, 9 << 30), "utf-8", "strict")
    assert (header.name, header.size) == ("big", 9 << 30)


def test_large_file_is_streamed_whole(plant: Plant, extract: Callable[[bytes], Tree]) -> None:
    """A file above the limit for reading at once arrives whole."""
    content = os.urandom(WHOLE_BYTES + 12_345)
    root = plant({"a": "1", "big": content, "c": "2"})
    assert extract(archive_of(root)) == tree_of(root)


def _changing(
    monkeypatch: pytest.MonkeyPatch, path: bytes, change: Callable[[], None], when: str
) -> None:
    """Do ``change`` once, when the reader first calls its method ``when`` for ``path``."""
    original = getattr(TreeReader, when)
    pending = [change]

    def changed(self: TreeReader, first: object, *rest: object) -> object:
        if getattr(first, "path", first) == path and pending:
            pending.pop()()
        return original(self, first, *rest)

    monkeypatch.setattr(TreeReader, when, changed)


def _names(archive: Iterable[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
        read = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isfile()}
        return {name: f.read() for name, f in read.items() if f is not None}


@pytest.mark.parametrize("content", [b"longer than it was", b"", b"nw"])
def test_small_file_that_changed_is_packed_as_it_now_is(plant: Plant, content: bytes) -> None:
    """A file changed between selection and reading is packed whole as it is now."""
    root = plant({"a": "old", "b": "x"})
    selection = select(root)
    (root / "a").write_bytes(content)
    packing = pack(selection, "demo")
    assert _names(packing)["a"] == content
    assert packing.entries[0].sha256 == hashlib.sha256(content).hexdigest()


def test_vanished_file_is_a_warning(plant: Plant) -> None:
    """A file deleted after the selection is named in a warning and the rest is packed."""
    root = plant({"a": "", "b": ""})
    selection = select(root)
    (root / "a").unlink()
    packing = pack(selection, "demo")
    assert "b" in _names(packing)
    assert [e.path for e in packing.entries] == ["b"]
    assert "a vanished" in packing.warnings[0]


def test_when_everything_vanished_there_is_nothing_to_send(plant: Plant) -> None:
    """If no selected file is left there is no archive but an error."""
    root = plant({"a": ""})
    selection = select(root)
    (root / "a").unlink()
    archive = pack(selection, "demo")
    with pytest.raises(NoFiles):
        list(archive)


@pytest.mark.parametrize("what", ["fifo", "link"])
def test_file_replaced_by_something_else_is_not_followed(plant: Plant, what: str) -> None:
    """A FIFO put in a file's place does not block, a link is not followed."""
    root = plant({"a": "x", "b": "y"})
    selection = select(root)
    (root / "a").unlink()
    if what == "fifo":
        os.mkfifo(root / "a")
        packing = pack(selection, "demo")
        assert "a" not in _names(packing)
        assert "no regular file" in packing.warnings[0]
    else:
        (root / "a").symlink_to("/etc/passwd")
        with pytest.raises(FilesUnreadable, match="a "):
            list(pack(selection, "demo"))


def test_large_file_that_grows_is_cut_where_it_ended(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a growing log exactly the bytes announced are taken, with a warning."""
    content = os.urandom(WHOLE_BYTES + 5)
    root = plant({"log": content})

    def grow() -> None:
        with (root / "log").open("ab") as log:
            log.write(b"more")

    _changing(monkeypatch, b"log", grow, "_add_large_body")
    packing = pack(select(root), "demo")
    assert _names(packing)["log"] == content
    assert "changed while it was packed" in packing.warnings[0]


def test_large_file_that_shrinks_starts_the_pack_again(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file cut short under the reader never yields a short member: all is packed again."""
    root = plant({"a": "1", "big": os.urandom(WHOLE_BYTES + 5)})
    _changing(monkeypatch, b"big", lambda: os.truncate(root / "big", 100), "_add_large_body")
    attempts: list[int] = []

    def sink(archive: Iterable[bytes]) -> bytes:
        attempts.append(1)
        return b"".join(archive)

    data, packing = send(select(root), "demo", sink)
    assert len(attempts) == 2
    assert len(_names([data])["big"]) == 100
    assert packing.entries[1].size == 100


def test_file_that_always_shrinks_is_left_out_in_the_end(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the tries allowed the file is left out, with a warning, and the rest goes."""
    root = plant({"a": "1", "big": os.urandom(WHOLE_BYTES + 5)})

    def never(self: TreeReader, file: File, *_: object) -> Iterable[bytes]:
        raise PackAgain(file.path)

    monkeypatch.setattr(TreeReader, "_add_large_body", never)
    data, packing = send(select(root), "demo", b"".join, tries=2)
    assert [e.path for e in packing.entries] == ["a"]
    assert "big" in packing.warnings[0]
    assert "left out" in packing.warnings[0]
    assert data


def test_abandoned_pack_leaves_no_thread(plant: Plant) -> None:
    """Stopping in the middle, as Ctrl-C does, ends the reading thread."""
    before = threading.active_count()
    stream = iter(pack(select(plant({f"{n}": os.urandom(1 << 20) for n in range(12)})), "demo"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("read-ahead"):
            thread.join(30)
    assert threading.active_count() == before


def test_summary_waits_for_the_end(plant: Plant) -> None:
    """The summary cannot be read from an archive that is not complete."""
    packing = pack(select(plant({"a": ""})), "demo")
    with pytest.raises(RuntimeError):
        _ = packing.summary

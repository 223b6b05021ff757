"""Which files are chosen, with and without a repository."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codeferry_cli.packing import (
    FilesUnreadable,
    GitRefused,
    LinksLeaveTree,
    NoFiles,
    Selection,
    ignored,
    select,
)

Plant = Callable[[Mapping[str | bytes, str | bytes]], Path]
Git = Callable[..., bytes]


def names(selection: Selection) -> list[str]:
    return [os.fsdecode(file.path) for file in selection.files]


@pytest.fixture(params=["git", "no git"])
def start(request: pytest.FixtureRequest, git: Git) -> Callable[[], None]:
    """Makes the tree a repository, or leaves it a plain directory."""

    def begin() -> None:
        if request.param == "git":
            git("init", "-q")

    return begin


def test_ignored_files_stay_and_dotfiles_go(plant: Plant, start: Callable[[], None]) -> None:
    """What .gitignore names stays behind, dotfiles are packed, .git never is."""
    root = plant(
        {
            ".gitignore": "*.log\nbuild/\n",
            ".hidden": "",
            "a.py": "",
            "x.log": "",
            "build/out": "",
            "pkg/b.py": "",
        }
    )
    start()
    assert names(select(root)) == [".gitignore", ".hidden", "a.py", "pkg/b.py"]


def test_order_is_that_of_the_paths_bytes(plant: Plant, start: Callable[[], None]) -> None:
    """Files come sorted by the bytes of their whole path, whatever the file system's order."""
    root = plant({"b": "", "a/z": "", "a-b": "", "a.b": "", "é": "", "Z": ""})
    start()
    assert names(select(root)) == ["Z", "a-b", "a.b", "a/z", "b", "é"]


def test_tracked_though_ignored_is_packed(plant: Plant, git: Git) -> None:
    """A file git tracks is packed though an ignore file names it."""
    root = plant({".gitignore": "*.bin\n", "kept.bin": "x", "left.bin": "x"})
    git("init", "-q")
    git("add", "-f", "kept.bin")
    assert names(select(root)) == [".gitignore", "kept.bin"]


def test_tracked_but_deleted_is_silently_absent(plant: Plant, git: Git) -> None:
    """A tracked file that was deleted is neither packed nor worth a warning."""
    root = plant({"a": "", "b": ""})
    git("init", "-q")
    git("add", ".")
    (root / "b").unlink()
    selection = select(root)
    assert (names(selection), selection.warnings) == (["a"], ())


def test_tracked_path_beyond_a_link_is_not_read_through_it(
    plant: Plant, git: Git, tmp_path: Path
) -> None:
    """When a tracked directory became a link its files are gone, not those of the target."""
    root = plant({"d/secret": "", "other/secret": "", "a": ""})
    git("init", "-q")
    git("add", ".")
    (root / "d" / "secret").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to("other")
    assert names(select(root)) == ["a", "d", "other/secret"]


def test_root_below_the_top_of_the_repository(plant: Plant, git: Git) -> None:
    """A root inside a repository has its own files only, under the ignore files above it."""
    root = plant({".gitignore": "*.log\n", "a": "", "sub/b": "", "sub/c.log": ""})
    git("init", "-q")
    assert names(select(root / "sub")) == ["b"]


def test_submodule_brings_its_own_selection(plant: Plant, git: Git, tmp_path: Path) -> None:
    """A checked-out submodule is packed by its own rules, tracked and untracked files."""
    library = tmp_path / "library"
    library.mkdir()
    git("init", "-q", cwd=library)
    (library / ".gitignore").write_text("*.o\n")
    (library / "lib.c").touch()
    git("add", ".", cwd=library)
    git("commit", "-qm", "x", cwd=library)
    root = plant({"a": ""})
    git("init", "-q")
    git("submodule", "--quiet", "add", str(library), "lib")
    (root / "lib" / "new.c").touch()
    (root / "lib" / "new.o").touch()
    assert names(select(root)) == [".gitmodules", "a", "lib/.gitignore", "lib/lib.c", "lib/new.c"]


def test_nested_repository_is_left_out_with_a_warning(
    plant: Plant, git: Git, start: Callable[[], None]
) -> None:
    """An untracked repository inside is left out and named; a pattern takes its files."""
    root = plant({"a": "", "vendored/b": ""})
    git("init", "-q", cwd=root / "vendored")
    start()
    selection = select(root)
    assert names(selection) == ["a"]
    assert any("vendored/" in warning for warning in selection.warnings)
    assert names(select(root, ["vendored"])) == ["a", "vendored/b"]


def test_ferryignore_excludes_on_top(plant: Plant, start: Callable[[], None]) -> None:
    """.ferryignore, nested too, excludes more, and says what it left out."""
    root = plant(
        {
            ".ferryignore": "docs/\n*.md\n",
            "docs/x": "",
            "a.md": "",
            "b.py": "",
            "sub/.ferryignore": "!c.md\nd.py\n",
            "sub/c.md": "",
            "sub/d.py": "",
        }
    )
    start()
    selection = select(root)
    assert names(selection) == [".ferryignore", "b.py", "sub/.ferryignore", "sub/c.md"]
    assert [path for path, _ in selection.left_out] == [b"a.md", b"docs/x", b"sub/d.py"]


def test_ferryignore_excludes_tracked_files(plant: Plant, git: Git) -> None:
    """.ferryignore leaves out what git tracks, which .gitignore could not."""
    root = plant({".ferryignore": "big.bin\n", "big.bin": "", "a": ""})
    git("init", "-q")
    git("add", ".")
    assert names(select(root)) == [".ferryignore", "a"]


INCLUDES = [
    ("data", ["data/.x", "data/deep/c.csv", "data/r.csv"]),
    ("data/", ["data/.x", "data/deep/c.csv", "data/r.csv"]),
    ("./data/", ["data/.x", "data/deep/c.csv", "data/r.csv"]),
    ("data/**", ["data/.x", "data/deep/c.csv", "data/r.csv"]),
    ("data/*.csv", ["data/r.csv"]),
    ("*.csv", ["data/deep/c.csv", "data/r.csv"]),
    ("data/deep", ["data/deep/c.csv"]),
    ("/data/deep/c.csv", ["data/deep/c.csv"]),
    ("data_f*", ["data_file.txt"]),
    ("**/data", ["data/.x", "data/deep/c.csv", "data/r.csv", "sub/data/s"]),
    ("sub", ["sub/data/s"]),
]


@pytest.mark.parametrize(("pattern", "brought"), INCLUDES)
def test_include_pattern_brings_back(
    plant: Plant, start: Callable[[], None], pattern: str, brought: list[str]
) -> None:
    """A pattern finds files inside ignored directories: a tree, never a name's beginning."""
    root = plant(
        {
            ".gitignore": "data*\nsub/\n",
            "a": "",
            "data/r.csv": "",
            "data/.x": "",
            "data/deep/c.csv": "",
            "data/.git/config": "",
            "data_file.txt": "",
            "sub/data/s": "",
        }
    )
    start()
    selection = select(root, [pattern])
    assert names(selection) == sorted([".gitignore", "a", *brought])
    assert selection.warnings == ()


def test_include_pattern_beats_ferryignore(plant: Plant) -> None:
    """What is brought back is packed whichever file ignores it."""
    root = plant({".ferryignore": "data/\n", "data/x": "", "a": ""})
    assert names(select(root, ["data"])) == [".ferryignore", "a", "data/x"]


@pytest.mark.parametrize("pattern", [".git", ".git/", ".git/**", "**/.git/**", "nothing", "../x"])
def test_include_pattern_that_names_nothing_is_warned_of(
    plant: Plant, git: Git, pattern: str
) -> None:
    """A pattern for .git, outside the root or without a match changes nothing and says so."""
    root = plant({"a": ""})
    (root.parent / "x").touch()
    git("init", "-q")
    selection = select(root, [pattern])
    assert names(selection) == ["a"]
    assert any(pattern in warning for warning in selection.warnings)


def test_links_inside_stay_links(plant: Plant, start: Callable[[], None]) -> None:
    """Links that stay inside the tree are selected as links: dangling, looping, to directories."""
    root = plant({"d/a": "", "b": ""})
    for link, target in {
        "d/up": "../b",
        "to_d": "d",
        "gone": "nowhere",
        "self": "self",
        "over": "to_d/../b",
        "dot": ".",
    }.items():
        (root / link).symlink_to(target)
    start()
    links = {os.fsdecode(f.path): f.target for f in select(root).files if f.target is not None}
    assert links == {
        "d/up": b"../b",
        "to_d": b"d",
        "gone": b"nowhere",
        "self": b"self",
        "over": b"to_d/../b",
        "dot": b".",
    }


LEAVING = {
    "absolute": "/etc/passwd",
    "relative": "../outside",
    "d/deeper": "../../outside",
    "out_and_in": "../project/b",
    "through": "to_parent_of_d/../../outside",
    "chain": "relative",
}


def test_links_that_leave_the_tree_are_all_named(plant: Plant, start: Callable[[], None]) -> None:
    """Absolute, relative and chained ways out are refused in one error that names each."""
    root = plant({"d/a": "", "b": ""})
    (root / "to_parent_of_d").symlink_to("d/..")
    for link, target in LEAVING.items():
        (root / link).symlink_to(target)
    start()
    with pytest.raises(LinksLeaveTree) as caught:
        select(root)
    assert all(link in caught.value.message for link in LEAVING)
    assert "to_parent_of_d -> " not in caught.value.message


def test_special_files_are_skipped_with_a_warning(
    plant: Plant, start: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FIFOs and sockets are skipped and named, ignored ones silently, and nothing blocks."""
    root = plant({"a": "", ".gitignore": "quiet\n"})
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "quiet")
    monkeypatch.chdir(root)  # a socket's address has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        start()
        selection = select(root)
    assert names(selection) == [".gitignore", "a"]
    assert sorted(selection.warnings) == [
        "pipe is a FIFO: left out.",
        "sock is a socket: left out.",
    ]


def test_archives_own_directory_is_left_out(plant: Plant, start: Callable[[], None]) -> None:
    """A .codeferry directory, as in a downloaded release, does not collide with the manifest."""
    root = plant({"a": "", ".codeferry/manifest.json": "{}"})
    start()
    selection = select(root)
    assert names(selection) == ["a"]
    assert ".codeferry/" in selection.warnings[0]


def test_nothing_to_pack_says_what_was_looked_at(plant: Plant, start: Callable[[], None]) -> None:
    """An empty selection is an error with the directory and the patterns it looked at."""
    root = plant({"x.log": "", ".ferryignore": "*\n"})
    start()
    with pytest.raises(NoFiles, match="No files to sync") as caught:
        select(root, ["*.nothing"])
    assert caught.value.code == "no_files"
    assert str(root) in caught.value.message
    assert "*.nothing" in caught.value.message


def test_misleading_environment_is_not_passed_on(
    plant: Plant, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a git hook GIT_DIR points elsewhere; the project's own repository is asked."""
    root = plant({".gitignore": "b\n", "a": "", "b": ""})
    git("init", "-q")
    git("init", "-q", "--bare", str(tmp_path / "other.git"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    monkeypatch.setenv("GIT_WORK_TREE", "/")
    assert names(select(root)) == [".gitignore", "a"]


def test_without_git_installed_the_matcher_decides(
    plant: Plant, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository on a machine without git is packed by its ignore files, with a warning."""
    root = plant({".gitignore": "*.log\n", "a": "", "x.log": "", "private": "", "sub/b": ""})
    git("init", "-q")
    (root / ".git" / "info" / "exclude").write_text("private\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    selection = select(root)
    assert names(selection) == [".gitignore", "a", "sub/b"]
    assert "git is not installed" in selection.warnings[0]
    assert names(select(root / "sub")) == ["b"]


def test_broken_repository_falls_back_to_the_matcher(plant: Plant) -> None:
    """A .git that git cannot read is warned of, and the ignore files alone decide."""
    root = plant({".git/x": "", ".gitignore": "b\n", "a": "", "b": ""})
    selection = select(root)
    assert names(selection) == [".gitignore", "a"]
    assert "tracked though ignored" in selection.warnings[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_dubious_ownership_says_what_to_do(plant: Plant, git: Git) -> None:
    """When git distrusts the repository's owner the error holds the command that settles it."""
    root = plant({"a": ""})
    git("init", "-q")
    for path in (root, root / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(GitRefused, match="another user") as caught:
        select(root)
    assert f"git config --global --add safe.directory '{root}'" in caught.value.hint


def test_ignored_lists_what_git_leaves_out(plant: Plant, git: Git) -> None:
    """For -v, ignored directories are named once, with a slash."""
    root = plant({".gitignore": "*.log\nbuild/\n", "x.log": "", "build/a": "", "build/b": ""})
    git("init", "-q")
    assert ignored(root) == [b"build/", b"x.log"]


def test_sizes_are_known_before_packing(plant: Plant) -> None:
    """The selection knows its bytes and its largest files, for the progress line and -v."""
    selection = select(plant({"a": "1", "b": "22", "c": "333"}))
    assert selection.bytes == 6
    assert [file.path for file in selection.largest(2)] == [b"c", b"b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become a user who may not read")
def test_unreadable_directory_is_an_error_without_git(plant: Plant, tmp_path: Path) -> None:
    """A directory that may not be read is named, not silently missing."""
    root = plant({"a": "", "closed/b": ""})
    (root / "closed").chmod(0)
    assert FilesUnreadable.code in as_nobody(
        root, f"from codeferry_cli.packing import select; select(Path({str(root)!r}))"
    )


def as_nobody(root: Path, code: str) -> str:
    """What ``code`` raises when an unprivileged user runs it: the error's code."""
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from codeferry_contracts.errors import CodeferryError\n"
        "from codeferry_cli.packing import select\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"try: {code}\n"
        "except CodeferryError as error: print(error.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr

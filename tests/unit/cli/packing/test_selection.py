"""The selection of files, with and without a repository."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codeferry_cli.packing import (
    File,
    FilesUnreadable,
    GitRefused,
    LinksLeaveTree,
    NoFiles,
    PathsImpossible,
    PatternsUnreadable,
    Selection,
    ignored,
    select,
    select_script,
)
from codeferry_cli.packing.selection import require_possible, select_all

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


def test_a_directory_that_is_gone_is_not_looked_into(plant: Plant, git: Git) -> None:
    """What is tracked and absent ends nothing: not a file, not a whole directory."""
    root = plant({"old/deep/a": "1", "b": "2"})
    git("init", "-q")
    git("add", "-A")
    shutil.rmtree(root / "old")
    selection = select(root)
    assert (names(selection), selection.warnings) == (["b"], ())


UNREADABLE = {
    "tracked, no permission": (0o000, True, ["closed/b (Permission denied)"]),
    "tracked, no search": (0o600, True, ["closed/b (Permission denied)"]),
    "tracked, no read": (0o300, True, ["closed/ (Permission denied)"]),
    "untracked": (0o000, False, ["closed/ (Permission denied)"]),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_directories_are_named(plant: Plant, git: Git, case: str) -> None:
    """With git, a directory that may not be read or searched is an error that names it."""
    mode, tracked, named = UNREADABLE[case]
    root = plant({"a": "", "closed/b": ""})
    git("init", "-q")
    if tracked:
        git("add", "-A")
    (root / "closed").chmod(mode)
    said = unprivileged(f"select(Path({str(root)!r}))")
    (root / "closed").chmod(0o700)
    assert said.startswith(FilesUnreadable.code)
    assert all(name in said for name in named)


def test_unreadable_directory_is_an_error_without_git(plant: Plant) -> None:
    """A directory that may not be read is named, not silently missing."""
    root = plant({"a": "", "closed/b": ""})
    (root / "closed").chmod(0)
    said = unprivileged(
        f"os.environ.update(PATH='/nowhere'); select(Path({str(root)!r}))",
        f"select_all(Path({str(root)!r}))",
    )
    (root / "closed").chmod(0o700)
    assert said.count("files_unreadable") == said.count("closed/ (Permission denied)") == 2


def test_what_is_excluded_need_not_be_readable(plant: Plant, git: Git) -> None:
    """Neither .gitignore's nor .ferryignore's closed directories stop a project."""
    root = plant(
        {"a": "", "one/b": "", "two/b": "", ".gitignore": "one\n", ".ferryignore": "two\n"}
    )
    git("init", "-q")
    for name in ("one", "two"):
        (root / name).chmod(0)
    said = unprivileged(
        f"print(names(select(Path({str(root)!r}))))",
        f"print(select(Path({str(root)!r}), ['*.x']).warnings)",
    )
    for name in ("one", "two"):
        (root / name).chmod(0o700)
    assert "['.ferryignore', '.gitignore', 'a']" in said
    assert "one/ cannot be searched for --include-pattern '*.x': Permission denied." in said


@pytest.mark.parametrize("path", ["", "/nowhere"], ids=["git", "no git"])
@pytest.mark.parametrize("file", [".ferryignore", ".gitignore"])
def test_ignore_files_that_cannot_be_read_stop_a_pack(plant: Plant, path: str, file: str) -> None:
    """What they exclude would travel: an error that names them, though they stay themselves."""
    root = plant({file: "private\n", "private": "", ".git/info/exclude": f"{file}\n"})
    (root / file).chmod(0)
    place = f"os.environ.update(PATH={path!r}); " if path else ""
    said = unprivileged(f"{place}select(Path({str(root)!r}))")
    assert said.startswith("files_unreadable")
    assert f"{file} (Permission denied)" in said


@pytest.fixture
def superproject(plant: Plant, git: Git, tmp_path: Path) -> Path:
    """A project with a submodule in vendor/lib."""
    library = tmp_path / "library"
    library.mkdir()
    git("init", "-q", cwd=library)
    (library / ".gitignore").write_text("*.o\n")
    (library / "lib.c").touch()
    git("add", ".", cwd=library)
    git("commit", "-qm", "x", cwd=library)
    root = plant({"a": ""})
    git("init", "-q")
    git("submodule", "--quiet", "add", str(library), "vendor/lib")
    (root / "vendor" / "lib" / "new.o").touch()
    return root


def test_submodule_brings_its_own_selection(superproject: Path) -> None:
    """A checked-out submodule is packed by its own rules, tracked and untracked files."""
    lib = superproject / "vendor" / "lib"
    (lib / "new.c").touch()
    inside = [".gitignore", "lib.c", "new.c"]
    assert names(select(superproject)) == [
        ".gitmodules", "a", *(f"vendor/lib/{name}" for name in inside)
    ]  # fmt: skip
    assert names(select(lib)) == inside


@pytest.mark.parametrize("loss", ["no .git", "dangling .git", "broken .git"])
def test_submodule_that_lost_its_repository_is_carried(superproject: Path, loss: str) -> None:
    """Its files go by its own ignore files, and a warning names it: nothing is silently gone."""
    marker = superproject / "vendor" / "lib" / ".git"
    marker.unlink()
    if loss == "dangling .git":
        marker.write_text("gitdir: ../../.git/modules/elsewhere\n")
    elif loss == "broken .git":
        (marker / "refs").mkdir(parents=True)
    selection = select(superproject)
    assert names(selection) == [".gitmodules", "a", "vendor/lib/.gitignore", "vendor/lib/lib.c"]
    assert len(selection.warnings) == 1
    assert "vendor/lib" in selection.warnings[0]
    assert "tracked though ignored" in selection.warnings[0]
    assert names(select(superproject / "vendor" / "lib")) == [".gitignore", "lib.c"]


def test_submodule_that_is_not_checked_out_is_named(superproject: Path) -> None:
    """An empty one brings nothing, and says so, unless .ferryignore leaves it out anyway."""
    shutil.rmtree(superproject / "vendor" / "lib")
    (superproject / "vendor" / "lib").mkdir()
    selection = select(superproject)
    assert names(selection) == [".gitmodules", "a"]
    assert selection.warnings == ("vendor/lib/ is a submodule that is not checked out: left out.",)
    (superproject / ".ferryignore").write_text("vendor/lib/\n")
    assert select(superproject).warnings == ()


def test_file_that_became_a_directory_is_one(plant: Plant, git: Git) -> None:
    """A tracked file's place taken by a directory is no submodule: its files are packed once."""
    root = plant({"x": "", "a": ""})
    git("init", "-q")
    git("add", "-A")
    (root / "x").unlink()
    plant({"x/y": ""})
    selection = select(root)
    assert (names(selection), selection.warnings) == (["a", "x/y"], ())


def test_a_directory_its_repository_ignores_is_packed_by_its_own_rules(
    plant: Plant, git: Git
) -> None:
    """Dotfiles in a home of which all else is ignored: a project in it is a project."""
    root = plant({".gitignore": "*\n", ".vimrc": "x", "proj/.gitignore": "*.log\n"})
    plant({"proj/main.py": "", "proj/x.log": "", "proj/sub/y": ""})
    git("init", "-q")
    git("add", "-f", ".vimrc")
    for directory, files in {"proj": [".gitignore", "main.py", "sub/y"], "proj/sub": ["y"]}.items():
        selection = select(root / directory)
        assert names(selection) == files
        assert "ignored by the repository around it" in selection.warnings[0]
    assert names(select(root)) == [".vimrc"]
    assert b"x.log" in ignored(root / "proj")


def test_without_git_an_ignored_directory_is_packed_by_its_own_rules(
    plant: Plant, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with git."""
    root = plant(
        {".gitignore": "proj/\n", "proj/main.py": "", ".hidden/proj/x": "", ".hidden/y": ""}
    )
    git("init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(select(root / "proj")) == ["main.py"]
    assert names(select(root / ".hidden")) == ["y"]


def test_ferryignore_reaches_down_and_says_so(plant: Plant, start: Callable[[], None]) -> None:
    """Directories with files levels below, negations, what .gitignore excludes: as git would."""
    root = plant(
        {
            ".gitignore": "*.log\n",
            ".ferryignore": "data/\n/build/**\n*.tmp\n!keep.tmp\n",
            "data/a/b/c": "",
            "data/x": "",
            "src/data/deep/y": "",
            "build/one/two": "",
            "src/build/z": "",
            "a.tmp": "",
            "keep.tmp": "",
            "x.log": "",
        }
    )
    start()
    selection = select(root)
    assert names(selection) == [".ferryignore", ".gitignore", "keep.tmp", "src/build/z"]
    left_out = [path for path, _ in selection.left_out]
    assert left_out == [b"a.tmp", b"build/one/two", b"data/a/b/c", b"data/x", b"src/data/deep/y"]


def test_ferryignore_that_git_ignores_counts(plant: Plant, start: Callable[[], None]) -> None:
    """It need not travel to be obeyed."""
    root = plant({".gitignore": ".ferryignore\n", "a": "", "sub/b": "", "sub/.ferryignore": "b\n"})
    start()
    assert names(select(root)) == [".gitignore", "a"]


def test_ferryignore_silences_what_it_excludes(plant: Plant, start: Callable[[], None]) -> None:
    """Special files, repositories and links that lead out are no matter where they stay."""
    root = plant({".ferryignore": "x/\n", "x/repository/a": "", "a": ""})
    subprocess.run(["git", "init", "-q"], cwd=root / "x" / "repository", check=True)
    os.mkfifo(root / "x" / "pipe")
    (root / "x" / "link").symlink_to("/etc/passwd")
    start()
    selection = select(root)
    assert (names(selection), selection.warnings) == ([".ferryignore", "a"], ())


def test_names_that_mean_something_to_git_elsewhere_are_names(
    plant: Plant, start: Callable[[], None]
) -> None:
    """On this system git~1, a colon in front or a backslash is nothing special."""
    odd = [":(top)x", "git~1", "back\\slash", "*", "-z", "[a]", " lead", "a\nb", ".git "]
    root = plant({".ferryignore": "no/\n", "no/git~1": "", **dict.fromkeys(odd, "")})
    plant({".gitignore": "*quiet\n"})
    os.mkfifo(root / ":fifo")
    os.mkfifo(root / ":(glob)quiet")
    start()
    selection = select(root)
    assert names(selection) == sorted([".ferryignore", ".gitignore", *odd])
    assert selection.warnings == (":fifo is a FIFO: left out.",)


def test_nothing_of_a_hostile_repository_is_run(
    plant: Plant, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No monitor, hook or filter of its configuration, nor of a bare one among the files."""
    root = plant({".ferryignore": "b\n", "a": "", "b": "", ".gitattributes": "* filter=evil\n"})
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    evil.chmod(0o755)
    git("init", "-q")
    git("add", "-A")
    git("init", "-q", "--bare", "bare")
    for repository in (root / ".git", root / "bare"):
        with (repository / "config").open("a") as config:
            config.write(
                f"[core]\nfsmonitor = {evil}\nhooksPath = {tmp_path}\npager = {evil}\n"
                f'sshCommand = {evil}\n[filter "evil"]\nclean = {evil}\nprocess = {evil}\n'
                f"[alias]\nls-files = !{evil}\n"
            )
    (tmp_path / "post-index-change").symlink_to(evil)
    with Path(os.environ["HOME"], ".gitconfig").open("a") as config:
        config.write(f"[core]\nhooksPath = {tmp_path}\n")  # and the user's own hooks stay quiet
    assert "b" not in names(select(root, ["a"]))
    select(root / "bare")
    monkeypatch.chdir(root / "bare")
    (root / "bare" / "sub").mkdir()
    plant({"bare/sub/x": ""})
    assert names(select(root / "bare" / "sub")) == ["x"]
    assert not (tmp_path / "ran").exists()


def test_what_git_traces_is_no_warning(
    plant: Plant, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debugging switches in the environment are not for this."""
    root = plant({"a": ""})
    git("init", "-q")
    monkeypatch.setenv("GIT_TRACE", "1")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    monkeypatch.setenv("GIT_ICASE_PATHSPECS", "1")
    assert select(root).warnings == ()


def test_configuration_in_the_environment_is_passed_on(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CI systems configure git by GIT_CONFIG_COUNT, safe.directory above all."""
    root = plant({"a": "", "x.bak": ""})
    (tmp_path / "rules").write_text("*.bak\n")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.excludesFile")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(tmp_path / "rules"))
    assert names(select(root)) == ["a"]


def test_case_is_ignored_where_the_repository_ignores_it(plant: Plant, git: Git) -> None:
    """.ferryignore follows core.ignoreCase as .gitignore does."""
    root = plant({".gitignore": "*.LOG\n", ".ferryignore": "*.TMP\n", "a.log": "", "b.tmp": ""})
    git("init", "-q")
    git("config", "core.ignoreCase", "true")
    assert names(select(root)) == [".ferryignore", ".gitignore"]


def test_patterns_that_only_git_reads_stop_a_pack_without_git(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In .gitignore, in .ferryignore and on the command line."""
    root = plant({"a": ""})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(select(root)) == ["a"]
    with pytest.raises(PatternsUnreadable, match="--include-pattern"):
        select(root, ["[[:alpha:]]"])
    for file in (".ferryignore", ".gitignore"):
        plant({file: "ok\n[[:alpha:]]\n"})
        with pytest.raises(PatternsUnreadable, match=f"{file}:2"):
            select(root)


def test_git_that_cannot_be_started_is_an_error(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else than no git: nothing is guessed."""
    root = plant({"a": ""})
    broken = tmp_path / "bin" / "git"
    broken.parent.mkdir()
    broken.write_bytes(b"\x7fELF, not quite")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    with pytest.raises(GitRefused, match="cannot be started"):
        select(root)


def test_links_through_what_is_left_out_are_refused(
    plant: Plant, start: Callable[[], None]
) -> None:
    """A link that stays inside here only because of an ignored one leads out on an instance."""
    root = plant({".gitignore": "short\n", "a/b/c": "", "d": ""})
    (root / "short").symlink_to("a/b")
    (root / "through").symlink_to("short/../../d")
    start()
    with pytest.raises(LinksLeaveTree, match=r"through -> short/\.\./\.\./d"):
        select(root)
    assert names(select(root, ["short"])) == [".gitignore", "a/b/c", "d", "short", "through"]


def test_bits_that_do_not_travel_are_named(plant: Plant, start: Callable[[], None]) -> None:
    """A setuid program lands as a plain one, and that is said."""
    root = plant({"tool": "", "left": "", "a": "", ".ferryignore": "left\n"})
    (root / "tool").chmod(0o4755)
    (root / "left").chmod(0o2755)
    start()
    assert select(root).warnings == ("tool has setuid or setgid, which does not travel.",)


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def test_lfs_pointers_are_named(plant: Plant, start: Callable[[], None]) -> None:
    """Where git lfs fetched nothing, what would arrive is not the model but a note about it."""
    root = plant(
        {"w.bin": POINTER, "sub/v.bin": POINTER, "like.txt": POINTER[::-1], "a": "x" * 130}
    )
    start()
    [warning] = [w for w in select(root).warnings if "LFS" in w]
    assert "git lfs pull" in warning
    assert warning.splitlines()[1:] == ["  sub/v.bin", "  w.bin"]


def test_what_no_instance_can_hold_is_named_before_it_is_read() -> None:
    """Path, name and link target against Linux's limits; one byte less is possible."""
    deep = b"/".join([b"d" * 200] * 25)[: 4095 - 1] + b"e"
    fine = [
        File(deep, 0o644, 1, 0),
        File(b"n" * 255 + b"/x", 0o644, 1, 0),
        File(b"/".join([b"x"] * 2000), 0o644, 1, 0),
        File(b"l", 0o777, 0, 0, target=b"t" * 4095),
    ]
    require_possible(fine)
    wrong = [
        File(deep + b"f", 0o644, 1, 0),
        File("\u540d".encode() * 86, 0o644, 1, 0),
        File(b"link", 0o777, 0, 0, target=b"t" * 4096),
    ]
    with pytest.raises(PathsImpossible, match=r"^3 files") as caught:
        require_possible([*fine, *wrong])
    assert "more than 255 bytes" in caught.value.message
    assert "link (it points" in caught.value.message


def test_directories_too_deep_to_be_listed_are_named(
    plant: Plant, start: Callable[[], None]
) -> None:
    """Neither git nor a walk gets at what is beyond the system's longest path."""
    root = plant({"a": ""})
    start()
    at = os.open(root, os.O_RDONLY)
    for _ in range(21):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT, dir_fd=at))
    os.close(at)
    with pytest.raises(FilesUnreadable, match="too long"):
        select(root)
    with pytest.raises(FilesUnreadable, match="too long"):
        select_all(root)


def test_what_no_instance_can_hold_stops_a_pack(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project and a script's files alike; here as if Linux's names were short."""
    root = plant({"a": "", "long-name": "", "files/long-name": ""})
    monkeypatch.setattr("codeferry_cli.packing.selection.MAX_NAME", 5)
    with pytest.raises(PathsImpossible, match="2 files"):
        select(root)
    with pytest.raises(PathsImpossible, match="1 files"):
        select_script(root / "a", root / "files")
    (root / "files" / "long-name").rename(root / "files" / "short")
    assert len(select_script(root / "a", root / "files").files) == 2


def unprivileged(*statements: str) -> str:
    """What a user prints whom file modes bind, as root they do not; or the errors they get."""
    root = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    script = (
        "import os; from pathlib import Path\n"
        "from codeferry_contracts.errors import CodeferryError\n"
        "from codeferry_cli.packing import select\n"
        "from codeferry_cli.packing.selection import select_all\n"
        "def names(selection): return [os.fsdecode(file.path) for file in selection.files]\n"
    )
    for statement in statements:
        script += f"try:\n {statement}\nexcept CodeferryError as e: print(e.code, e.message)\n"
    done = subprocess.run([*root, sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr

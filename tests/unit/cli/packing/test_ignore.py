"""Generated trees and ignore files: git itself says what is right."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeferry_cli.packing import NoFiles, PatternsUnreadable, select
from codeferry_cli.packing.git import Git
from codeferry_cli.packing.ignore import IgnoreFiles
from tests.long import sized

PLAIN = "a b ab A foo FOO Foo foobar x.py y.PY #x !y [c] -d é \\e a.b A 1 * ? x]"
SPECIAL = (
    "* ** ? / a b foo [a-c] [!a] [^b] [[:alpha:]] []c] [a- \\ \\* ! # .py x [[:upper:]] [\\]]"
    " **/ /** bar [z-a] [a\\-c] 1 [-a] *** [[:foo:]] [[:a] [[] é - ."
)
NAMES = st.sampled_from([*PLAIN.split(), "a b", "a ", " lead", "t\t"])
PIECES = st.sampled_from([*SPECIAL.split(), "\\ ", " ", "\t"])
SEGMENTS = NAMES | st.sampled_from(["*", "**", "*.py", "f*", "?"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
PATTERNS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "!", "/", "!/"]),
    PATHS | st.lists(PIECES, min_size=1, max_size=5).map("".join),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", "", " ", "  ", "\r"]),
)
FILES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=2, max_size=14)
IGNORES = st.lists(
    st.tuples(st.integers(0, 20), st.lists(PATTERNS, min_size=1, max_size=5)), max_size=4
)


Ignores = list[tuple[int, list[str]]]


def plant_tree(top: Path, files: list[str], ignores: Ignores, called: str = ".gitignore") -> None:
    directories = [top]
    for name in files:
        path = top / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:
            continue  # a file is where this name needs a directory, or the reverse
        directories.append(path.parent)
    for index, patterns in ignores:
        file = directories[index % len(directories)] / called
        file.write_text("\n".join(patterns), newline="")


def git_says(top: Path, *excludes: str) -> set[bytes]:
    command = ["git", "ls-files", "-z", "-co", *(excludes or ["--exclude-standard"])]
    out = subprocess.run(command, cwd=top, capture_output=True, check=True).stdout
    return set(filter(None, out.split(b"\0")))


def by_git(top: Path) -> set[bytes]:
    """What the packer makes of git's answers."""
    with tempfile.TemporaryDirectory() as scratch:
        return set(Git(top, Path(scratch)).listing().names)


def by_files(top: Path) -> set[bytes] | None:
    """What it makes of the ignore files alone; None when it refuses to read them."""
    try:
        return set(IgnoreFiles(top).listing().names)
    except PatternsUnreadable:
        return None


def assert_as_git(files: list[str], ignores: Ignores, excluded: list[str], tracked: int) -> None:
    """Without a repository, with its exclude file, with a file tracked: the set git lists."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory) / "tree"
        top.mkdir()
        plant_tree(top, files, ignores)
        alone, without_git = by_git(top), by_files(top)
        subprocess.run(["git", "init", "-q", str(top)], check=True)
        right = git_says(top)
        assert alone == right
        assert without_git in (right, None), "by pathspec"

        exclude = top / ".git" / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("\n".join(excluded), newline="")
        assert by_files(top) in (git_says(top), None), "by pathspec, with .git/info/exclude"

        planted = sorted(str(p.relative_to(top)) for p in top.rglob("*") if is_planted(p, top))
        if planted:
            name = planted[tracked % len(planted)]
            add = ["git", "--literal-pathspecs", "add", "-f", "--", name]
            subprocess.run(add, cwd=top, check=True, capture_output=True)
        assert by_git(top) == git_says(top), "with a tracked file"


def is_planted(path: Path, top: Path) -> bool:
    return path.is_file() and path.relative_to(top).parts[0] != ".git"


CASES = (FILES, IGNORES, st.lists(PATTERNS, max_size=2), st.integers(0, 20))


@settings(max_examples=30)
@given(*CASES)
def test_selection_is_what_git_would_do(
    files: list[str], ignores: Ignores, excluded: list[str], tracked: int
) -> None:
    """Of a generated tree the set git lists is found, by git and by pathspec alike."""
    assert_as_git(files, ignores, excluded, tracked)


@pytest.mark.parametrize(
    "patterns",
    [["**/*"], ["/**/*"], ["**/*/"], ["**/*/", "!d/"], ["**/*", "!d/", "!d/e"], ["**/e", "!/e"]],
    ids=" ".join,
)
def test_anywhere_is_at_every_level(patterns: list[str]) -> None:
    """A leading ** matches at the top, too, and each directory by itself."""
    assert_as_git(["a", "ab", "d/e", "d/f/g", "e"], [], patterns, 0)


@pytest.mark.parametrize("pattern", ["!/", "!/ ", "!", "/", "!!a", "!/a"])
def test_nothing_that_is_brought_back_is_nothing(pattern: str) -> None:
    """The rest of a pattern behind its ! is a pattern, or it is refused."""
    assert_as_git(["a/b", "c"], [], ["a", pattern], 0)


@settings(max_examples=30)
@given(FILES, IGNORES)
def test_ferryignore_leaves_out_what_git_would(files: list[str], ignores: Ignores) -> None:
    """The names in an index, and pathspec without git, give what git's own walk gives."""
    assert_ferryignore(files, ignores)


def assert_ferryignore(files: list[str], ignores: Ignores) -> None:
    """``.ferryignore`` excludes what it would as git's only ignore file."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory) / "tree"
        top.mkdir()
        plant_tree(top, files, ignores, ".ferryignore")
        found = selected(top)
        with patch.dict(os.environ, PATH="/nowhere"):
            without_git = selected(top)
        subprocess.run(["git", "init", "-q", str(top)], check=True)
        right = git_says(top, "--exclude-per-directory=.ferryignore")
        assert found == right
        assert without_git in (right, None)


def selected(top: Path) -> set[bytes] | None:
    """The names of the selection; None when it refuses to read the patterns."""
    try:
        return {file.path for file in select(top).files}
    except NoFiles:
        return set()
    except PatternsUnreadable:
        return None


@pytest.mark.slow
@settings(max_examples=sized(150, 500))
@given(*CASES)
def test_selection_is_what_git_would_do_many_times(
    files: list[str], ignores: Ignores, excluded: list[str], tracked: int
) -> None:
    """The same of many trees, as .gitignore and as .ferryignore."""
    assert_as_git(files, ignores, excluded, tracked)
    assert_ferryignore(files, ignores)


def test_an_ignore_file_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    """As in git, a .gitignore that is a symlink excludes nothing."""
    (tmp_path / "rules").write_text("*.log\n")
    (tmp_path / ".gitignore").symlink_to("rules")
    (tmp_path / "x.log").touch()
    assert by_files(tmp_path) == by_git(tmp_path) == {b".gitignore", b"rules", b"x.log"}


def test_byte_order_mark_and_carriage_returns_are_no_part_of_a_pattern(tmp_path: Path) -> None:
    """An ignore file saved on Windows means what it means to git."""
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\r\n\r\ntemp/\r\n")
    (tmp_path / "temp").mkdir()
    for name in ("x.log", "temp/y", "kept"):
        (tmp_path / name).touch()
    assert by_files(tmp_path) == by_git(tmp_path) == {b".gitignore", b"kept"}


def test_names_that_are_not_utf8_match_byte_by_byte(tmp_path: Path) -> None:
    """A question mark stands for one byte, and bytes that are no UTF-8 can be matched."""
    top = os.fsencode(tmp_path)
    for name in (b"x\xff", b"x\xc3\xa9", b"y\xfe", "voil\u00e0".encode(), b"a\nb"):
        Path(os.fsdecode(top + b"/" + name)).touch()
    (tmp_path / ".gitignore").write_bytes(b"x?\n*\xfe\nvoil\xc3\xa0\na?b\n")
    assert by_files(tmp_path) == by_git(tmp_path) == {b".gitignore", b"x\xc3\xa9"}


def test_the_users_own_ignore_file_applies(tmp_path: Path) -> None:
    """The ignore file git reads from the user's configuration directory is honoured."""
    ignore = Path(os.environ["XDG_CONFIG_HOME"]) / "git" / "ignore"
    ignore.parent.mkdir(parents=True)
    ignore.write_text(".DS_Store\n")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "a").touch()
    assert by_files(tmp_path) == by_git(tmp_path) == {b"a"}


def test_the_users_own_ignore_file_may_be_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After su with the former HOME it cannot be read: git goes on, and so does a pack."""

    def denied(path: bytes, flags: int, real: Callable[..., int] = os.open) -> int:
        if path.endswith(b"/git/ignore"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    (tmp_path / "a").touch()
    monkeypatch.setattr("codeferry_cli.packing.ignore.os.open", denied)
    assert by_files(tmp_path) == {b"a"}


def test_every_ignore_file_git_is_told_of_applies_outside_a_repository(tmp_path: Path) -> None:
    """core.excludesFile decides in a plain directory as it does in a repository."""
    rules = tmp_path / "rules"
    rules.write_text("*.bak\n")
    with Path(os.environ["HOME"], ".gitconfig").open("a") as configuration:
        configuration.write(f"[core]\nexcludesFile = {rules}\n")
    (tmp_path / "x.bak").touch()
    assert by_git(tmp_path) == {b"rules"}


LEVELS = [
    ("*.log\n!keep/\n", ["keep/x.log", "keep/y"]),
    ("b\n!a\n", ["a/b/x", "a/c"]),
    ("*\n!*/\n!*.py\n", ["a/b/x.py", "a/y.txt", "z.py"]),
    ("a/**\n!a/b/\n!a/b/**\n", ["a/b/c/x", "a/y"]),
    ("/*\n!/src/\n/src/*\n!/src/app/\n", ["src/app/x", "src/y", "z"]),
    ("build/\n!build/keep\n", ["build/keep", "build/x", "src/build"]),
    ("ignored/*\n!ignored/*/\n", ["ignored/not/x", "ignored/y"]),
]


@pytest.mark.parametrize(("patterns", "files"), LEVELS)
def test_one_level_decides_after_the_other(tmp_path: Path, patterns: str, files: list[str]) -> None:
    """Negations bring back what they name, not what lies below it; by pathspec as by git."""
    plant_tree(tmp_path, files, [(0, patterns.splitlines())])
    assert by_files(tmp_path) == by_git(tmp_path)


ORDINARY = [
    "*.py[cod]", "__pycache__/", "/build", "!keep.me", "docs/_build/", "**/node_modules", ".env*",
    "data/**", "a/**/b", "**/*.o", "*~", "\\#file#", "\\!x", "[Bb]in/", "[!a]*.x", "f?o", "*",
    "a b", "# comment", "", "  ", "logs/*.log", "/*", "!/src/", "caf\u00e9", "trailing   ",
]  # fmt: skip


@pytest.mark.parametrize("pattern", ORDINARY)
def test_ordinary_patterns_need_no_git(tmp_path: Path, pattern: str) -> None:
    """What stands in nearly every .gitignore is read without git, too."""
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    assert by_files(tmp_path) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        "!",
        "x\\  ",
        "x\\ ",
        "[[:alpha:]].txt",
        "[z-a]",
        "foo**/bar",
        "a**",
        "[]c]",
        "x\\",
        "[a-",
        "//x",
    ],
)
def test_patterns_that_only_git_reads_are_refused_by_file_and_line(
    tmp_path: Path, pattern: str
) -> None:
    """Without git nothing is packed on a guess."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".gitignore").write_text(f"*.log\n\n{pattern}\n")
    with pytest.raises(PatternsUnreadable) as caught:
        IgnoreFiles(tmp_path).listing()
    assert f"{tmp_path}/sub/.gitignore:3: {pattern}" in caught.value.message
    assert "Install git" in caught.value.hint

"""Ask git: the files of a repository, submodules included, and what its rules ignore.

Outside a repository it answers too, through a scratch one whose work tree is the directory.
Names are matched without looking at the files: they are put into an index of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codeferry_cli.packing.errors import GitRefused, show, unreadable
from codeferry_cli.packing.root import in_repository, is_repository, own_repository

# Of git's own variables only those that say how it is configured and where it may look:
# the rest, set inside hooks and by some tools, would make it answer for another repository.
_KEPT = ("GIT_CONFIG", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC")
# No listing runs anything of anybody's: a file system monitor is a command (empty, because
# before git 2.36 any other value is one), and writing an index calls a hook. Names that only
# another system could not hold are names here.
_COMMAND = (
    "git",
    *("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"),
)
_TAKEN = ("-co", "--exclude-standard")
_IGNORED = ("-oi", "--directory", "--exclude-standard")
_SETTINGS = r"^core\.(filemode|ignorecase)$"
# git cuts what it says after 4,096 bytes: of a path that is too long the end is missing.
_CLOSED = re.compile(
    rb"^warning: (?:could not open directory|unable to access) '([^/\n].*?)(?:': (.*))?$\n?", re.M
)
_NO_REPOSITORY = (
    "not a git repository",
    "must be run in a work tree",
    "cannot use bare repository",
)
_UNKNOWN = "files that are tracked though ignored cannot be known"

# The empty file's: the index of names wants some id, and nothing is looked up under it.
_CONTENT = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


class _Unusable(Exception):
    """The directory is not in a repository that git can read, though there is a ``.git``."""


@dataclass(frozen=True)
class Listing:
    """What belongs to a directory: ``names`` relative to it, repositories with a slash.

    ``unreadable`` pairs what could not be looked into with the reason. ``executable`` are
    the names that are to be executable where the file system does not say so.
    """

    names: tuple[bytes, ...]
    warnings: tuple[str, ...] = ()
    unreadable: dict[bytes, str] = field(default_factory=dict)
    executable: frozenset[bytes] | None = None

    def is_executable(self, name: bytes) -> bool | None:
        """Whether it is to be; None if the file system knows."""
        return None if self.executable is None else name in self.executable


class Git:
    """git's answers about the tree below ``root``; ``scratch`` is an empty directory for it."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._top = os.fsencode(root) + b"/"
        self._root = root
        self._scratch = scratch
        self._alone: set[bytes] = set()  # what is listed as if it were in no repository
        self._ignores_case = "false"
        # What makes a directory a repository in git's eyes.
        (scratch / "HEAD").write_text("ref: refs/heads/main\n")
        (scratch / "objects").mkdir()
        (scratch / "refs").mkdir()

    def listing(self, inside: bytes = b"") -> Listing:
        """What git would take of the root, or of a submodule ``inside`` (ending in a slash).

        Where no repository can be asked, the ignore files decide. Raises GitRefused when the
        user has something to settle with git first.
        """
        place = self._top + inside
        if not (own_repository(place) if inside else in_repository(self._root)):
            return self._listing_alone(inside, _lost(inside) if inside else None)
        try:
            found = self._in_repository(inside)
        except _Unusable as reason:
            return self._listing_alone(inside, f"{reason}: {_UNKNOWN}.")
        if b"./" in found.names:
            return self._listing_alone(inside, _lost(place))
        nothing = not (found.names or found.unreadable or own_repository(place))
        if nothing and self.ignored(inside, [b"."]):
            return self._listing_alone(inside, ignored_itself(place))
        return found

    def ignored(self, inside: bytes, names: Iterable[bytes]) -> set[bytes]:
        """Which of ``names`` in a tree that was listed its ignore files exclude."""
        asked = b"".join(b"./%b\0" % name for name in names)  # or a colon would be magic
        if not asked:
            return set()
        done = self._run(inside, "check-ignore", "-z", "--stdin", "--no-index", feed=asked)
        return {name.removeprefix(b"./") for name in _split(done.stdout)}

    def all_ignored(self) -> list[bytes]:
        """What the ignore files of the root exclude, directories once with a slash."""
        self.listing()
        return sorted(_split(self._checked(b"", "ls-files", "-z", *_IGNORED).stdout))

    def matching(self, names: Collection[bytes], pattern: bytes) -> set[bytes]:
        """Which of ``names`` the pattern, or a directory of theirs, matches."""
        return self._among(names, b"--exclude=" + pattern)[0]

    def excluded_by(
        self, file: bytes, names: Collection[bytes]
    ) -> tuple[set[bytes], tuple[str, ...]]:
        """Which of ``names`` the ignore files called ``file`` exclude, and git's warnings.

        Raises FilesUnreadable for such a file that cannot be read.
        """
        return self._among(names, b"--exclude-per-directory=" + file)

    def is_submodule(self, inside: bytes, name: bytes) -> bool:
        """Whether a name of a listing, which is a directory, is tracked as a submodule."""
        staged = self._checked(inside, "ls-files", "-s", "-z", "--", b":(literal)" + name).stdout
        return any(
            line.startswith(b"160000 ") and line.endswith(b"\t" + name) for line in _split(staged)
        )

    def _among(
        self, names: Collection[bytes], excludes: bytes
    ) -> tuple[set[bytes], tuple[str, ...]]:
        index = self._scratch / "names"
        index.unlink(missing_ok=True)
        variables = self._scratch_variables(b"") | {"GIT_INDEX_FILE": str(index)}
        lines = b"".join(b"100644 %b 0\t%b\0" % (_CONTENT, name) for name in sorted(names))
        put = ("update-index", "-z", "--index-info")
        filled = self._checked(b"", *put, feed=lines, variables=variables)
        case = ("-c", f"core.ignoreCase={self._ignores_case}")
        ask = (*case, "ls-files", "-z", "-c", "-i", excludes)
        found = self._checked(b"", *ask, variables=variables)
        if closed := _CLOSED.findall(found.stderr):
            raise unreadable(_reasons(closed))
        return set(_split(found.stdout)), _said(filled.stderr + found.stderr)

    def _listing_alone(self, inside: bytes, warning: str | None) -> Listing:
        """As if it were in no repository."""
        self._alone.add(inside)
        return self._listed(inside, (warning,) if warning else ())

    def _listed(
        self,
        inside: bytes,
        warnings: tuple[str, ...] = (),
        executable: frozenset[bytes] | None = None,
    ) -> Listing:
        done = self._checked(inside, "ls-files", "-z", *_TAKEN)
        closed = _CLOSED.findall(done.stderr)
        return Listing(
            tuple({*_split(done.stdout)}),  # once each, though a merge may leave three of them
            warnings + _said(_CLOSED.sub(b"", done.stderr)),
            _reasons(closed),
            executable,
        )

    def _in_repository(self, inside: bytes) -> Listing:
        """As git lists it; where core.fileMode is off, the modes are those of the index."""
        asked = self._run(inside, "config", "-z", "--bool", "--get-regexp", _SETTINGS)
        settings = dict(line.split(b"\n", 1) for line in _split(asked.stdout))
        if not inside:
            self._ignores_case = settings.get(b"core.ignorecase", b"false").decode()
        if settings.get(b"core.filemode") != b"false":
            return self._listed(inside)
        staged = _split(self._checked(inside, "ls-files", "-z", "-s").stdout)
        executable = (line.split(b"\t", 1)[1] for line in staged if line.startswith(b"100755"))
        return self._listed(inside, executable=frozenset(executable))

    def _checked(
        self,
        inside: bytes,
        *arguments: str | bytes,
        feed: bytes = b"",
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        done = self._run(inside, *arguments, feed=feed, variables=variables)
        if done.returncode != 0:
            raise _refusal(self._top + inside, done.stderr.decode(errors="replace").strip())
        return done

    def _run(
        self,
        inside: bytes,
        *arguments: str | bytes,
        feed: bytes = b"",
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        if variables is None:
            variables = self._scratch_variables(inside) if inside in self._alone else {}
        command = [*_COMMAND, "-C", self._top + inside, *arguments]
        try:
            return subprocess.run(
                command,
                env=_environment() | variables,
                input=feed,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise GitRefused(
                f"git cannot be started: {os.strerror(error.errno or 0)}.",
                hint="Repair it; without any git on the PATH the ignore files alone decide.",
            ) from error

    def _scratch_variables(self, inside: bytes) -> dict[str, str]:
        tree = os.fsdecode(self._top + inside)
        return {"GIT_DIR": str(self._scratch), "GIT_WORK_TREE": tree}


def _environment() -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("GIT_") or n.startswith(_KEPT)}
    return kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _split(output: bytes) -> list[bytes]:
    return [name for name in output.split(b"\0") if name]


def _lost(place: bytes) -> str:
    return f"{show(place)} is a submodule that has lost its .git: {_UNKNOWN}."


def ignored_itself(place: bytes) -> str:
    """What to say of a root that the repository around it ignores, and that was asked for."""
    return (
        f"{show(place.rstrip(b'/'))} is ignored by the repository around it: "
        "only the ignore files inside it decide."
    )


def _reasons(closed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    return {name: show(reason) or "its path is too long" for name, reason in closed}


def _said(complaint: bytes) -> tuple[str, ...]:
    return tuple(f"git: {show(line)}" for line in complaint.splitlines() if line.strip())


def _refusal(directory: bytes, complaint: str) -> Exception:
    place = Path(os.fsdecode(directory))
    if "dubious ownership" in complaint:
        return GitRefused(
            f"git does not trust the repository of {str(place)!r}: another user owns it.",
            hint=f"If you do: git config --global --add safe.directory '{_top(place)}'",
        )
    if any(words in complaint for words in _NO_REPOSITORY):
        return _Unusable(f"{_top(place) / '.git'} is not a repository git can read")
    reason = complaint.splitlines()[-1] if complaint else "it gave no reason"
    return GitRefused(
        f"git cannot list the files of {str(place)!r}: {reason}.",
        hint="Run git status there to see the same error.",
    )


def _top(directory: Path) -> Path:
    owners = (place for place in (directory, *directory.parents) if is_repository(place))
    return next(owners, directory)

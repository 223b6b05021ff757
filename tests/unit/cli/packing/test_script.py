"""Supporting files of a script."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from codeferry_cli.packing import LinksLeaveTree, SecretsFound, select_script, send


@pytest.fixture
def script(root: Path) -> Path:
    path = root / "go.sh"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def archive_of(selection: object) -> dict[str, bytes]:
    chunks, _ = send(selection, "go", lambda pack: b"".join(pack))  # type: ignore[arg-type]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(chunks))) as tar:
        files = (member for member in tar if member.isfile())
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def test_files_are_read_where_they_are_and_named_as_the_script_sees_them(
    script: Path, tmp_path: Path
) -> None:
    """Small and large ones alike, whatever their directory is called."""
    elsewhere = tmp_path / "other name"
    (elsewhere / "a").mkdir(parents=True)
    (elsewhere / "a" / "small").write_bytes(b"s")
    large = os.urandom(1 << 20) * 9
    (elsewhere / "large").write_bytes(large)
    found = archive_of(select_script(script, elsewhere))
    assert found["go.sh"] == b"#!/bin/sh\n"
    assert found["files/a/small"] == b"s"
    assert found["files/large"] == large


def test_a_file_of_the_same_name_beside_the_script_is_another(script: Path, tmp_path: Path) -> None:
    """Nothing below the script's own directory is taken for what was named."""
    (script.parent / "files").mkdir()
    (script.parent / "files" / "x").write_text("beside")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "x").write_text("named!")
    assert archive_of(select_script(script, tmp_path / "named"))["files/x"] == b"named!"


def test_the_same_files_give_the_same_archive(script: Path, tmp_path: Path) -> None:
    """Wherever they lie: the archive does not tell where that is."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("same")
    packed = [
        send(select_script(script, tmp_path / name), "go", lambda pack: b"".join(pack))[0]
        for name in ("one", "two")
    ]
    assert packed[0] == packed[1]


def test_an_empty_directory_brings_nothing(script: Path, tmp_path: Path) -> None:
    """The script goes alone."""
    (tmp_path / "empty").mkdir()
    assert [file.path for file in select_script(script, tmp_path / "empty").files] == [b"go.sh"]


def test_links_that_leave_the_directory_are_refused(script: Path, tmp_path: Path) -> None:
    """On the instance there is nothing where they point."""
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "out").symlink_to("/etc/hostname")
    with pytest.raises(LinksLeaveTree, match="/etc/hostname"):
        select_script(script, tmp_path / "named")


def test_a_secret_is_named_by_its_path_in_the_archive_and_so_allowed(
    script: Path, tmp_path: Path
) -> None:
    """What the error says is what --allow-secret takes; the script's own content counts too."""
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / ".env").write_text("AWS_SECRET=hunter2hunter2\n")
    with pytest.raises(SecretsFound, match=r"files/\.env"):
        archive_of(select_script(script, tmp_path / "named"))
    allowed = select_script(script, tmp_path / "named", ["./files/.env"])
    assert "files/.env" in archive_of(allowed)
    script.write_text(
        "#!/bin/sh\nexport AWS_SECRET_ACCESS_KEY="
        + "wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzYEXAKEYz"
        + "\n"
    )
    with pytest.raises(SecretsFound, match=r"go\.sh"):
        archive_of(select_script(script))

"""The assembly as one archive: the same bytes for the same tree, and no other by its digest."""

from __future__ import annotations

import os
import tarfile

import pytest

from scripts.assembly import WrongAssembly, context_options, digest, main, make, pack, unpack


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "cdk.out"
    (root / "asset.1").mkdir(parents=True)
    (root / "manifest.json").write_text("{}")
    (root / "asset.1" / "index.py").write_text("pass\n")
    return root


def test_the_same_tree_is_the_same_archive(tree, tmp_path):
    """Times, owners and the order of the file system leave no trace."""
    pack(tree, tmp_path / "one.tar.gz")
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
    pack(tree, tmp_path / "two.tar.gz")
    assert digest(tmp_path / "one.tar.gz") == digest(tmp_path / "two.tar.gz")


@pytest.mark.slow
def test_the_same_sources_are_the_same_archive(tmp_path, monkeypatch):
    """Whatever order sets have and wherever jsii unpacks itself: the digest is the review's, and
    nothing else is left behind."""
    digests = set()
    for seed in ("1", "2"):
        directory = tmp_path / seed
        directory.mkdir()
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("TMPDIR", str(directory))
        archive = directory / "assembly.tar.gz"
        digests.add(make("prod", "github=acme/app", archive))
        assert list(directory.iterdir()) == [archive]
    assert len(digests) == 1


def test_another_tree_is_another_archive(tree, tmp_path):
    """One changed byte is enough."""
    pack(tree, tmp_path / "one.tar.gz")
    (tree / "manifest.json").write_text("{ }")
    pack(tree, tmp_path / "two.tar.gz")
    assert digest(tmp_path / "one.tar.gz") != digest(tmp_path / "two.tar.gz")


def test_what_was_packed_is_unpacked(tree, tmp_path):
    """Under its digest, the whole tree."""
    archive = tmp_path / "assembly.tar.gz"
    pack(tree, archive)
    unpack(archive, digest(archive), tmp_path / "again")
    assert (tmp_path / "again/asset.1/index.py").read_text() == "pass\n"


def test_an_archive_that_was_not_reviewed_is_refused(tree, tmp_path, capsys):
    """Nothing of it is unpacked."""
    archive = tmp_path / "assembly.tar.gz"
    pack(tree, archive)
    arguments = ["unpack", "--sha256", "0" * 64, str(archive), str(tmp_path / "again")]
    assert main(arguments) == 1
    assert "was reviewed" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_path_that_leads_out_is_refused(tmp_path):
    """Even under the right digest."""
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(archive, digest(archive), tmp_path / "again")


def test_the_context_becomes_options():
    """As a repository variable holds it."""
    assert context_options("prod", "fleet=workers  fleet_max=5") == [
        "-c",
        "stage=prod",
        "-c",
        "fleet=workers",
        "-c",
        "fleet_max=5",
    ]
    with pytest.raises(WrongAssembly, match="fleet"):
        context_options("prod", "fleet")

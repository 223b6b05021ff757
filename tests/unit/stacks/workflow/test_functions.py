"""The functions' code as it is packed."""

from __future__ import annotations

import os
import stat

from stacks.workflow.functions import lambda_asset


def test_functions_can_read_their_code_whatever_the_umask_was():
    """Lambda runs them as a user that is nobody's here, and takes the zip's modes as they are."""
    before = os.umask(0o077)
    try:
        asset = lambda_asset()
    finally:
        os.umask(before)
    files = [asset, *asset.rglob("*")]
    assert len(files) > 100
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path

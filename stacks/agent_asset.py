"""The agent among the CDK's assets: published with the stack, under a key that never changes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aws_cdk import AssetHashType, AssetStaging, FileAssetPackaging, Stack

from codeferry_contracts.layout import agent_key
from stacks.agent_code import agent_code, agent_sha256


def published_agent(stack: Stack) -> str:
    """Have the CDK put it there before the stack changes; the bucket's name.

    Asked of the synthesizer itself: an ``s3_assets.Asset`` is called by a hash that only the CDK
    can make, and this one has to be found by the SHA-256 that a document names.
    """
    sha256 = agent_sha256()
    with tempfile.TemporaryDirectory(prefix="codeferry-agent-") as directory:
        path = Path(directory, agent_key(sha256))
        path.write_bytes(agent_code())
        staged = AssetStaging(
            stack,
            "Agent",
            source_path=str(path),
            asset_hash=sha256,
            asset_hash_type=AssetHashType.CUSTOM,
        )
    published = stack.synthesizer.add_file_asset(
        source_hash=sha256,
        file_name=staged.relative_staged_path(stack),
        packaging=FileAssetPackaging.FILE,
        display_name="The instances' agent",
    )
    return published.bucket_name

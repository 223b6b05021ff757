"""What an archive may be at most, and the names in it that are Codeferry's own."""

from __future__ import annotations

CHUNK = 1 << 20
MAX_BYTES, MAX_FILE_BYTES = 64 << 30, 32 << 30
MAX_RATIO, RATIO_FROM = 200, 64 << 20  # unpacked : archive, beyond so many bytes
MAX_MEMBERS, MEMBERS_FROM, BYTES_PER_MEMBER = 1_000_000, 100_000, 32  # a digest takes more
MAX_MANIFEST = 256 << 20
MAX_PATH, MAX_COMPONENT, MAX_DEPTH = 4095, 255, 100
MAX_HOPS = 40  # path_resolution(7): the kernel follows no more links
META, MANIFEST, SUMS = b".codeferry", b".codeferry/manifest.json", b".codeferry/SHA256SUMS"

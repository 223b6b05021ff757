"""What an archive may be at most, and the names in it that are Codeferry's own.

How much may come out of it the payload says, as its manifest or the run's request has announced it.
"""

from __future__ import annotations

CHUNK = 1 << 20
MAX_MANIFEST = 256 << 20
HEADERS = 64 << 10  # of one member, and its lines in the manifest, with the longest of names
MAX_PATH, MAX_COMPONENT = 4095, 255  # path_resolution(7)
MAX_HOPS = 40  # path_resolution(7): the kernel follows no more links
META, MANIFEST, SUMS = b".codeferry", b".codeferry/manifest.json", b".codeferry/SHA256SUMS"

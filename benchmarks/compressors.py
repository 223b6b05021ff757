"""Which gzip compressor packs fastest, and what it costs in size.

    uv run --with zlib-ng python benchmarks/compressors.py

Compresses the same bytes (source text, and this interpreter's own binaries) with each
compressor and level in turn, several rounds, and prints time and size as ratios to the
standard library's zlib at level 6, which is what ``tar czf`` costs.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from isal import isal_zlib
from zlib_ng import zlib_ng

ROUNDS = 3
MOST = 24 << 20
Compressor = Callable[[bytes], bytes]


def compressors() -> Iterator[tuple[str, Compressor]]:
    yield "zlib 6", lambda content: zlib.compress(content, 6)
    yield "zlib 1", lambda content: zlib.compress(content, 1)
    for level in range(4):
        yield f"isal {level}", lambda content, level=level: isal_zlib.compress(content, level)
    for level in (1, 2, 3, 6):
        yield f"zlib-ng {level}", lambda content, level=level: zlib_ng.compress(content, level)


def corpus(pattern: str, *places: Path) -> bytes:
    """Files below ``places`` one after the other, up to ``MOST`` bytes."""
    content = bytearray()
    for place in places:
        for path in sorted(place.rglob(pattern)):
            if path.is_file() and len(content) < MOST:
                content += path.read_bytes()
    return bytes(content[:MOST])


def measure(content: bytes) -> None:
    names = [name for name, _ in compressors()]
    best = dict.fromkeys(names, float("inf"))
    sizes = {}
    for _ in range(ROUNDS):
        for name, compress in compressors():
            began = time.perf_counter()
            sizes[name] = len(compress(content))
            best[name] = min(best[name], time.perf_counter() - began)
    base = names[0]
    for name in names:
        took, size = best[name] / best[base], sizes[name] / sizes[base]
        print(f"| {name:<10} | {took:5.2f} | {size:5.2f} |")


def main() -> None:
    library = Path(zlib.__file__ or sys.executable).parent
    packages = Path(isal_zlib.__file__).parents[1]
    corpora = {
        "source text": corpus("*.py", packages),
        "binaries": corpus("*.so", packages, library),
    }
    for name, content in corpora.items():
        print(f"\n{name}, {len(content) / 1e6:.0f} MB\n\n| compressor | time | size |")
        print("|---|---|---|")
        measure(content)


if __name__ == "__main__":
    main()

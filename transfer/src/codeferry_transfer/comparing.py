"""Whether a local file has the content S3 keeps a checksum of."""

from __future__ import annotations

import hashlib
import os

from codeferry_transfer.composite import composite_of
from codeferry_transfer.partition import possible_parts
from codeferry_transfer.s3 import Head
from codeferry_transfer.s3.proof import Proof, proof_of

_PIECE = 1 << 20


def same_content(descriptor: int, head: Head) -> bool:
    """Equal as far as can be proven; False when S3 keeps nothing that can be compared."""
    if os.fstat(descriptor).st_size != head.size:
        return False
    proof = proof_of(head)
    if proof is not None:
        return proves(descriptor, proof)
    kept = head.checksums.get("sha256", "")
    return any(
        composite(descriptor, head.size, part) == kept for part in possible_parts(head.size, kept)
    )


def proves(descriptor: int, proof: Proof) -> bool:
    """Read the file from its beginning through ``proof``."""
    offset = 0
    while piece := os.pread(descriptor, _PIECE, offset):
        proof.update(piece)
        offset += len(piece)
    return proof.holds()


def composite(descriptor: int, size: int, part: int) -> str:
    """The SHA-256 of the SHA-256s of the file's parts, as S3 writes it."""
    digests = [_digest(descriptor, offset, part) for offset in range(0, size, part)]
    return composite_of(digests)


def _digest(descriptor: int, offset: int, size: int) -> bytes:
    digest, end = hashlib.sha256(), offset + size
    while offset < end and (piece := os.pread(descriptor, min(_PIECE, end - offset), offset)):
        digest.update(piece)
        offset += len(piece)
    return digest.digest()

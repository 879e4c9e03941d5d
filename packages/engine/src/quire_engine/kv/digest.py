"""Names for the contents of full blocks: a salted chain of digests. It knows tokens and bytes, no blocks, no requests.

A block's keys and values depend on every token up to its end, so its name must too: each digest is taken over the
parent block's digest and the block's own tokens. The chain starts from a digest of the salt. BLAKE2b with 32 bytes
is collision-resistant, so nobody can craft a prompt that lands on another one's cached blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b, sha256

DIGEST_BYTES = 32


def content_salt(cache_salt: str | None, embeds: bytes = b"") -> bytes:
    """What a prompt's chain is salted with: what its sender says, and the embeddings that it is made of.

    Tokens say nothing about embeddings, so these are in the salt as a whole. No text has the byte FF in UTF-8: no
    sender's salt can pass for somebody else's embeddings.
    """
    salt = (cache_salt or "").encode("utf-8", "surrogatepass")
    return b"\xff" + sha256(embeds).digest() + salt if embeds else salt


def root_digest(salt: bytes) -> bytes:
    """Where a chain starts: chains under different salts have nothing in common."""
    return blake2b(salt, digest_size=DIGEST_BYTES, person=b"quire.kv.salt").digest()


def block_digest(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The digest of a full block that holds `tokens` and follows the block (or root) named `parent`."""
    packed = struct.pack(f"<{len(tokens)}I", *tokens)
    return blake2b(parent + packed, digest_size=DIGEST_BYTES, person=b"quire.kv.block").digest()


def extend_chain(chain: list[bytes], tokens: Sequence[int], blocks: int, block_size: int, salt: bytes) -> None:
    """Grow `chain`, the digests of the first blocks of `tokens`, in place until it names `blocks` of them."""
    for index in range(len(chain), blocks):
        parent = chain[-1] if chain else root_digest(salt)
        chain.append(block_digest(parent, tokens[index * block_size : (index + 1) * block_size]))

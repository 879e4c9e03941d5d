import pytest

from quire_engine.kv.digest import block_digest, content_salt, extend_chain, root_digest


def chain_of(tokens: list[int], blocks: int, salt: bytes = b"") -> list[bytes]:
    chain: list[bytes] = []
    extend_chain(chain, tokens, blocks, 4, salt)
    return chain


def test_equal_beginnings_have_equal_digests() -> None:
    assert chain_of([1, 2, 3, 4, 5, 6, 7, 8], 1) == chain_of([1, 2, 3, 4, 9, 9, 9, 9], 1)


def test_a_digest_depends_on_every_token_before_it() -> None:
    first, second = chain_of([1, 2, 3, 4, 5, 6, 7, 8], 2), chain_of([0, 2, 3, 4, 5, 6, 7, 8], 2)
    assert not set(first) & set(second)


def test_the_order_of_tokens_matters() -> None:
    assert chain_of([1, 2, 3, 4], 1) != chain_of([4, 3, 2, 1], 1)


def test_chains_under_different_salts_have_nothing_in_common() -> None:
    tokens = list(range(16))
    assert not set(chain_of(tokens, 4, b"ann")) & set(chain_of(tokens, 4, b"ben"))


def test_the_salt_tells_embeddings_apart_and_keeps_the_senders_own() -> None:
    salts = [content_salt(salt, embeds) for salt in (None, "ann") for embeds in (b"", b"rows", b"other rows")]
    assert len(set(salts)) == 6
    assert content_salt("ann", b"rows") == content_salt("ann", b"rows")


def test_no_salt_that_can_be_sent_passes_for_embeddings() -> None:
    with pytest.raises(UnicodeDecodeError):
        content_salt(None, b"rows").decode("utf-8", "surrogatepass")


def test_a_salt_is_not_a_block_in_disguise() -> None:
    root = root_digest(b"")
    assert root_digest(root + b"\x01\0\0\0") != block_digest(root, [1])


def test_a_chain_grows_in_place_and_keeps_what_it_has() -> None:
    tokens = list(range(12))
    chain = chain_of(tokens, 1)
    first = chain[0]
    extend_chain(chain, tokens, 3, 4, b"")
    assert chain[0] is first
    assert chain == chain_of(tokens, 3)


def test_digests_are_the_same_in_every_process() -> None:
    assert (
        block_digest(root_digest(b""), [1, 2, 3]).hex()
        == "707f1b730362b44218b754e416f7f709198efd238c4caae0ce8778a4239c7a1a"
    )


@pytest.mark.parametrize("token", [0, 1, 2**31, 2**32 - 1])
def test_every_token_id_can_be_named(token: int) -> None:
    assert len(block_digest(root_digest(b""), [token])) == 32

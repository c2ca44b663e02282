import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import DataError
from evoprune.data.documents import Document
from evoprune.data.pool import TextPool, build_pool, drop_shared_chunks


class Letters:
    """A tokenizer whose tokens are characters."""

    def __init__(self, bos_token_id=None):
        self.bos_token_id = bos_token_id

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(i) for i in ids if i != self.bos_token_id)


def pool_of(*texts, split="search", chunk_tokens=4, **options):
    documents = [Document(f"d{i}", f"k{i}", text) for i, text in enumerate(texts)]
    return build_pool(documents, Letters(), split, chunk_tokens, **options)


@given(st.lists(st.text("abc", min_size=2, max_size=30), min_size=1), st.integers(2, 9))
def test_chunks_hold_each_document_once_and_in_order(texts, width):
    pool = pool_of(*texts, chunk_tokens=width, min_tokens=2)
    for i, text in enumerate(texts):
        rows = [j for j, key in enumerate(pool.keys) if key == f"d{i}"]
        joined = "".join(chr(c) for j in rows for c in pool.tokens[j, : pool.lengths[j]])
        assert joined == (text if len(text) % width != 1 else text[:-1])
    assert pool.tokens.shape == (len(pool), width)
    assert (pool.tokens[np.arange(width) >= pool.lengths[:, None]] == 0).all()


def test_short_tails_are_left_out_and_documents_capped():
    pool = pool_of("a" * 17, "b" * 10, chunk_tokens=8, max_chunks_per_document=1)
    assert pool.keys == ("d0", "d1")
    assert pool_of("a" * 17, chunk_tokens=8).lengths.tolist() == [8, 8]
    assert pool_of("a" * 18, chunk_tokens=8).lengths.tolist() == [8, 8, 2]


def test_documents_start_with_the_beginning_token():
    pool = build_pool([Document("d", "k", "abcde")], Letters(bos_token_id=7), "search", 3)
    assert pool.tokens.tolist() == [[7, 97, 98], [99, 100, 101]]


def test_digest_depends_on_tokens_and_lengths_only():
    pool, same = pool_of("abcd", "efgh"), pool_of("abcd", "efgh", split="report")
    assert pool.digest == same.digest
    assert pool.digest != pool_of("abcd", "efgi").digest
    shorter = TextPool(pool.tokens, pool.lengths - 1, pool.keys, pool.kinds, pool.split)
    assert pool.digest != shorter.digest


def test_take_keeps_rows_together():
    taken = pool_of("aaaa", "bbbb", "cccc").take([2, 0])
    assert (taken.keys, taken.kinds) == (("d2", "d0"), ("k2", "k0"))
    assert taken.tokens[:, 0].tolist() == [ord("c"), ord("a")]
    assert taken.split == "search"


def test_excerpts_are_one_line():
    pool = pool_of("a\nb c" * 10, chunk_tokens=50)
    assert pool.excerpts(Letters(), max_chars=8) == ["a b ca …"]
    assert pool_of("abcd", "efgh").excerpts(Letters(), [1]) == ["efgh"]


def test_shared_chunks_stay_in_the_earlier_split():
    pools = {
        "report": pool_of("abcdXXXX", "efgh", split="report"),
        "search": pool_of("abcd", split="search"),
    }
    kept, dropped = drop_shared_chunks(pools)
    assert dropped == {"search": 0, "report": 1}
    assert list(kept) == ["report", "search"]
    assert set(kept["report"].chunk_digests()).isdisjoint(kept["search"].chunk_digests())


def test_empty_pools_are_refused():
    with pytest.raises(DataError, match="No document of the search split has 2 tokens"):
        pool_of("a", "b")
    with pytest.raises(DataError, match="Every chunk of the report pool"):
        drop_shared_chunks({"search": pool_of("abcd"), "report": pool_of("abcd", split="report")})
    with pytest.raises(DataError, match="predict nothing"):
        pool_of("abcd", chunk_tokens=1)

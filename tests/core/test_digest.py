import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.digest import canonical_json, digest_bytes, digest_files, digest_json, fast_digest, has_digest

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_canonical_json_reads_back_as_what_was_written(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


@given(VALUES, VALUES)
def test_one_spelling_stands_for_one_value(one, other):
    if canonical_json(one) == canonical_json(other):
        assert one == other


def test_the_spelling_by_hand():
    assert canonical_json({"b": [1, 2.0, None], "a": "\u00e9"}) == '{"a":"\u00e9","b":[1,2.0,null]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_there_is_no_spelling_for_what_is_not_finite(value):
    with pytest.raises(ValueError, match="Out of range float values"):
        canonical_json(value)


def test_a_digest_is_16_hex_digits_and_pinned():
    assert digest_json({"a": 1}) == "1f8c00645b7df6ce"
    assert digest_bytes(b"") == "e4a6a0577479b2b4"  # BLAKE2b with a digest of 8 bytes over nothing


def test_parts_are_read_as_one_stream():
    assert digest_bytes(b"ab", b"c") == digest_bytes(memoryview(b"abc"))
    assert fast_digest(b"ab", b"c") == fast_digest(memoryview(b"abc"))


def test_a_fast_digest_says_what_it_is_and_is_pinned():
    """The first 16 bytes of BLAKE3 over nothing, and over "abc", as its authors published them."""
    assert fast_digest() == "blake3:af1349b9f5f9a1a6a0404dea36dcc949"
    assert fast_digest(b"abc") == "blake3:6437b3ac38465133ffb63b75273a8db5"


@given(st.binary(max_size=3000), st.integers(0, 8 * 3000 - 1))
def test_what_has_a_digest_of_either_kind_has_it_no_more_with_one_bit_changed(content, bit):
    for digest in (digest_bytes(content), fast_digest(content)):
        assert has_digest(digest, content)
        if bit < 8 * len(content):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            assert not has_digest(digest, bytes(changed))


@pytest.mark.parametrize("digest", [None, "", "blake3:", "e4a6a0577479b2b", "sha256:e4a6a0577479b2b4"])
def test_nothing_has_what_is_no_digest(digest):
    assert not has_digest(digest, b"")


def test_files_are_told_apart_by_content_name_and_order(tmp_path):
    def digest_of(**files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return digest_files(tmp_path / name for name in files)

    digests = [
        digest_of(a=b"1", b=b"2"),
        digest_of(b=b"2", a=b"1"),
        digest_of(a=b"1", c=b"2"),
        digest_of(a=b"1", b=b"3"),
        digest_of(a=b"1b\0" + b"2"),  # what a and b would be without a border between them
    ]
    assert len(set(digests)) == 5


def test_files_larger_than_a_block_are_read_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))
    before = digest_files([path])
    path.write_bytes(bytes((3 << 20) - 1) + b"1")
    assert digest_files([path]) != before


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest_files([tmp_path / "none"])

"""A text is kept once under its hash, and read back unchanged or not at all."""

from __future__ import annotations

import pytest

from store.data_root import DataRoot
from store.errors import NameInvalid, TextMissing


def test_a_text_is_kept_once_and_read_back_exactly(tmp_path):
    texts = DataRoot(tmp_path).texts
    text = "line\r\nno newline at the end é"

    digest = texts.keep(text)

    assert DataRoot(tmp_path).texts.keep(text) == digest
    assert DataRoot(tmp_path).texts.read(digest) == text
    assert len(list((tmp_path / "texts").rglob("*.txt"))) == 1


def test_a_text_that_is_not_kept_raises(tmp_path):
    with pytest.raises(TextMissing, match="not kept"):
        DataRoot(tmp_path).texts.read("0" * 64)


def test_an_altered_text_raises(tmp_path):
    texts = DataRoot(tmp_path).texts
    digest = texts.keep("text")
    (path,) = (tmp_path / "texts").rglob("*.txt")
    path.chmod(0o644)
    path.write_text("Text")

    with pytest.raises(TextMissing, match="altered"):
        texts.read(digest)


@pytest.mark.parametrize("digest", ["", "../x", "0" * 63, "A" * 64])
def test_no_path_can_be_built_from_anything_but_a_digest(digest, tmp_path):
    with pytest.raises(NameInvalid):
        DataRoot(tmp_path).texts.read(digest)

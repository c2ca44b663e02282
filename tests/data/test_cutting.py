"""One long text file becomes many documents, and says how."""

import pytest

from evoprune.core.errors import DataError
from evoprune.data.cutting import ENOUGH, LENGTHS, cut, cut_all
from evoprune.data.documents import assign_splits
from evoprune.data.sources import TextSource

PARAGRAPH = "The rain fell softly on the tin roof, and nobody came.\nIt was late.\n"
THIRDS = {"search": 0.6, "validation": 0.2, "report": 0.2}


def paragraphs(count):
    """Returns a text of paragraphs that all differ."""
    return "\n".join(f"{i}. {PARAGRAPH}" for i in range(count))


@pytest.mark.parametrize("text", [paragraphs(400), paragraphs(400).replace("\n", " "), "x" * 9_999])
@pytest.mark.parametrize("length", LENGTHS)
def test_documents_joined_are_the_text(text, length):
    found, _ = cut(text, length)
    assert "".join(found) == text and len(found) > 1
    assert all(length <= len(one) <= 2 * length for one in found[:-1])


def test_cuts_lie_before_paragraphs():
    found, at_blank = cut(paragraphs(400), 500)
    assert at_blank and all(one.endswith("\n\n") for one in found[:-1])
    assert all(one[0].isdigit() for one in found)


def test_words_stay_whole_where_there_are_no_lines():
    found, at_blank = cut("word " * 5_000, 500)
    assert not at_blank and all(one.endswith("word ") for one in found)


def test_a_short_text_gives_shorter_documents():
    long, _ = cut_all([paragraphs(3_000)])
    short, _ = cut_all([paragraphs(600)])
    assert len(long[0]) >= ENOUGH <= len(short[0])
    assert len(long[0][0]) > 3 * len(short[0][0])


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (paragraphs(600), "at blank lines"),
        (paragraphs(600).replace("\n\n", "\n"), "about every 500 characters"),
        ("line\n" * 1_000 + "\n" + "x" * 30_000, "at blank lines, longer paragraphs by length"),
    ],
)
def test_how_a_file_was_cut_is_said(tmp_path, text, how):
    (tmp_path / "corpus.txt").write_text(text)
    source = TextSource([str(tmp_path / "corpus.txt")])
    count = len(source.documents())
    assert source.note == f"corpus.txt: one file, cut {how} into {count:,} documents"


def test_one_file_fills_all_splits_in_the_same_way_wherever_it_lies(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "corpus.txt").write_text(paragraphs(600))
    first = assign_splits(TextSource([str(tmp_path / "a" / "*.txt")]).documents(), THIRDS)
    (tmp_path / "a").rename(tmp_path / "b")
    again = assign_splits(TextSource([str(tmp_path / "b" / "*.txt")]).documents(), THIRDS)
    assert first == again and all(first.values())


def test_enough_files_stay_one_document_each_and_fewer_do_not(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"{i}\n{paragraphs(60)}")
    many = TextSource([str(tmp_path / "*.txt")])
    few = TextSource([str(tmp_path / "1?.txt")])
    assert (len(many.documents()), many.note) == (20, "")
    assert few.note == f"10 files, cut at blank lines into {len(few.documents()):,} documents"


def test_too_small_a_corpus_says_what_was_found_and_what_is_needed(tmp_path):
    (tmp_path / "tiny.txt").write_text("One line.\n")
    with pytest.raises(DataError) as caught:
        assign_splits(TextSource([str(tmp_path / "tiny.txt")]).documents(), THIRDS)
    assert "one document was found, its share is 0." in caught.value.cause
    assert caught.value.remedy.startswith("Give 15 documents or more")

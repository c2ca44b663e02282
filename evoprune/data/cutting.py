"""Long texts cut into documents, so that no split goes without one."""

from collections.abc import Iterator, Sequence

# Fewer files than this are cut: with the usual shares a split would now and then stay empty.
FEW_FILES = 20
# Characters that a document has at least, tried in this order: about four chunks of 128 tokens,
# or one. The shorter is for texts of which the longer would make fewer than ENOUGH documents.
LENGTHS = (2_000, 500)
ENOUGH = 60
# A document ends where it is this many times the least length, even within a paragraph.
MOST = 2


def cut(text: str, length: int) -> tuple[list[str], bool]:
    """Returns the documents of a text, and whether every cut lies at a blank line.

    Joined, they are the text. A document ends at the first blank line after ``length``
    characters; where there is none for as long again, at the end of a line, else of a word.

    Args:
        text: of one file.
        length: characters that a document has at least, if it is not the last.
    """
    documents: list[str] = []
    at_blank = True
    held: list[str] = []
    size, blank = 0, False
    for line in _lines(text, length):
        full = size >= length and blank and line.strip()
        long = size + len(line) > MOST * length
        if held and (full or long):
            documents.append("".join(held))
            at_blank &= bool(full)
            held, size = [], 0
        held.append(line)
        size += len(line)
        blank = not line.strip()
    return [*documents, "".join(held)] if held else documents, at_blank


def cut_all(texts: Sequence[str]) -> tuple[list[list[str]], str]:
    """Returns the documents of each text, and how they were cut, in words.

    Args:
        texts: of files too few to be a document each.
    """
    for length in LENGTHS:
        found = [cut(text, length) for text in texts]
        if sum(len(documents) for documents, _ in found) >= ENOUGH:
            break
    if all(at_blank for _, at_blank in found):
        return [documents for documents, _ in found], "at blank lines"
    if not any("\n\n" in text for text in texts):
        return [documents for documents, _ in found], f"about every {length:,} characters"
    return [documents for documents, _ in found], "at blank lines, longer paragraphs by length"


def _lines(text: str, length: int) -> Iterator[str]:
    """Yields the lines of a text with their ends; overlong ones in parts that end with words."""
    for line in text.splitlines(keepends=True):
        while len(line) > length:
            end = line.rfind(" ", 0, length) + 1 or length
            yield line[:end]
            line = line[end:]
        yield line

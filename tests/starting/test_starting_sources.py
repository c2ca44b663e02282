"""Which data a word on the command line means."""

import json

import pytest

from evoprune.core.errors import DataError
from evoprune.data.sources import JsonLinesSource
from evoprune.starting.sources import chosen_data, kind_field, text_field

STORY = "Once upon a time there was a long text about nothing in particular. "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a corpus of each sort."""
    rows = [{"id": f"r{i}", "topic": "ab"[i % 2], "body": f"{i} {STORY}"} for i in range(12)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "corpus.txt").write_text(STORY)
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "images.npz").write_text("")
    (tmp_path / "texts" / "more").mkdir(parents=True)
    for name in ("texts/a.txt", "texts/more/b.txt", "texts/README.md"):
        (tmp_path / name).write_text(STORY)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "settings"),
    [
        ("corpus.txt", {"type": "text", "files": ["corpus.txt"]}),
        ("texts", {"type": "text", "files": ["texts/**/*.txt"]}),
        ("texts/*.txt", {"type": "text", "files": ["texts/*.txt"]}),
        ("images.npz", {"type": "npz", "file": "images.npz"}),
        ("digits", {"type": "digits"}),
        (
            "corpus.jsonl",
            {
                "type": "jsonl",
                "files": ["corpus.jsonl"],
                "text_field": "body",
                "kind_field": "topic",
            },
        ),
    ],
)
def test_a_word_means_the_data_that_a_person_means(folder, word, settings):
    assert chosen_data(word).settings == settings


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "./corpus.jsnl",
            "There is no file or folder './corpus.jsnl'. Did you mean 'corpus.jsonl'?",
        ),
        ("digts", "Did you mean 'digits'?"),
        ("owner/data", "Give a file (.txt, .md, .jsonl, .ndjson, .npz), a folder"),
        ("jsonl", "Data of the type 'jsonl' need 'files'."),
        ("table.csv", "What 'table.csv' holds cannot be told from its name."),
        ("pictures", "The folder 'pictures' is no folder of text (it holds .png)."),
    ],
)
def test_what_is_no_data_is_told(folder, word, message):
    with pytest.raises(DataError) as caught:
        chosen_data(word)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("3\n", "is not a JSON object"), ('{"n": 3}\n', "No field .* is text")],
)
def test_lines_without_text_are_told(tmp_path, text, message):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        chosen_data(str(tmp_path / "rows.jsonl"))


def test_the_text_is_the_field_named_so_else_the_longest(tmp_path):
    assert text_field([{"long": "x" * 99, "text": "short"}], tmp_path) == "text"
    assert text_field([{"title": "short", "story_of_it": "x" * 99, "n": 3}], tmp_path) == (
        "story_of_it"
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"label": [0, 1] * 6, "n": list(range(12))}, "label"),
        ({"set": ["a", "b"] * 6, "domain": ["x", "y", "z"] * 4}, "domain"),
        ({"one": ["same"] * 12, "each": [str(i) for i in range(12)]}, None),
        ({"long": ["a" * 60, "b" * 60] * 6, "gone": [None, "a"] * 6}, None),
    ],
)
def test_kinds_are_few_short_and_repeated(values, found):
    rows = [
        {"text": "t", **{name: column[i] for name, column in values.items()}} for i in range(12)
    ]
    assert kind_field(rows, "text") == found


def test_brackets_and_hidden_files_are_no_traceback(tmp_path):
    (tmp_path / "corpus [v1].jsonl").write_text('{"text": "a b c"}\n')
    found = chosen_data(str(tmp_path / "corpus [v1].jsonl"))
    assert found.settings["text_field"] == "text"
    hidden = tmp_path / "folder" / ".cache"
    hidden.mkdir(parents=True)
    (hidden / "data.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="no folder of text"):
        chosen_data(str(tmp_path / "folder"))


def test_a_folder_takes_capitals_and_brackets_as_they_are(tmp_path):
    folder = tmp_path / "folder [2]"
    folder.mkdir()
    (folder / "DATA.JSONL").write_text('{"text": "a"}\n')
    assert JsonLinesSource(chosen_data(str(folder)).settings["files"]).documents()
    (folder / "more.jsonl").write_text('{"text": "b"}\n')
    found = chosen_data(str(folder))
    assert found.why["files"] == "2 files"
    assert len(JsonLinesSource(found.settings["files"]).documents()) == 2


def test_a_glob_of_folders_only_is_told(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="matches no file"):
        chosen_data(str(tmp_path / "*.jsonl"))

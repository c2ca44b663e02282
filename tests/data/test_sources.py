import json
import sys
from pathlib import Path

import pytest

from evoprune.core.errors import DataError
from evoprune.core.registry import DATA
from evoprune.data.packages import PackagesSource, docstrings
from evoprune.data.sources import (
    DatasetsSource,
    JsonLinesSource,
    ListSource,
    TextSource,
)

LONG = "A sentence that explains what the module is for, at some length. " * 10


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path that must not be imported."""
    root = tmp_path / "site" / "toyshop"
    (root / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "alpha.py").write_text(f'# Licensed to you.\n# More.\n"""{LONG}"""\nx = 1\n')
    (root / "beta.py").write_text("y = 2\nz = 3\n")
    (root / "tests" / "test_alpha.py").write_text("assert True\n")
    (root / "guide.rst").write_text("The guide.\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root


def test_registry_knows_the_sources():
    assert {"packages", "text", "jsonl", "datasets", "list"} <= set(DATA.names())
    assert DATA.load("packages") is PackagesSource


def test_packages_are_read_in_key_order_without_import(package):
    source = PackagesSource(kinds={"code": ["toyshop/**/*.py", "!*/tests/*"]})
    found = source.documents()
    keys = [one.key for one in found]
    assert keys == ["toyshop/__init__.py", "toyshop/alpha.py", "toyshop/beta.py"]
    assert "toyshop" not in sys.modules
    assert found == source.documents()


def test_licence_header_is_left_out(package):
    (found,) = PackagesSource(kinds={"code": ["toyshop/alpha.py"]}).documents()
    assert found.text.startswith('"""A sentence')


def test_prose_takes_docstrings_of_some_length(package):
    source = PackagesSource(kinds={"docs": ["toyshop/*.rst"]}, prose={"docs": ["toyshop/*.py"]})
    found = {one.key: one for one in source.documents()}
    assert list(found) == ["toyshop/alpha.py#docstrings", "toyshop/guide.rst"]
    assert found["toyshop/alpha.py#docstrings"].text.strip() == LONG.strip()
    assert {one.kind for one in found.values()} == {"docs"}


def test_caps_limit_a_kind_and_a_document(package):
    patterns = {"code": ["toyshop/*.py"]}
    assert len(PackagesSource(patterns, max_documents_per_kind=2).documents()) == 2
    assert len(PackagesSource(patterns, max_chars_per_kind=1).documents()) == 1
    clipped = PackagesSource({"code": ["toyshop/beta.py"]}, max_chars=8).documents()
    assert [one.text for one in clipped] == ["y = 2\n"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nosuchpackage/*.py", "'nosuchpackage' is not installed"),
        ("*/core.py", r"'\*' is not installed"),
        ("toyshop/*.md", "matches no file"),
    ],
)
def test_missing_packages_and_files_are_refused(package, pattern, message):
    with pytest.raises(DataError, match=message):
        PackagesSource(kinds={"code": [pattern]}).documents()


def test_docstrings_leave_out_examples_and_code():
    source = (
        'def f():\n    """Adds.\n\n    >>> f()\n    3\n\n    Notes on it.\n    """\n    return 3\n'
    )
    assert docstrings(source) == "Adds.\n\nNotes on it."
    assert docstrings("def broken(:") == ""


def test_text_files_are_one_document_or_many(tmp_path):
    (tmp_path / "news.txt").write_text("one\n---\ntwo\n---\n  \n")
    whole = TextSource([str(tmp_path / "*.txt")]).documents()
    parts = TextSource([str(tmp_path / "*.txt")], separator="---\n").documents()
    assert [one.kind for one in whole] == ["news"]
    assert sorted(one.text for one in parts) == ["one\n", "two\n"]


def test_json_lines_take_the_named_fields(tmp_path):
    rows = [{"body": "b", "topic": "t", "id": 2}, {"body": "a", "topic": "u", "id": 1}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    named = JsonLinesSource([str(file)], "body", kind_field="topic", key_field="id").documents()
    plain = JsonLinesSource([str(file)], "body").documents()
    assert [(one.key, one.kind, one.text) for one in named] == [("1", "u", "a"), ("2", "t", "b")]
    assert sorted((one.kind, one.text) for one in plain) == [("rows", "a"), ("rows", "b")]


def write(folder, texts):
    """Writes some texts as a jsonl file and as a text file, both named ``corpus``."""
    folder.mkdir(parents=True)
    rows = [json.dumps({"text": text}) for text in texts]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (folder / "corpus.txt").write_text("\n---\n".join(texts))


SOURCES = {
    "jsonl": lambda folder: JsonLinesSource([str(folder / "corpus.jsonl")]),
    "parts": lambda folder: TextSource([str(folder / "corpus.txt")], separator="\n---\n"),
    "whole": lambda folder: TextSource([str(folder / "corpus.txt")]),
}


@pytest.mark.parametrize("source", SOURCES)
def test_moving_a_corpus_draws_no_split_anew(tmp_path, monkeypatch, source):
    write(tmp_path / "a" / "b", [f"text {i}" for i in range(30)])
    here = SOURCES[source](tmp_path / "a" / "b").documents()
    (tmp_path / "a").rename(tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    assert SOURCES[source](Path("c/b")).documents() == here


@pytest.mark.parametrize("source", ["jsonl", "parts"])
def test_documents_added_before_others_move_none(tmp_path, source):
    texts = [f"text {i}" for i in range(30)]
    write(tmp_path / "few", texts)
    write(tmp_path / "many", ["new", *texts[::-1]])
    few, many = (set(SOURCES[source](tmp_path / name).documents()) for name in ("few", "many"))
    assert few < many and len(many - few) == 1


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, ["shared", f"only {name}"])
    found = JsonLinesSource([str(tmp_path / "*" / "corpus.jsonl")]).documents()
    assert sorted(one.text for one in found) == ["only a", "only b", "shared"]
    whole = TextSource([str(tmp_path / "*" / "corpus.txt")]).documents()
    assert len({one.key for one in whole}) == 2


def test_a_hash_in_a_name_makes_no_common_origin(tmp_path):
    (tmp_path / "c#.txt").write_text("one---two")
    found = TextSource([str(tmp_path / "c#.txt")], separator="---").documents()
    assert len({one.origin for one in found}) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r"rows\.jsonl, line 2 is not JSON"),
        ("[1]", r"line 2 is not a JSON object"),
        ('{"txt": "a"}', r"line 2 has no field 'text'.*It has: txt"),
        ('{"text": 3}', r"line 2 is int"),
    ],
)
def test_malformed_json_lines_name_file_and_line(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        JsonLinesSource([str(file)]).documents()


def test_repeated_keys_are_refused():
    with pytest.raises(DataError, match="Two documents have the key 'a'"):
        ListSource([{"text": "x", "key": "a"}, {"text": "y", "key": "a"}]).documents()


def test_list_takes_strings_and_mappings():
    found = ListSource(["plain", {"text": "x", "kind": "k", "key": "a"}]).documents()
    assert [(one.key, one.kind) for one in found] == [("a", "k"), ("text:000000000", "text")]
    with pytest.raises(DataError, match="Entry 0 of the list is int"):
        ListSource([3]).documents()


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text_is_refused(texts):
    with pytest.raises(DataError, match="has no text"):
        ListSource(texts).documents()


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="matches no file"):
        TextSource([str(tmp_path / "*.txt")]).documents()


def test_a_file_that_exists_is_no_pattern(tmp_path):
    path = tmp_path / "notes [a].txt"
    path.write_text("some text")
    assert [one.text for one in TextSource([str(path)]).documents()] == ["some text"]


def test_datasets_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"evoprune\[datasets\]"):
        DatasetsSource("any").documents()


def test_datasets_rows_become_documents(monkeypatch):
    class Library:
        @staticmethod
        def load_dataset(name, config, split):
            return [{"text": f"{name} {split} {i}", "topic": i % 2} for i in range(5)]

    monkeypatch.setitem(sys.modules, "datasets", Library)
    found = DatasetsSource("news", kind_field="topic", limit=3).documents()
    assert [(one.kind, one.text) for one in found] == [
        ("0", "news train 0"),
        ("1", "news train 1"),
        ("0", "news train 2"),
    ]

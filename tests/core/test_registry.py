"""Registries: where parts come from, and that a search settles them."""

import pytest

from evoprune.core.errors import ConfigError
from evoprune.core.registry import OBJECTIVES, Registry, frozen, load_plugin
from evoprune.listing import listing


def test_nothing_new_is_registered_while_a_search_goes_on():
    parts = Registry("part", "evoprune.nothing", {"one": "json:dumps"})
    with frozen():
        parts.register("one", "json:dumps")  # again, as a worker of the same process does
        with pytest.raises(ConfigError, match="'two' is registered while a search is going on"):
            parts.register("two", "json:loads")
    parts.register("two", "json:loads")
    assert parts.names() == ["one", "two"]


def test_a_list_says_where_parts_come_from_that_do_not_ship(tmp_path):
    assert OBJECTIVES.origin("kl") == "evoprune"
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from evoprune.core.registry import OBJECTIVES\n"
        "@dataclass(frozen=True)\n"
        "class Own:\n"
        "    goal = 'min'\n"
        "OBJECTIVES.register('of_my_own', Own)\n"
    )
    load_plugin(plugin)
    try:
        header, rows = listing("objectives", None, ())
        assert header[-1] == "from"
        origins = {row[0]: row[-1] for row in rows}
        assert origins["of_my_own"] == str(plugin) and origins["kl"] == "evoprune"
    finally:
        del OBJECTIVES._entries["of_my_own"]

"""What `evoprune front` prints, to the letter."""

from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.front_table import front_table, has_intervals, pick_notes
from evoprune.folder.picks import UNKNOWN

GOALS = {"kl": "min", "params": "min"}


def point(name, kl, params, kept, rung):
    values = {"val_kl": kl, "val_quality_kept": kept, "params": params}
    for column, value in {"kl": kl, "quality_kept": kept}.items():
        values |= {f"report_{column}": value, f"report_{column}_low": value - 0.01}
        values |= {f"report_{column}_high": value + 0.01}
    return FrontPoint(name, None, values | {"report_perplexity": 10 + kl}, rung=rung)


def front(*points):
    dense = {"params": 10_000, "report_kl": 0.0, "report_quality_kept": 1.0}
    return Front(points, GOALS, dense | {"report_perplexity": 10.0}, {"val_kl": 4.0})


SMALL = point("aa12", 0.9, 4000, 0.81, "homogeneous")
LARGE = point("bb34", 0.1, 9000, 0.97, "heterogeneous")


def lines(*table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table]


def test_the_table_of_a_run():
    header, rows = front_table(front(SMALL, LARGE))
    assert lines(header, *rows) == [
        "id     quality kept        perplexity  kl                params         rung "
        "          pick",
        "dense  100.0%              10          0                 10,000 (100%)",
        "bb34   97.0% [96.0, 98.0]  10.1        0.1 [0.09, 0.11]  9,000 (90%)    heterogeneous"
        "  safe",
        "aa12   81.0% [80.0, 82.0]  10.9        0.9 [0.89, 0.91]  4,000 (40%)    homogeneous"
        "    balanced, small",
    ]
    assert pick_notes(front(SMALL, LARGE)) == []


def test_the_dense_point_of_a_front_is_not_told_twice():
    dense = point("dd78", 0.0, 10_000, 1.0, "homogeneous")
    assert [row[0] for row in front_table(front(dense, SMALL, LARGE))[1]] == [
        "dense",
        "bb34",
        "aa12",
    ]
    assert [row[0] for row in front_table(front(dense))[1]] == ["dense", "dd78"]  # it is every pick


def test_a_merged_front_names_the_run_of_each_point():
    header, rows = front_table(front(SMALL, LARGE), runs={"aa12": "seed-0", "bb34": "seed-1"})
    assert header[-1] == "run"
    assert [row[-1] for row in rows] == ["", "seed-1", "seed-0"]


def test_a_pick_that_nothing_deserves_is_marked_and_explained():
    _, rows = front_table(front(SMALL))
    assert rows[1][-1] == "safe?, balanced, small"
    assert pick_notes(front(SMALL)) == ["safe? No point keeps 95% of what the dense model knows."]


def test_one_size_column_stands_where_params_are_no_objective():
    goals = {"kl": "min", "sparsity": "max"}
    values = {"report_kl": 0.5, "val_kl": 0.5, "sparsity": 0.25, "params": 1234.0}
    made = Front((FrontPoint("cc56", None, values),), goals, {"params": 2468.0})
    header, rows = front_table(made)
    assert header == ["id", "kl", "sparsity", "params", "pick"]
    assert rows[1] == ["cc56", "0.5", "0.25", "1,234 (50%)", "safe?, balanced?, small?"]


def test_a_note_of_several_picks_is_told_once():
    old = Front((FrontPoint("cc56", None, {"val_kl": 0.5, "params": 1.0}),), GOALS)
    assert pick_notes(old) == [f"safe?, balanced?, small? {UNKNOWN}"]


def test_intervals_are_told_only_where_there_are_some():
    assert has_intervals(front(SMALL), "report")
    assert not has_intervals(front(SMALL), "search")

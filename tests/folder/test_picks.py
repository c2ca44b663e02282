"""Picks: what each rule chooses, what it says, and what it warns of."""

from dataclasses import replace

import pytest

from evoprune.core.errors import ConfigError
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.picks import check_picks

GOALS = {"kl": "min", "params": "min"}
# id, kl, params, quality kept, rung: the dense model, four cuts, and one that is no use.
ROWS = [
    ("aa", 0.0, 1000, 1.0, "homogeneous"),
    ("bb", 0.1, 900, 0.97, "heterogeneous"),
    ("cc", 0.2, 700, 0.955, "homogeneous"),
    ("dd", 0.5, 500, 0.88, "heterogeneous"),
    ("ee", 0.9, 480, 0.81, "homogeneous"),
    ("ff", 3.0, 100, 0.10, "heterogeneous"),
]


def front(rows=ROWS, quality=True, goals=GOALS):
    points = []
    for name, kl, params, kept, rung in rows:
        values = {"val_kl": kl, "val_perplexity": 10 + 20 * kl, "params": params}
        values |= {"val_quality_kept": kept} if quality else {}
        points.append(FrontPoint(name, None, values, rung=rung))
    dense = {"params": 1000, "val_kl": 0.0, "val_perplexity": 10.0, "val_quality_kept": 1.0}
    return Front(tuple(points), goals, dense, {"val_kl": 4.0} if quality else {})


@pytest.mark.parametrize(
    ("expression", "expected", "rule"),
    [
        ("safe", "cc", "fewest params of the 3 points that keep at least 95%; it keeps 95.5%"),
        ("small", "ee", "fewest params of the 5 points that keep at least 80%; it keeps 81.0%"),
        (
            "balanced",
            "dd",
            "knee of the 3 points that keep at least 80%, no more params than the cheapest that "
            "keeps 95%; it keeps 88.0%",
        ),
        ("best:kl", "aa", "best kl of the 6 points; it keeps 100.0%"),
        ("perplexity<=20", "dd", "fewest params of the 4 points; perplexity 20"),
        ("params<=70%", "cc", "best kl of the 4 points; it keeps 95.5%"),
        ("params<=70%,perplexity<=20", "dd", "fewest params of the 2 points; perplexity 20"),
        ("quality_kept>=90%", "cc", "fewest params of the 3 points"),
        ("rung=homogeneous", "cc", None),
        ("small,rung=heterogeneous", "dd", None),
        ("safe, params<=95%", "cc", None),
        ("ff", "ff", "by its id; it keeps 10.0%"),
    ],
)
def test_a_rule_and_its_words(expression, expected, rule):
    chosen = front().choose(expression)
    assert chosen.point.id == expected
    on = " on validation" if rule and ";" in rule else ""
    assert rule is None or chosen.rule == rule + on


def test_picks_never_grow_from_safe_to_small():
    flat = [("a", 0.0, 1000, 1.0, None), ("b", 0.01, 990, 0.99, None), ("c", 2.0, 985, 0.96, None)]
    picks = [front([*flat, *ROWS[3:]]).pick(name) for name in ("safe", "balanced", "small")]
    sizes = [point.values["params"] for point in picks]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("expression", ["ff", "params<=20%", "best:params", "knee,params<=20%"])
def test_whatever_chose_it_a_point_that_keeps_little_warns(expression):
    chosen = front().choose(expression)
    assert chosen.point.id == "ff"
    assert chosen.warning == "It keeps only 10% of what the dense model knows."


def test_the_dense_model_is_not_balanced_where_anything_is():
    rows = [ROWS[0], ("dd", 0.5, 810, 0.846, None), ("ff", 3.0, 550, 0.55, None)]
    assert front(rows).pick("balanced").id == "dd"
    assert front([ROWS[0], ROWS[-1]]).choose("balanced").warning.startswith("It removes nothing")


def test_a_pick_that_removes_nothing_warns():
    assert front().choose("best:kl").warning == "It removes nothing: it is the dense model."
    assert front().choose("safe").warning is None


@pytest.mark.parametrize(("low", "warns"), [(0.94, False), (0.9, True)])
def test_a_pick_that_may_keep_clearly_less_is_told(low, warns):
    points = [replace(p, values={**p.values, "val_quality_kept_low": low}) for p in front()]
    chosen = Front(tuple(points), GOALS, front().dense, front().zero).choose("safe")
    assert chosen.point.id == "cc"
    assert ("as little as 90%" in (chosen.warning or "")) is warns


@pytest.mark.parametrize("expression", ["safe", "balanced", "small"])
def test_where_nothing_keeps_enough_it_says_so(expression):
    chosen = front([*ROWS[-1:], ("gg", 2.0, 300, 0.5, None)]).choose(expression)
    assert chosen.point.id == "gg"
    assert "No point keeps" in chosen.warning


def test_the_knee_of_all_ends_its_box_at_the_zero():
    rows = [("good", 0.1, 600, 0.9, None), ("bad", 3.9, 100, 0.01, None)]
    broken = [*rows, ("broken", 27.0, 50, -5.0, None)]
    assert front(broken, quality=False).pick("knee").id == "bad"  # what a broken model stretches
    assert front(rows).pick("knee").id == "good"


def test_an_old_run_has_no_quality_and_says_so():
    for expression in ("safe", "balanced", "small"):
        chosen = front(quality=False).choose(expression)
        assert chosen.point.id == front(quality=False).pick("knee").id
        assert "has no scale" in chosen.warning


def test_cheapest_goes_by_the_first_objective_that_is_a_cost():
    goals = {"kl": "min", "sparsity": "max"}
    points = [
        FrontPoint(name, None, {"val_kl": kl, "sparsity": s, "params": p, "val_quality_kept": 0.9})
        for name, kl, s, p in [("a", 0.1, 0.2, 10), ("b", 0.2, 0.4, 20)]
    ]
    chosen = Front(tuple(points), goals).choose("small")
    assert (chosen.point.id, chosen.rule.split(" of ")[0]) == ("b", "most sparsity")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("safe,small", "names more than one rule: safe, small"),
        ("rung=homogenous", "rung 'homogenous'.*Did you mean 'homogeneous'"),
        ("saef", "Did you mean 'safe'"),
        ("ff,params<=5%", "meets 'params<=5%'"),
        ("aa,params<=50%", "'aa' does not meet what stands beside it"),
    ],
)
def test_what_cannot_be_meant_is_said(expression, message):
    with pytest.raises(ConfigError, match=message):
        front().choose(expression)


def test_picks_are_checked_before_there_is_a_front():
    check_picks(["safe", "params<=60%", "best:kl", "rung=homogeneous", "ab12"], ["kl"])
    for text, message in {
        "balnced": "Did you mean 'balanced'",
        "best:kll": "Did you mean 'kl'",
        "params<=": "cannot be read",
        "ab1": "'ab1' is no pick",
        "": "'' is no pick",
    }.items():
        with pytest.raises(ConfigError, match=message):
            check_picks([text], ["kl"])


def test_a_bound_on_quality_says_what_it_was_held_against():
    assert front().choose("kl<=0.3").rule == "fewest params of the 3 points; kl 0.2 on validation"
    scored = front()
    points = tuple(replace(p, values={**p.values, "report_kl": 0.25}) for p in scored)
    rule = replace(scored, points=points).choose("kl<=0.3").rule
    assert rule.endswith("; kl 0.2 on validation, 0.25 on report")


def test_two_bounds_without_a_comma_are_told_where_it_belongs():
    with pytest.raises(ConfigError, match=r"holds more than one bound\. Put a comma between them"):
        front().choose("params<=60% kl<=0.3")


def test_a_bound_out_of_reach_is_told_as_it_was_typed():
    with pytest.raises(ConfigError, match=r"nearest params is \d+\.\d%: loosen the limit\."):
        front().choose("params<=1%")

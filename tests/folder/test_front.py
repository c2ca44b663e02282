"""The front against brute force, its files, and its picks."""

import builtins
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evoprune.core import pareto
from evoprune.core.errors import ConfigError, EvopruneError, NoSuchPointError, RunFolderError
from evoprune.core.pareto import correlations, hypervolume, knee, nondominated, oriented
from evoprune.folder.front import Front, FrontPoint, super_front

VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, math.nan, math.inf, -math.inf])
GRID = st.integers(1, 3).flatmap(
    lambda m: arrays(float, st.tuples(st.integers(0, 12), st.just(m)), elements=VALUES)
)
UNIT = arrays(float, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(-0.5, 1.5))


def dominates(a, b):
    return all(a <= b) and any(a < b)


def brute_force(F):
    finite = [bool(np.isfinite(row).all()) for row in F]
    rows = list(zip(F, finite, strict=True))
    return [
        ok and not any(fine and dominates(other, row) for other, fine in rows) for row, ok in rows
    ]


@given(GRID)
def test_nondominated_equals_brute_force(F):
    assert nondominated(F).tolist() == brute_force(F)


@given(GRID, st.randoms())
def test_nondominated_ignores_the_order_of_rows(F, random):
    order = random.sample(range(len(F)), len(F))
    assert nondominated(F[order]).tolist() == nondominated(F)[order].tolist()


@given(GRID)
def test_nondominated_is_idempotent(F):
    assert nondominated(F[nondominated(F)]).all()


def test_nondominated_across_blocks(monkeypatch):
    F = np.random.default_rng(0).integers(0, 6, (200, 3)).astype(float)
    monkeypatch.setattr(pareto, "_BLOCK", 7)
    assert nondominated(F).tolist() == brute_force(F)


def test_nondominated_of_twenty_thousand_rows_on_a_sphere():
    F = -np.abs(np.random.default_rng(0).normal(size=(20_000, 3)))
    F /= np.linalg.norm(F, axis=1, keepdims=True)
    assert nondominated(F).mean() > 0.999


def test_oriented_flips_max_and_checks_the_goals():
    assert oriented([[1.0, 2.0]], ["min", "max"]).tolist() == [[1.0, -2.0]]
    with pytest.raises(ValueError, match="one goal a column"):
        oriented([[1.0, 2.0]], ["min"])
    with pytest.raises(ValueError, match="one goal a column"):
        oriented([[1.0]], ["least"])


def area(F):
    """Returns the area of the unit square that the rows dominate, step by step along x."""
    F = np.clip(F, 0, None)
    xs = sorted({0.0, 1.0, *(x for x in F[:, 0] if x < 1)})
    heights = [max([1 - y for x, y in F if x <= left and y < 1], default=0.0) for left in xs]
    return sum((b - a) * h for (a, b), h in zip(itertools.pairwise(xs), heights, strict=False))


@given(UNIT)
def test_hypervolume_equals_the_area_in_two_dimensions(F):
    assert hypervolume(F, [1, 1], [0, 0]) == pytest.approx(area(F), abs=1e-12)


@given(UNIT, UNIT)
def test_hypervolume_never_falls_when_points_are_added(F, more):
    both = hypervolume(np.concatenate([F, more]), [1, 1], [0, 0])
    assert 0 <= hypervolume(F, [1, 1], [0, 0]) <= both + 1e-12 <= 1 + 2e-12


def test_hypervolume_does_not_depend_on_units_and_ignores_what_is_not_finite():
    F = np.array([[0.2, 0.7], [0.5, 0.1], [math.nan, 0.0], [-math.inf, 0.0]])
    scale, shift = np.array([1000.0, 0.01]), np.array([-5.0, 7.0])
    expected = hypervolume(F[:2], [1, 1], [0, 0])
    assert hypervolume(F * scale + shift, scale + shift, shift) == pytest.approx(expected)
    with pytest.raises(ValueError, match="above the ideal"):
        hypervolume(F, [0, 1], [0, 0])


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leaves", 0.850),
        ("rps", 0.866),
        ("pinturas", 0.927),
        ("ojos", 0.626),
        ("plantas", 0.334),
        ("srsmas", 0.838),
    ],
)
def test_hypervolume_of_the_published_fronts(assets_dir, name, expected):
    published = np.loadtxt(assets_dir / "moevoprune_fronts" / f"super_pareto_{name}.txt")
    F = np.array([1.0, 0.0, 1.0]) + oriented(published, ["max", "min", "max"])
    assert nondominated(F).all()
    assert round(hypervolume(F, [1, 1, 1], [0, 0, 0]), 3) == expected


def test_knee_is_the_point_nearest_the_ideal_corner():
    F = [[0.0, 100.0], [0.3, 20.0], [1.0, 0.0]]
    assert knee(F) == 1
    assert knee(F, ideal=[0, 0], nadir=[0.1, 1000]) == 0
    assert knee([[math.nan, 0.0], *F]) == 2


def test_knee_takes_the_first_of_equals_and_ignores_flat_columns():
    assert knee([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0]]) == 0
    assert knee([[2.0, 2.0], [2.0, 2.0]]) == 0
    with pytest.raises(ValueError, match="no finite row"):
        knee([[math.nan]])


def test_correlations_names_every_pair():
    found = correlations([[1, 3, 1], [2, 2, 1], [3, 1, 1]], ["a", "b", "c"])
    assert found["a", "b"] == -1.0
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert math.isnan(found["a", "c"])


def point(name, accuracy, params, **more):
    values = {"search_token_accuracy": accuracy + 0.01, "val_token_accuracy": accuracy}
    return FrontPoint(name, {"genes": [1, 2], "note": "nan"}, {**values, "params": params, **more})


@pytest.fixture
def front():
    points = (
        point("ab12", 0.40, 1000, report_token_accuracy=0.1 + 0.2),
        point("ab34", 0.35, 600),
        point("cd56", 0.20, 300, val_kl=math.inf),
        FrontPoint("ef78", None, {"params": 500, "val_token_accuracy": 0.1}, "uniform"),
    )
    return Front(points, {"token_accuracy": "max", "params": "min"}, {"params": 1000})


def test_front_is_a_sequence_of_points(front):
    assert len(front) == 4
    assert [p.id for p in front] == ["ab12", "ab34", "cd56", "ef78"]
    assert front["cd56"] is front[2]
    with pytest.raises(NoSuchPointError):
        front["gh"]
    assert front["cd"] is front["cd56"], "the beginning of one id is enough, as for pick"
    with pytest.raises(ValueError, match="same id"):
        Front((front[0], front[0]), {})


def test_array_takes_a_split_or_the_plain_column(front):
    assert front.array("val").tolist() == [[0.40, 1000], [0.35, 600], [0.20, 300], [0.1, 500]]
    assert math.isnan(front.array("search")[3, 0])
    with pytest.raises(ConfigError, match="no column 'train_token_accuracy'"):
        front.array("train")
    assert Front((), front.goals).array().shape == (0, 2)


def test_csv_has_a_fixed_form(front, tmp_path):
    front.to_csv(tmp_path / "front.csv")
    lines = (tmp_path / "front.csv").read_bytes().decode().split("\n")
    assert lines[0] == (
        "id,origin,rung,search_token_accuracy,val_token_accuracy,params,report_token_accuracy,val_kl"
    )
    assert lines[1] == "ab12,search,,0.41000000000000003,0.4,1000,0.30000000000000004,"
    assert lines[3].endswith(",300,,inf")
    assert lines[4:] == ["ef78,uniform,,,0.1,500,,", ""]


def test_csv_writes_numpy_numbers_like_plain_ones(tmp_path):
    values = {"a": np.float64(0.1), "b": np.int64(3)}
    Front((FrontPoint("x", None, values),), {}).to_csv(tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text() == "id,origin,rung,a,b\nx,search,,0.1,3\n"


def test_json_returns_the_same_front_and_the_same_bytes(front, tmp_path):
    front.to_json(tmp_path / "a.json")
    again = Front.from_json(tmp_path / "a.json")
    again.to_json(tmp_path / "b.json")
    assert again == front
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_front_of_the_first_version_loads(tmp_path):
    point = {"id": "ab12", "origin": "search", "pattern": [0, 1], "values": {"params": 7}}
    old = {"version": 1, "goals": {"params": "min"}, "dense": {"params": 9}, "points": [point]}
    (tmp_path / "front.json").write_text(json.dumps(old))
    front = Front.from_json(tmp_path / "front.json")
    assert (front[0].values, front[0].rung, front.zero) == ({"params": 7}, None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 1, "goals": {}}', "damaged"),
        ('{"version": 99}', "version 99"),
    ],
)
def test_from_json_refuses_what_is_no_front(tmp_path, text, message):
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        Front.from_json(tmp_path / "front.json")


def test_files_that_cannot_be_read_or_written_are_named(front, tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        Front.from_json(tmp_path / "none.json")
    with pytest.raises(RunFolderError, match=r"front\.csv' cannot be written"):
        front.to_csv(tmp_path / "none" / "front.csv")


def test_frame_has_the_columns_of_the_csv(front):
    pytest.importorskip("pandas")
    frame = front.to_frame()
    assert list(frame.columns[:4]) == ["id", "origin", "rung", "search_token_accuracy"]
    assert frame["params"].tolist() == [1000, 600, 300, 500]


def test_frame_without_pandas_names_the_extra(front, monkeypatch):
    real = builtins.__import__

    def without_pandas(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(EvopruneError, match=r"evoprune\[frames\]"):
        front.to_frame()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("knee", "ab34"),
        ("ab34", "ab34"),
        (" c ", "cd56"),
        ("best:token_accuracy", "ab12"),
        ("best:params", "cd56"),
        ("params<=60%", "ab34"),
        ("params<60%", "cd56"),
        ("params <= 60 %", "ab34"),
        ("params>=300,token_accuracy<0.3", "cd56"),
        ("val_token_accuracy>0.36", "ab12"),
        ("search_token_accuracy<=0.3", "cd56"),
    ],
)
def test_pick(front, expression, expected):
    assert front.pick(expression).id == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ab", r"begins 2 ids: ab12, ab34"),
        ("kneee", r"Did you mean 'knee'"),
        ("", r"is no point"),
        ("best:tokenaccuracy", r"Did you mean 'token_accuracy'"),
        ("parms<=60%", r"no values named 'parms'.*Did you mean 'params'"),
        ("params<=20%", r"meets 'params<=20%'.*nearest params is 30\.0%: loosen the limit"),
        ("params<=600,token_accuracy>=0.4", r"meets 'token_accuracy>=0\.4'.*0\.35"),
        ("token_accuracy>=90%", r"dense 'token_accuracy' means nothing: that is not known"),
        ("params=600", r"The constraint 'params=600' cannot be read"),
        ("params<=many", r"The constraint 'params<=many' cannot be read"),
        ("params<=600,", r"The constraint '' cannot be read"),
        ("kl<=1", r"No point left has a finite 'val_kl'"),
    ],
)
def test_pick_explains_what_it_cannot_do(front, expression, message):
    with pytest.raises(ConfigError, match=message):
        front.pick(expression)


def test_pick_refuses_a_percentage_of_a_dense_zero():
    point = FrontPoint("x", None, {"sparsity": 0.5})
    with pytest.raises(ConfigError, match="that is 0"):
        Front((point,), {"sparsity": "max"}, {"sparsity": 0.0}).pick("sparsity>=50%")


def test_pick_from_nothing_and_from_nothing_finite(front):
    with pytest.raises(ConfigError, match="front is empty"):
        Front((), front.goals).pick("knee")
    broken = Front((FrontPoint("x", None, {"params": math.nan}),), {"params": "min"})
    for expression in ("knee", "best:params"):
        with pytest.raises(ConfigError, match="finite"):
            broken.pick(expression)


def test_pick_breaks_ties_by_the_other_objectives():
    points = (point("large", 0.4, 900), point("small", 0.4, 800), point("same", 0.4, 800))
    front = Front(points, {"token_accuracy": "max", "params": "min"})
    assert front.pick("best:token_accuracy").id == "small"


def test_super_front_merges_filters_and_removes_repeated_ids(front):
    other = Front((point("ab12", 0.9, 1), point("gh90", 0.36, 550)), front.goals)
    merged = super_front([front, other])
    assert [p.id for p in merged] == ["ab12", "cd56", "gh90"]
    assert merged["ab12"] is front["ab12"]
    assert merged.dense == {"params": 1000}


def test_super_front_refuses_other_objectives(front):
    with pytest.raises(ConfigError, match="different objectives"):
        super_front([front, Front((), {"params": "min"})])
    with pytest.raises(ValueError, match="no front"):
        super_front([])


def test_one_id_of_two_spaces_is_two_points():
    from evoprune.folder.front import told_apart

    def front(params):
        point = FrontPoint("aa", [1], {"params": params, "val_kl": 0.1})
        return Front((point,), {"kl": "min", "params": "min"})

    same = told_apart([front(10.0), front(10.0)], ["one", "two"])
    assert [[point.id for point in one] for one in same] == [["aa"], ["aa"]]
    apart = told_apart([front(10.0), front(12.0)], ["one", "two"])
    assert [[point.id for point in one] for one in apart] == [["one/aa"], ["two/aa"]]

"""Influences and similarities of blocks: by hand, by formula, and once in a run."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.errors import ModelError, RunFolderError, SpaceError
from evoprune.core.protocols import NO_HINTS
from evoprune.core.space import Site
from evoprune.data.examples import Examples, Pass
from evoprune.evaluation import blocks
from evoprune.evaluation.blocks import measured, parts_of
from evoprune.families.load import family_of, load_model
from evoprune.folder.journal import read_journal
from evoprune.listing import listing
from evoprune.planning.plan import plan
from evoprune.progress.console import Console
from evoprune.session import open_session

SITES = [Site("a", "block"), Site("a.x", "part", parent="a"), Site("a.y", "part", parent="a")]
SITES += [Site("a.x.units", "units", 4, "a.x"), Site("b", "block")]


@dataclass(frozen=True)
class State:
    hidden: torch.Tensor


class Stages:
    """A token is a vector in the plane; x turns it by 60°, y makes it longer, b turns it by 90°."""

    n_blocks = 2
    inputs = ("tokens",)

    def positions(self, arrays):
        return arrays["tokens"].shape[1]

    def begin(self, batch):
        angle = batch["tokens"].double()
        return State(torch.stack([angle.cos(), angle.sin()], dim=-1))

    def block(self, index, state, dropped):
        hidden = state.hidden
        if index == 0:
            hidden = self.turned(hidden, torch.pi / 3) if "a.x" not in dropped else hidden
            return State(hidden * 5 if "a.y" not in dropped else hidden)
        return State(self.turned(hidden, torch.pi / 2))

    @staticmethod
    def turned(hidden, angle):
        turn = torch.tensor(angle, dtype=torch.float64)
        matrix = torch.stack([torch.stack([turn.cos(), turn.sin()])])
        matrix = torch.cat([matrix, torch.stack([torch.stack([-turn.sin(), turn.cos()])])])
        return hidden @ matrix


def examples(tokens, lengths):
    arrays = {"tokens": np.asarray(tokens), "lengths": np.asarray(lengths)}
    groups = np.zeros(len(lengths), dtype=np.int64)
    return Examples({"clean": Pass(arrays, groups, arrays["lengths"])})


def cka(X, Y):
    """Returns the linear CKA of two sets of rows, by its definition (Kornblith et al., 2019)."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    scale = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return np.linalg.norm(Y.T @ X) ** 2 / scale


def test_influences_by_hand():
    hints = measured(Stages(), SITES, examples([[0, 1, 2, 3], [2, 2, 5, 0]], [4, 3]), "cpu")
    assert hints.parts == ("a.x", "a.y", "b")
    assert hints.influence["a.x"] == pytest.approx(0.5)
    assert hints.influence["a.y"] == pytest.approx(0.0, abs=1e-12)
    assert hints.influence["a"] == pytest.approx(0.5)
    assert hints.influence["b"] == pytest.approx(1.0)
    # CKA does not see turns and lengths.
    assert hints.similarity == pytest.approx(np.ones((3, 3)))


def test_padding_counts_nowhere():
    found = [
        measured(Stages(), SITES, examples([[0, 1, 2, pad]], [3]), "cpu").influence
        for pad in (0, 9)
    ]
    assert found[0] == found[1]


def test_a_single_position_has_nothing_to_compare():
    hints = measured(Stages(), SITES, examples([[0, 1, 2], [1, 0, 0]], [3, 1]), "cpu")
    assert hints.similarity == pytest.approx(np.ones((3, 3)))
    alone = measured(Stages(), SITES, examples([[1]], [1]), "cpu")
    assert not alone.similarity.any()


@pytest.mark.parametrize("positions", [256, 5])
def test_of_a_decoder_they_are_those_of_its_own_hidden_states(tiny_llama, positions, monkeypatch):
    monkeypatch.setattr(blocks, "CKA_POSITIONS", positions)
    model = load_model(str(tiny_llama), dtype="float64")
    family, rng = family_of(model), np.random.default_rng(0)
    tokens, lengths = rng.integers(0, 40, (6, 16)), np.array([16, 9, 12, 2, 16, 5])
    hints = measured(family.stages(model), family.sites(model), examples(tokens, lengths), "cpu")
    norm, model.model.norm = model.model.norm, torch.nn.Identity()  # the last state is normed
    with torch.inference_mode():
        states = model(torch.from_numpy(tokens), output_hidden_states=True).hidden_states
    model.model.norm = norm
    states = [state.numpy() for state in states]
    real = np.arange(16)[None, :] < lengths[:, None]
    for i, (before, after) in enumerate(pairwise(states)):
        a, b = before[real], after[real]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert hints.influence[f"layers.{i}"] == pytest.approx(1 - cosine.mean(), abs=1e-9)
    found = []
    for e, n in enumerate(lengths):
        at = np.unique(np.linspace(0, n - 1, min(n, positions)).round().astype(int))
        some = [state[e][at] for state in states[1:]]
        found.append([[cka(x, y) for y in some] for x in some])
    assert hints.similarity[1::2, 1::2] == pytest.approx(np.mean(found, axis=0), abs=1e-9)


def test_blocks_that_cannot_be_told_are_refused():
    with pytest.raises(ModelError, match="3 blocks and 2 sites that lie in no other"):
        parts_of(SITES, 3)

    class Hidden(Stages):
        def begin(self, batch):
            return object()

    with pytest.raises(ModelError, match="A object between two blocks has no `hidden`"):
        measured(Hidden(), SITES, examples([[0, 1]], [2]), "cpu")

    class Broken(Stages):
        def begin(self, batch):
            return State(super().begin(batch).hidden * float("nan"))

    with pytest.raises(ModelError, match="are not finite"):
        measured(Broken(), SITES, examples([[0, 1]], [2]), "cpu")


ALL = ["dense", "greedy", "block_influence", "adapt_pruner", "cka", "additive"]


def test_a_run_measures_its_blocks_once_and_resumes_to_the_same_bytes(tiny_config, monkeypatch):
    search = {"algorithm": {"type": "nsga2", "pop_size": 4}, "n_eval": 48, "warm_starts": ALL}
    settings = tiny_config(space="decoder/subblocks", search=search, controls=["cka", "additive"])
    run = evoprune.search(settings, quiet=True)
    before = run.folder.front_csv.read_bytes(), read_journal(run.folder.journal)[1]
    hints = (run.folder.ranks / "hints.safetensors").read_bytes()
    log = run.folder.log.read_text()
    assert "start     greedy: 9 evaluations" in log and "start     additive: 0 evaluations" in log

    monkeypatch.setattr(blocks, "measured", None)
    monkeypatch.setattr("evoprune.session.evaluator_for", None)
    again = evoprune.search(settings, quiet=True)

    assert again.folder.front_csv.read_bytes() == before[0]
    kept = [r for r in read_journal(run.folder.journal)[1] if r["type"] == "evaluation"]
    assert kept == [r for r in before[1] if r["type"] == "evaluation"]
    assert (run.folder.ranks / "hints.safetensors").read_bytes() == hints
    assert {p.stem for p in run.folder.controls.glob("*.csv")} == {"cka", "additive"}


def test_the_criterion_scores_units_that_have_a_bit_each(tiny_config):
    space = {"family": "decoder", "genes": [{"kind": "channels", "bits": True}]}
    search = {"algorithm": "block_influence", "n_eval": 6}
    session = open_session(
        load_config(tiny_config(space=space, search=search)), Console(stream=None)
    )
    session.close()
    problem = session.problem
    assert set(problem.hints.scores) == {f"layers.{i}.mlp.channels" for i in range(4)}
    X = session.algorithm.begin(problem, problem.space.corners[:0], 0).ask()
    assert (problem.space.canonical(X) == X).all() and X.any()


def test_a_damaged_file_is_told(tiny_config):
    settings = load_config(tiny_config(controls=["cka"]))
    session = open_session(settings, Console(stream=None))
    session.close()
    (session.folder.ranks / "hints.safetensors").write_bytes(b"no")
    with pytest.raises(RunFolderError, match=r"hints.safetensors' cannot be read: .*Delete it"):
        open_session(settings, Console(stream=None))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"search.warm_starts": ["dense", "cka"]}, "warm start 'cka'"),
        ({"controls": ["block_influence"]}, "control 'block_influence'"),
        ({"search.algorithm": "adapt_pruner"}, "algorithm 'adapt_pruner'"),
    ],
)
def test_heads_have_no_block_states(tmp_path, changes, what):
    config = load_config(
        "experiments/quickstart_vision/config.yaml", {**changes, "output": str(tmp_path / "run")}
    )
    with pytest.raises(SpaceError) as error:
        open_session(config, Console(stream=None))
    assert str(error.value) == (
        f"The {what} goes by the states between blocks, and networks of the family 'sparse_head' "
        "have none. Use rules that do not: uniform, last_k, greedy or additive."
    )
    assert not (tmp_path / "run").exists()  # before anything was prepared


def test_a_space_that_is_listed_needs_no_warm_start(tiny_config):
    search = {"n_eval": 16, "warm_starts": ["greedy"]}  # a quarter of it would not do
    run = evoprune.search(tiny_config(search=search, controls=["random", "cka"]), quiet=True)
    log = run.folder.log.read_text()
    assert "exhaustive: n_eval=16 covers every candidate" in log and "start     greedy" not in log


def test_what_a_rule_cannot_do_is_said_before_the_search(tiny_config, monkeypatch):
    monkeypatch.setattr("evoprune.session.hints_of", lambda *arguments: NO_HINTS)
    settings = load_config(tiny_config(controls=["adapt_pruner"]))
    with pytest.raises(SpaceError, match="'decoder/depth' has no measured blocks"):
        open_session(settings, Console(stream=None))


def test_plan_and_ls_know_them(tiny_config, tmp_path):
    import yaml

    file = tmp_path / "mine.yaml"
    search = {"n_eval": 64, "warm_starts": ["dense", "greedy", "additive", "cka"]}
    file.write_text(yaml.safe_dump(tiny_config(search=search)))
    rows = dict(plan(file))
    assert rows["warm starts"] == (
        "at most greedy 11, additive 5 evaluations, counted with the search's"
    )
    header, rows = listing("starts", None, ())
    assert header == ["name", "what"] and {row[0] for row in rows} >= set(ALL)
    assert all(row[1] for row in rows)

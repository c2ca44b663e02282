"""The module of an ensemble: one base in memory, joint answers, a cache for each member."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from evoprune.core.errors import ExportError, ModelError
from evoprune.core.pattern import Pattern
from evoprune.ensemble.combine import combine
from evoprune.ensemble.ensemble import ensemble
from evoprune.ensemble.members import Recipe
from evoprune.ensemble.module import Sampling, load_ensemble
from evoprune.ensemble.routed import nearest, read_centroids
from evoprune.ensemble.store import save_ensemble
from evoprune.families.stages import forward
from evoprune.loading import load

THREE = Recipe(least=3, size=3, budget=None)


def made(run, recipe=THREE, name="module"):
    found = ensemble(run.worker, run.front, recipe, name)
    return found, run.worker.folder / "ensembles" / name


def drawn(rows=3, width=12):
    return torch.randint(1, 257, (rows, width), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def language(tiny_language_run):
    return made(tiny_language_run)


def member_logits(run, found, tokens):
    logits = []
    for member in found.members:
        options = run.worker.space.options(Pattern.from_json(member.pattern))
        with run.worker.runner.realiser.apply(options) as realised:
            features = forward(run.worker.runner.stages, {"tokens": tokens}, realised.dropped)
            logits.append(run.worker.runner.stages.logits(features).numpy())
    return np.stack(logits)


@pytest.mark.parametrize("rule", ["probability", "logit", "vote"])
def test_answers_are_the_combined_ones_of_the_members(rule, tiny_language_run):
    recipe = Recipe(combine=rule, least=3, size=3, budget=None)
    found, folder = made(tiny_language_run, recipe, rule)
    tokens, weights = drawn(), [member.weight for member in found.members]
    logits = member_logits(tiny_language_run, found, tokens)
    expected = combine(logits.reshape(len(weights), -1, logits.shape[-1]), rule, weights)
    answer = load_ensemble(folder)(tokens).logits
    np.testing.assert_allclose(answer.flatten(0, 1).numpy(), expected, atol=1e-4)


def test_members_hold_views_of_one_base(language):
    module = load_ensemble(language[1])
    base = {p.untyped_storage().data_ptr() for p in module.base.parameters()}
    for member in module.members:
        assert {p.untyped_storage().data_ptr() for p in member.parameters()} <= base


@pytest.mark.parametrize("step", [1, 3])
def test_with_a_cache_the_answers_are_the_same(step, language):
    module, tokens = load_ensemble(language[1]), drawn()
    whole = module(tokens).logits
    first = module(tokens[:, :6])
    parts, caches = [first.logits], first.past_key_values
    for start in range(6, 12, step):
        out = module(tokens[:, start : start + step], caches=caches)
        parts.append(out.logits)
        caches = out.past_key_values
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampling", [None, Sampling(0.8, 20, 3), Sampling(1.0)])
def test_generating_with_a_cache_equals_generating_without(sampling, language):
    module, tokens = load_ensemble(language[1]), drawn(1)
    found = module.generate(tokens, max_new_tokens=8, sampling=sampling)
    generator = torch.Generator().manual_seed(sampling.seed if sampling else 0)
    from evoprune.ensemble.module import _drawn

    for _ in range(found.shape[1] - tokens.shape[1]):
        logp = module(tokens).logits[:, -1]
        token = _drawn(logp, sampling or Sampling(), generator)
        tokens = torch.cat([tokens, token[:, None]], dim=1)
    assert torch.equal(tokens, found)


def test_padding_at_the_left_changes_nothing(language):
    module, tokens = load_ensemble(language[1]), drawn(2, 10)
    padded = tokens.clone()
    padded[1, :4] = 0
    mask = torch.ones_like(padded)
    mask[1, :4] = 0
    found = module.generate(padded, mask, max_new_tokens=6)
    alone = module.generate(tokens[1:, 4:], max_new_tokens=6)
    assert torch.equal(found[1, 10 : 10 + alone.shape[1] - 6], alone[0, 6:])


def test_text_ends_where_the_end_token_is_drawn(language):
    module, tokens = load_ensemble(language[1]), drawn(1)
    ended = int(module(tokens).logits[0, -1].argmax())
    module.config.eos_token_id = ended
    assert module.generate(tokens, max_new_tokens=5).tolist() == [[*tokens[0].tolist(), ended]]


def centroids_of(run):
    """Returns where a run keeps the centroids of its clusters."""
    return run.worker.folder / "calibration" / "centroids.safetensors"


def test_routed_inputs_go_to_the_member_of_their_cluster(tiny_language_run, tmp_path):
    found, folder = made(tiny_language_run, Recipe("routed", budget=None), "routed")
    path = centroids_of(tiny_language_run)
    path.rename(tmp_path / "aside")
    try:
        module, tokens = load_ensemble(folder), drawn(4)
    finally:
        (tmp_path / "aside").rename(path)
    who = {c: i for i, member in enumerate(found.members) for c in member.clusters}
    answer = module(tokens, clusters=[0, 1, 2, 0]).logits
    for row, cluster in enumerate([0, 1, 2, 0]):
        alone = module.members[who[cluster]](tokens[row : row + 1]).logits.log_softmax(-1)
        torch.testing.assert_close(answer[row : row + 1], alone, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="no centroids"):
        module(tokens)


def test_routed_inputs_are_looked_up_by_the_centroids(tiny_language_run):
    run = tiny_language_run
    _, folder = made(run, Recipe("routed", budget=None), "looked-up")
    module, clean = load_ensemble(folder), run.worker.examples("validation").clean
    row = int(np.argmax(clean.arrays["lengths"] == 32))
    tokens = torch.from_numpy(clean.arrays["tokens"][row : row + 1])
    embedding = run.worker.runner.embedding(clean)[row : row + 1]
    cluster = nearest(embedding, read_centroids(centroids_of(run)))
    assert cluster == clean.groups[row]
    assert torch.equal(module(tokens).logits, module(tokens, clusters=cluster).logits)
    assert module.generate(tokens, max_new_tokens=3).shape[1] <= 35


def test_a_saved_ensemble_needs_its_run_no_more(language, tiny_language_run, tmp_path):
    found, folder = language
    saved = save_ensemble(found, tiny_language_run.worker.folder, tmp_path / "saved", None)
    held = {"base.safetensors", "config.json", "ensemble.json", "centroids.safetensors"}
    assert {path.name for path in saved.iterdir()} == held
    assert torch.equal(load_ensemble(saved)(drawn()).logits, load_ensemble(folder)(drawn()).logits)
    save_ensemble(found, tiny_language_run.worker.folder, saved, None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ExportError, match="something else"):
        save_ensemble(found, tiny_language_run.worker.folder, tmp_path / "other", None)
    with pytest.raises(ExportError, match="something else"):
        file = tmp_path / "other" / "thesis.tex"
        save_ensemble(found, tiny_language_run.worker.folder, file, None)


def test_another_base_is_refused(language, tiny_language_run, tmp_path):
    saved = save_ensemble(language[0], tiny_language_run.worker.folder, tmp_path / "saved", None)
    with (saved / "base.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="not the base"):
        load_ensemble(saved)


@pytest.mark.parametrize("method", ["greedy", "routed"])
def test_heads_answer_as_they_were_scored(method, tiny_digits_run, tmp_path):
    run = tiny_digits_run
    recipe = THREE if method == "greedy" else Recipe("routed", budget=None)
    found, _ = made(run, recipe, method)
    saved = save_ensemble(found, run.worker.folder, tmp_path / "saved", None)
    clean = run.worker.examples("report").clean
    clusters = clean.groups if method == "routed" else None
    logp = load_ensemble(saved)(torch.from_numpy(clean.arrays["features"]), clusters)
    held = {"ensemble.json", "members.safetensors", "centroids.safetensors"}
    assert {path.name for path in saved.iterdir()} == held
    nll = -logp[torch.arange(len(clean)), torch.from_numpy(clean.arrays["labels"])].mean()
    row = next(r for r in found.rows if (r["name"], r["metric"]) == ("ensemble", "nll"))
    assert float(nll) == pytest.approx(row["value"], abs=1e-5)


def test_a_dtype_is_not_asked_of_an_ensemble(language):
    with pytest.raises(ModelError, match="dtype of its base"):
        load(language[1], "bfloat16")


@pytest.mark.parametrize("file", ["members.safetensors", "centroids.safetensors"])
def test_damaged_files_of_heads_are_refused(file, tiny_digits_run, tmp_path):
    run = tiny_digits_run
    found, _ = made(run, Recipe("routed", budget=None), "damaged")
    saved = save_ensemble(found, run.worker.folder, tmp_path / "saved", None)
    for content in (b"", (saved / "ensemble.json").read_bytes(), save({"other": torch.ones(2)})):
        (saved / file).write_bytes(content)
        with pytest.raises(ModelError, match=file):
            load_ensemble(saved)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [([0, 9], "cluster 9"), ([0, -1], "cluster -1"), ([0], "2 inputs"), ([[0], [1]], "2 inputs")],
)
def test_clusters_must_be_known_and_one_an_input(clusters, message, tiny_digits_run):
    run = tiny_digits_run
    module = load_ensemble(made(run, Recipe("routed", budget=None), "told")[1])
    features = torch.from_numpy(run.worker.examples("report").clean.arrays["features"][:2])
    with pytest.raises(ModelError, match=message):
        module(features, clusters)

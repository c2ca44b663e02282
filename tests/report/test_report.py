"""The page about a run: self-contained, safe, and there however far the run came."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from run_folders import Made, make_run, write_journal, write_json

from evoprune.core.errors import EvopruneError, RunFolderError
from evoprune.folder.front import Front
from evoprune.folder.journal import read_journal
from evoprune.report.html import page, write_report
from evoprune.report.payload import inline, payload
from evoprune.report.progress import course, search_records
from evoprune.report.reading import base_name, read_run, read_runs
from evoprune.report.survival import Genes, compact
from evoprune.report.words import number

DAMAGEABLE = ("front.json", "summary.json", "space.json", "costs.csv")
DAMAGEABLE += ("calibration/report.safetensors",)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Parsed(HTMLParser):
    """The elements of a page, and the texts of its scripts that are data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_data(self, text):
        if self._inside.startswith("data-"):
            self.data[self._inside] = self.data.get(self._inside, "") + text


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "run")


def text_of(*runs: Path) -> str:
    return page(read_runs(runs))


def page_of(*runs: Path) -> Parsed:
    return Parsed(text_of(*runs))


def test_the_page_is_one_file_that_loads_nothing(run):
    parsed = Parsed(page(read_runs([run])))
    loads = [attrs for _, attrs in parsed.tags if attrs.keys() & {"src", "href", "srcset", "data"}]
    assert loads == []
    assert not {"link", "iframe", "object", "embed", "img"} & {tag for tag, _ in parsed.tags}
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy and "connect-src" not in policy
    spaces = text_of(run).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?://|@import|url\(", spaces)


def test_the_page_says_where_it_was_written(run, tmp_path):
    assert write_report([run]) == run / "report.html"
    assert write_report([run], tmp_path / "other.html") == tmp_path / "other.html"


def test_the_data_are_strict_json(run):
    data = json.loads(page_of(run).data["data-0"])
    front = Front.from_json(run / "front.json")
    assert data["fronts"][0]["ids"] == [point.id for point in front]
    assert data["fronts"][1]["origin"] == "random"
    assert data["dots"]["search"]["total"] == len(data["dots"]["search"]["ids"])
    assert {"safe", "small"} <= {tag for tags in data["fronts"][0]["tags"] for tag in tags}


def test_what_is_not_finite_becomes_null():
    assert (
        inline({"a": [np.nan, np.inf, 1.5], "b": np.arange(2)}) == '{"a":[null,null,1.5],"b":[0,1]}'
    )
    assert "<" not in inline(EVIL) and json.loads(inline(EVIL)) == EVIL


def _poisoned(folder: Path) -> Path:
    """Returns a run with markup in its name, its errors and the keys of its documents."""
    run = make_run(folder / "<script>alert(3)<")
    failed = {"type": "evaluation", "id": EVIL, "pattern": [0] * 6, "split": "search", "rung": -1}
    write_journal(run, [failed | {"values": {}, "error": EVIL, "failure": "deterministic"}])
    write_json(run / "models" / "a" / "evoprune.json", {"rung": EVIL, "params": {"export": EVIL}})
    rows = [{"name": EVIL, "metric": EVIL, "value": 0.5, "low": 0.4, "high": 0.6, EVIL: EVIL}]
    write_json(run / "ensembles" / "b" / "ensemble.json", {EVIL: rows, "method": EVIL})
    (run / "calibration" / "clusters.csv").write_text(f"cluster,size,kind\n{EVIL},2,{EVIL}\n")
    space = (run / "space.json").read_text()
    (run / "space.json").write_text(space.replace("layers.0", json.dumps(EVIL)[1:-1]))
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"# {EVIL}\n")
    return run


def test_nothing_a_run_says_becomes_markup(tmp_path):
    clean, bad = make_run(tmp_path / "clean"), _poisoned(tmp_path)
    text = text_of(clean, bad)
    assert "alert(1)" in text and "alert(3)" in text
    assert "<script>alert" not in text and "<img" not in text
    parsed = page_of(clean, bad)
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 2 + 2
    assert not [a for _, a in parsed.tags if any(key.startswith("on") for key in a)]
    assert all(json.loads(data) for data in parsed.data.values())


def test_a_run_that_was_stopped_has_a_page(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    assert "not come to its end" in text_of(run)
    data = json.loads(page_of(run).data["data-0"])
    assert data["fronts"][0]["ids"] == [] and data["goals"]["sparsity"] == "max"
    assert data["dots"]["search"]["total"] > 0 and data["progress"]["why"]


def test_a_run_that_was_only_configured_has_a_page(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    (run / "journal.jsonl").unlink()
    assert "not come to its end" in text_of(run)


def test_an_empty_front_and_no_controls_have_a_page(run):
    Front((), {"nll": "min", "sparsity": "max"}).to_json(run / "front.json")
    shutil.rmtree(run / "controls")
    assert "The front is empty" in text_of(run)


def test_without_a_space_genes_are_numbered(run):
    (run / "space.json").unlink()
    data = payload(read_run(run))
    assert data["genes"]["names"] == [f"g{i}" for i in range(6)]
    assert not data["strip"]["exact"]
    assert data["strip"]["shares"].min() == 0 and data["strip"]["shares"].max() == 1


@pytest.mark.parametrize("name", [*DAMAGEABLE])
def test_a_damaged_file_is_named(run, name):
    (run / name).write_text('id,nll\nx,"oops\n' if name.endswith("csv") else '{"genes": 3')
    with pytest.raises(RunFolderError, match=re.escape(name)):
        write_report([run])


def test_what_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(RunFolderError, match="no run folder"):
        write_report([tmp_path])
    with pytest.raises(EvopruneError, match="no run"):
        write_report([])
    with pytest.raises(RunFolderError, match="does not exist"):
        write_report([run], tmp_path / "missing" / "report.html")


def test_hypervolume_grows_to_what_the_summary_says(run):
    data = read_run(run)
    found = course(data)
    assert found.evaluations[-1] == len(data.evaluations())
    assert found.seconds[-1] == pytest.approx(0.5 * found.evaluations[-1])
    assert (np.diff(found.hypervolume) >= 0).all()
    assert found.hypervolume[-1] == pytest.approx(data.summary["search_hypervolume"])


def test_progress_needs_the_costs_of_every_pattern(run):
    (run / "costs.csv").unlink()
    assert "costs.csv that tells the sparsity" in course(read_run(run)).why


def test_controls_are_no_part_of_the_search():
    def evaluation(split):
        return {"type": "evaluation", "split": split}

    begin = {"type": "event", "event": "begin", "n_eval": 2}
    once = [begin, evaluation("search"), evaluation("validation"), evaluation("search")]
    assert len(search_records(once)) == 1
    assert len(search_records([*once, begin, evaluation("search")])) == 1
    more = begin | {"n_eval": 4}
    assert len(search_records([*once, more, evaluation("search")])) == 2


def test_bits_are_counted_and_their_units_ranked(tmp_path):
    run = make_run(tmp_path / "run", Made(bits=40))
    data = payload(read_run(run))
    kept = data["units_kept"][0]
    assert kept["gene"] == "head" and len(kept["kept"]) == 40
    assert (np.diff(kept["kept"]) <= 0).all()
    assert data["dots"]["search"]["levels"] is None
    assert any("of 40 units kept" in line for line in data["fronts"][0]["patterns"][-1])


def test_patterns_in_words_and_shares(run):
    genes = Genes(read_run(run).space, [])
    assert genes.words([0, 1, 2, 0, 0, 0]) == ["layers.1: 2 of 4 units kept", "layers.2: dropped"]
    assert genes.shares([[0, 1, 2, 0, 0, 0]]).tolist() == [[1, 0.5, 0, 1, 1, 1]]
    assert compact([0, 1, 35]) == "01z" and compact([36]) is None and compact(["AA=="]) is None


def test_several_runs_are_merged(tmp_path):
    runs = [make_run(tmp_path / str(i) / "run", Made(seed=i)) for i in range(2)]
    assert [run.name for run in read_runs(runs)] == ["0/run (1)", "1/run (2)"]
    data = json.loads(page_of(*runs).data["data-all"])
    assert len(data["fronts"]) == 2 and data["super"]
    assert "different boxes" in text_of(*runs)
    assert "±" in text_of(runs[0], runs[0]) and "different boxes" not in text_of(runs[0], runs[0])


def test_runs_with_other_objectives_stand_side_by_side(tmp_path):
    runs = [make_run(tmp_path / str(i)) for i in range(2)]
    front = Front.from_json(runs[0] / "front.json")
    other = Front(front.points, {"nll": "min", "sparsity": "max"}, front.dense)
    other.to_json(runs[1] / "front.json")
    assert "different objectives" in text_of(*runs)


def test_exports_and_ensembles_are_listed(run):
    knee = Front.from_json(run / "front.json").pick("knee").id
    record = {"rung": "homogeneous", "params": {"base": 100, "export": 60}, "max_error": 2e-7}
    write_json(run / "models" / knee / "evoprune.json", record)
    rows = [{"name": "best member", "metric": "nll", "value": 2.5, "low": 2.4, "high": 2.6}]
    write_json(run / "ensembles" / "vote" / "ensemble.json", {"method": "vote", "report": rows})
    text = text_of(run)
    assert f"models/{knee}" in text and "2.0e-07" in text and "exported: homogeneous" in text
    assert "best member" in text and "2.400 … 2.600" in text


def test_a_copy_among_the_objectives_is_warned_of(run):
    front = Front.from_json(run / "front.json")
    Front(front.points, {"nll": "min", "sparsity": "max"}, front.dense).to_json(run / "front.json")
    assert "is a copy" not in text_of(run)
    Front(front.points, {"sparsity": "max", "params": "min"}, front.dense).to_json(
        run / "front.json"
    )
    assert "sparsity and params correlate above 0.95" in text_of(run)


def test_rungs_that_mislead_are_named(run):
    summary = json.loads((run / "summary.json").read_text())
    assert "<h3>Rungs" not in page([read_run(run)])
    told = {"rung": f"8 {EVIL}", "objective": "nll", "n": 14, "correlation": 0.31}
    told |= {"given_size": None, "misleads": True}
    write_json(run / "summary.json", summary | {"rungs": [told, "nonsense"]})
    text = page([read_run(run)])
    assert "<h3>Rungs" in text and "0.3100" in text and "misleads" in text
    assert EVIL not in text


def test_many_evaluations_are_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr("evoprune.report.payload.MOST_DOTS", 10)
    dots = payload(read_run(make_run(tmp_path / "run")))["dots"]["search"]
    assert len(dots["ids"]) == 10 < dots["total"]


def test_runs_of_a_page_share_what_is_drawn(tmp_path, monkeypatch):
    run = read_run(make_run(tmp_path / "run"))
    monkeypatch.setattr("evoprune.report.payload.MOST_DOTS", 20)
    assert len(payload(run, 2)["dots"]["search"]["ids"]) == 10
    longest = 10 * len(payload(run, 2)["dots"]["search"]["levels"][0])
    monkeypatch.setattr("evoprune.report.payload.LEVELS_LIMIT", 2 * longest)
    assert payload(run, 2)["dots"]["search"]["levels"] is not None
    monkeypatch.setattr("evoprune.report.payload.LEVELS_LIMIT", 2 * longest - 1)
    assert payload(run, 2)["dots"]["search"]["levels"] is None


def test_five_runs_of_five_thousand_evaluations_are_below_two_megabytes(tmp_path):
    first = make_run(tmp_path / "run0", Made(5000, 40))
    others = [shutil.copytree(first, tmp_path / f"run{i}") for i in range(1, 5)]
    text = write_report([first, *others]).read_text()
    assert len(text.encode()) < 2_000_000
    drawn = [json.loads(Parsed(text).data[f"data-{i}"])["dots"]["search"] for i in range(5)]
    assert all(part["total"] == 5000 and len(part["ids"]) == 1200 for part in drawn)


def test_columns_and_numbers_read_well():
    assert base_name("report_nll_low") == "nll" and base_name("params") == "params"
    assert base_name("val_nll") == "nll" and base_name("val_quality_kept_high") == "quality_kept"
    assert base_name("search_x_low") == "x_low"
    shown = [number(v) for v in (6443712, 96145.0, 0.41436, 0.0, 12, 2e-7, float("nan"), None)]
    assert shown == ["6.44 M", "96.1 k", "0.4144", "0", "12", "2.00e-07", "–", "–"]


def test_the_journal_is_only_read(run):
    before = (run / "journal.jsonl").read_bytes()
    write_report([run])
    assert (run / "journal.jsonl").read_bytes() == before and read_journal(run / "journal.jsonl")


def test_a_report_is_made_without_torch(run):
    script = (
        "import sys; from evoprune.report.html import page, write_report\n"
        f"write_report([{str(run)!r}])\n"
        "heavy = ('torch', 'transformers', 'ray', 'pymoo', 'evoprune.searching')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

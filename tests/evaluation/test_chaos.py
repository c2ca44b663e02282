"""Searches whose workers, nodes and driver are killed end like one that was left in peace."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import evoprune
from evoprune.folder.journal import read_journal

SEED = 20261120
KILLS = 20
SECTIONS = {
    "space": "decoder/subblocks",
    "calibration": {"samples": 200, "clusters": 3},
    "search": {"algorithm": {"type": "nsga2", "pop_size": 12}, "n_eval": 192},
    "validation": {"samples": 16},
    "report": {"samples": 16},
    "controls": ["last_k"],
}
RAY = {"backend": "ray", "count": 2}
FILES = ("front.csv", "front.json", "controls/last_k.csv", "progress.csv")
COMPUTED = re.compile(r"journal +(\d+) evaluations computed now")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def evaluations(folder: Path) -> list[dict]:
    try:
        return [r for r in read_journal(folder / "journal.jsonl")[1] if r["type"] == "evaluation"]
    except evoprune.EvopruneError:
        return []


def finished(folder: Path) -> Counter:
    """Returns how often each evaluation was finished, retried failures left out."""
    records = [r for r in evaluations(folder) if r.get("failure") != "transient"]
    return Counter((r["id"], r["split"], r["rung"]) for r in records)


def results(folder: Path) -> list[str]:
    """Returns what was measured, without what tells one machine or hour from another."""
    kept = ("id", "pattern", "split", "rung", "values", "tokens", "tables")
    records = [r for r in evaluations(folder) if r.get("failure") != "transient"]
    return sorted(json.dumps({k: r[k] for k in kept if k in r}) for r in records)


def descendants(pid: int) -> dict[int, str]:
    """Returns the processes that a process started, by id, with their names."""
    found: dict[int, str] = {}
    for line in subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        child, parent, name = line.split(None, 2)
        found[int(child)] = f"{parent} {name}"
    family = {pid}
    while True:
        more = {c for c, entry in found.items() if int(entry.split()[0]) in family} - family
        if not more:
            return {c: found[c].split(" ", 1)[1] for c in family - {pid}}
        family |= more


class Victim:
    """A search in a process of its own that is killed at will."""

    def __init__(self, config: Path, folder: Path, said: Any = subprocess.DEVNULL) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "evoprune.cli", "search", str(config)]
        self.process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )

    def workers(self) -> list[int]:
        """Returns the actors that hold a model or load one."""
        names = descendants(self.process.pid).items()
        return sorted(pid for pid, name in names if name.startswith("ray::_Resident"))

    def wait_for(self, count: int) -> bool:
        """Waits until so many evaluations are finished; False if the search ended before."""
        while sum(finished(self.folder).values()) < count:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return True


def test_kills_of_workers_and_of_the_driver_change_nothing(tiny_config, tmp_path):
    calm = tiny_config(**SECTIONS, loggers=["csv"], output=str(tmp_path / "calm"))
    evoprune.search(calm, quiet=True)
    total = sum(finished(tmp_path / "calm").values())

    folder, config = tmp_path / "chaos", tmp_path / "chaos.yaml"
    config.write_text(yaml.safe_dump(calm | {"workers": RAY, "output": str(folder)}))
    rng, killed, victim = np.random.default_rng(SEED), [], Victim(config, folder)
    moments = np.sort(rng.choice(np.arange(2, total - 6), KILLS, replace=False))
    for moment in moments.tolist():
        assert victim.wait_for(moment), "the search ended before all kills"
        time.sleep(float(rng.uniform(0, 0.05)))
        driver = rng.random() < 0.25
        alive = victim.workers()
        target = victim.process.pid if driver or not alive else int(rng.choice(alive))
        done = sum(finished(folder).values())
        os.kill(target, signal.SIGKILL)
        who = "driver" if target == victim.process.pid else "worker"
        killed.append({"at": done, "who": who, "pid": target, "workers": alive})
        if who == "driver":
            victim.process.wait()
            victim = Victim(config, folder)
    victim.process.wait()
    # What ran alone when it was killed is journalled as transient; the same command retries it.
    evoprune.search(str(config), quiet=True)
    said = [line for line in (folder / "log.txt").read_text().splitlines() if " died: " in line]
    print(f"seed {SEED}, {len(killed)} kills:", *map(json.dumps, killed), *said, sep="\n")

    assert len(killed) >= KILLS and {entry["who"] for entry in killed} == {"driver", "worker"}
    assert max(finished(folder).values()) == 1, "nothing finished is computed again"
    assert results(folder) == results(tmp_path / "calm")
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()


@pytest.mark.parametrize("signals", ["SIGINT", "SIGINT SIGINT", "SIGTERM", "SIGTERM SIGTERM"])
def test_one_signal_drains_and_two_stop(tiny_config, tmp_path, signals):
    settings = tiny_config(**SECTIONS, output=str(tmp_path / "calm"))
    evoprune.search(settings, quiet=True)
    folder, config = tmp_path / "stopped", tmp_path / "stopped.yaml"
    config.write_text(yaml.safe_dump(settings | {"workers": RAY, "output": str(folder)}))
    victim = Victim(config, folder)
    assert victim.wait_for(20)
    for name in signals.split():
        if name == "SIGTERM":
            victim.process.terminate()
        else:
            # As a terminal does: to the whole foreground group, Ray's processes included.
            os.killpg(victim.process.pid, signal.SIGINT)
        time.sleep(0.2)
    assert victim.process.wait(timeout=120) == 130
    assert 20 <= len(evaluations(folder)) < 192
    assert all("error" not in record for record in evaluations(folder))
    evoprune.search(str(config), ["workers.backend=local"], quiet=True)
    assert results(folder) == results(tmp_path / "calm")
    assert (folder / "front.csv").read_bytes() == (tmp_path / "calm/front.csv").read_bytes()


def test_a_cluster_loses_a_node_and_gets_another_and_loses_no_evaluation(tiny_config, tmp_path):
    from ray.cluster_utils import Cluster

    # Long enough that a node which joins still finds something to do.
    search = {"algorithm": {"type": "nsga2", "pop_size": 12}, "n_eval": 600}
    sections = SECTIONS | {"space": "decoder/depth_width", "search": search}
    settings = tiny_config(**sections, output=str(tmp_path / "calm"))
    evoprune.search(settings, quiet=True)
    folder, config = tmp_path / "cluster", tmp_path / "cluster.yaml"
    workers = {"backend": "ray", "count": "auto"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
        workers["address"] = cluster.address
        config.write_text(yaml.safe_dump(settings | {"workers": workers, "output": str(folder)}))
        with open(tmp_path / "said", "w") as said:
            victim = Victim(config, folder, said)
            assert victim.wait_for(40)
            cluster.remove_node(doomed, allow_graceful=False)
            assert victim.wait_for(80)
            cluster.add_node(num_cpus=1)
            assert victim.process.wait(timeout=900) == 0, (tmp_path / "said").read_text()
    finally:
        cluster.shutdown()
    lines = (tmp_path / "said").read_text()
    print(lines)
    assert "as many Ray actors as there is room for" in lines
    assert "its node was lost" in lines and "is back" in lines and "(raylet)" not in lines
    table = re.findall(r"^workers +(\d+) +(\d+) ", lines, re.MULTILINE)
    assert len(table) >= 3 and all(int(candidates) for _, candidates in table)
    assert max(finished(folder).values()) == 1
    assert not any("error" in record for record in evaluations(folder))
    assert results(folder) == results(tmp_path / "calm")
    assert (folder / "front.csv").read_bytes() == (tmp_path / "calm/front.csv").read_bytes()

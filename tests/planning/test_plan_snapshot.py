"""What `evoprune plan` prints, to the letter but for its numbers."""

import re
from pathlib import Path

import pytest

from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError
from evoprune.planning.plan import plan
from evoprune.progress.console import Console
from evoprune.session import open_session

NUMBER = re.compile(r"\d[\d,.]*(e\+\d+)?")
SHOWN = """\
space: decoder/depth: # genes, # candidates
evaluations: # (n_eval=# ends the search)
dense-equivalent tokens: # (at the mean FLOPs share # of a stratified sample)
one dense pass: # s for # tokens, # thread
timed: # candidates in generations, # workers at work
prepare: about # s, timed: load, embed, cluster, rank, base, dense reference
workers: about # s, timed: to start them
search: about # s: # evaluations, # tokens
control uniform: about # s: # evaluations, # tokens
control random: about # s: # evaluations, # tokens
score: about # s: # evaluations, # tokens; fronts on validation and report, with intervals
export: about # s each pick, timed: written
verify: about # s each pick, timed: loaded in a fresh process, compared
report: about # s
TOTAL: about # s on this machine
memory, each machine: # of weights, mapped once by all its workers
memory, each worker: # beside the weights: process #, states #, logits #, examples # \
(arithmetic, not measurement)
disk: # and about # of journal"""


def test_a_plan_reads_like_this(tiny_config):
    export = {"picks": ["balanced"]}
    rows = plan(tiny_config(controls=["uniform", "random"], export=export))
    said = "\n".join(": ".join(NUMBER.sub("#", cell) for cell in row) for row in rows)
    assert re.sub(r"# [MGk]?B\b", "#", said) == SHOWN


def test_a_pick_that_cannot_be_meant_is_refused_before_anything_is_loaded(tiny_config):
    settings = tiny_config(export={"picks": ["balnced"]})
    with pytest.raises(ConfigError, match="'balnced' is no pick"):
        plan(settings)
    config = load_config(settings)
    with pytest.raises(ConfigError, match="'balnced' is no pick"):
        open_session(config, Console(stream=None))
    assert not Path(config.output).exists()

"""A finished run is not replaced by less than it holds."""

from collections.abc import Mapping
from typing import Any

from evoprune.config.schema import Config, digest
from evoprune.core.errors import RunFolderError
from evoprune.folder.journal import read_journal
from evoprune.folder.layout import RunFolder

WORDS = {"n_eval": "evaluations", "n_gen": "generations", "tokens": "dense-equivalent tokens"}


def refuse_to_shrink(folder: RunFolder, config: Config) -> None:
    """Refuses a search that would end before what a finished run of it has come to.

    A replay up to a smaller bound would write a front of the first evaluations only, over the one
    that all of them gave. A search that grows, or is given other bounds that it has not reached,
    goes on. ``seconds`` never shorten a replay: where they ended a search, its journal says.

    Raises:
        RunFolderError: ``n_eval``, ``n_gen``, ``tokens`` or ``patience`` is too small.
    """
    reached = _reached(folder, config)
    if reached is None:
        return
    asked, before = config.search, folder.read_config()["execution"]["search"]
    for name, words in WORDS.items():
        bound, done, old = getattr(asked, name), reached.get(name), before.get(name)
        # The generation in which tokens ran out was finished: the same bound is no smaller one.
        if bound is None or done is None or bound >= done or bound == old:
            continue
        raise RunFolderError(
            f"The run in '{folder.path}' has {done:,.0f} {words}; with search.{name}={bound:,.0f} "
            f"its front would be that of the first of them.",
            f"Choose another `output`, or search.{name}>={done:.0f}.",
        )
    old = before.get("patience")
    if asked.patience is not None and (old is None or asked.patience < old):
        raise RunFolderError(
            f"The run in '{folder.path}' is finished; with search.patience={asked.patience} "
            "its front could be that of fewer evaluations.",
            "Choose another `output`, or leave patience as it was.",
        )


def _reached(folder: RunFolder, config: Config) -> Mapping[str, Any] | None:
    """Returns what the last finished search of a run came to, None if there is none of it."""
    manifest = folder.read_manifest() if folder.front_json.is_file() else None
    if manifest is None or manifest.get("identity") != digest(config.identity()):
        return None
    ends = [r for r in read_journal(folder.journal)[1] if r.get("event") == "end"]
    return ends[-1] if ends else None

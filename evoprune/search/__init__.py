"""The search: pymoo's algorithms behind ask and tell, and the loop that feeds them.

This package can be called: ``evoprune.search(config)`` is ``evoprune.run.search``. Importing a
subpackage makes it an attribute of its parent, which would hide a function of the same name.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(
        self,
        config: str | Path | Mapping[str, Any],
        overrides: Sequence[str] | Mapping[str, Any] = (),
        *,
        model: Any = None,
        data: Any = None,
        objectives: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> Any:
        """Runs a search, or goes on with it; see ``evoprune.run.search``."""
        from evoprune.run import search

        handed = {"model": model, "data": data, "objectives": objectives}
        return search(config, overrides, **handed, quiet=quiet)


sys.modules[__name__].__class__ = _CallablePackage

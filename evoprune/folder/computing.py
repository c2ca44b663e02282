"""What the values of a run are computed with, so that no journal mixes what is not comparable."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evoprune.core.errors import RunFolderError
from evoprune.core.files import sha256_of

# Those that values, and the candidates that are evaluated, depend on; Ray only carries patterns.
COMPUTE = ("evoprune", "torch", "transformers", "numpy", "scikit-learn", "pymoo")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of packages; those that are not installed are ``unknown``."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def computing(device: str, threads: int, plugins: Sequence[str]) -> dict[str, Any]:
    """Returns what values are computed with, beside packages, for the manifest.

    Args:
        device: where networks run, such as ``cuda:0``.
        threads: of each worker.
        plugins: files of plug-ins.
    """
    return {
        "device": device.partition(":")[0],
        "threads": threads,
        "plugins": {os.path.basename(plugin): sha256_of(Path(plugin)) for plugin in plugins},
    }


def check_computing(folder: Path, manifest: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Checks that a prepared run goes on with what its values were computed with.

    Folders from before something of it was kept are taken as they are.

    Args:
        folder: of the run.
        manifest: its own.
        now: what ``computing`` says.

    Returns:
        A note where only the number of threads differs: by that values hardly do.

    Raises:
        RunFolderError: other packages, another device or other plug-ins.
    """
    then, packages = manifest.get("computing", {}), manifest.get("versions", {})
    here = versions(COMPUTE)
    changed = [
        f"{name} {packages[name]}, now {here[name]}"
        for name in COMPUTE
        if packages.get(name) not in (None, "unknown", here[name])
    ]
    if "device" in then and then["device"] != now["device"]:
        changed.append(f"the device {then['device']}, now {now['device']}")
    if "plugins" in then:
        before, after = then["plugins"], now["plugins"]
        odd = sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
        changed += [f"the plug-in {name} as it was, which has changed" for name in odd]
    if changed:
        raise RunFolderError(
            f"The values in '{folder}' were computed with {'; '.join(changed)}: those of both in "
            "one journal could not be compared.",
            "Go on with what it was begun with, or begin anew in another `output`.",
        )
    if then.get("threads") in (None, now["threads"]):
        return ""
    return (
        f"note      the run was begun with {then['threads']} threads a worker, and goes on with "
        f"{now['threads']}: values may differ in their last digits"
    )

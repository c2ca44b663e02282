"""A run folder: where things lie in it, and whose run it is."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evoprune.config import Config, digest
from evoprune.errors import RunFolderError
from evoprune.journal import write_atomically


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made by ``claim``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.manifest = self.path / "manifest.json"
        self.calibration = self.path / "calibration"
        self.ranks = self.path / "ranks"
        self.journal = self.path / "journal.jsonl"
        self.front_csv = self.path / "front.csv"
        self.front_json = self.path / "front.json"
        self.controls = self.path / "controls"
        self.summary = self.path / "summary.json"
        self.models = self.path / "models"
        self.log = self.path / "log.txt"

    @classmethod
    def existing(cls, path: str | Path) -> "RunFolder":
        """Returns the folder of a run that was begun.

        Raises:
            RunFolderError: there is no run in it.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunFolderError(
                f"'{path}' is no run folder: it holds no config.yaml.",
                "Give the folder that `evoprune search` wrote, such as runs/quickstart.",
            )
        return folder

    def claim(self, config: Config) -> None:
        """Makes the folder, or checks that it belongs to the same search; writes config.yaml.

        Raises:
            RunFolderError: it cannot be written, holds something else, or belongs to another
                search.
        """
        identity = config.identity()
        if self.config.is_file():
            self._compare(self.read_config()["identity"], identity)
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise RunFolderError(
                f"'{self.path}' is not empty and holds no run.", "Choose another `output`."
            )
        text = yaml.safe_dump(
            {"identity": identity, "execution": config.execution()}, sort_keys=False
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"The run folder '{self.path}' cannot be made: {error.strerror or error}.",
                "Choose another `output`, or mend its permissions.",
            ) from error
        write_atomically(self.config, text)

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Refuses another search in the same folder, naming what differs."""
        if digest(before) == digest(now):
            return
        changes = [
            f"{key}: {_short(old)} -> {_short(new)}" for key, old, new in _differences(before, now)
        ]
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise RunFolderError(
            f"'{self.path}' belongs to another search ({'; '.join(changes[:3])}{more}).",
            "Choose another `output`, or undo the change.",
        )

    def read_config(self) -> dict[str, Any]:
        """Returns the identity and execution parts that the run was begun with."""
        try:
            parts = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            return {"identity": parts["identity"], "execution": parts["execution"]}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"'{self.config}' is damaged: {' '.join(str(error).split())}.",
                "Restore it, or search again in another `output`.",
            ) from error

    def load(self) -> Config:
        """Returns the configuration of the run."""
        parts = self.read_config()
        settings = dict(parts["identity"])
        execution = dict(parts["execution"])
        for section in ("search", "model"):
            settings[section] = {**settings[section], **execution.pop(section)}
        return Config.model_validate({**settings, **execution})

    def read_manifest(self) -> dict[str, Any] | None:
        """Returns the manifest; None before the run is prepared."""
        if not self.manifest.is_file():
            return None
        try:
            return dict(json.loads(self.manifest.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"'{self.manifest}' is damaged: {error}.", "Delete it; it is made again."
            ) from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest; the run then counts as prepared."""
        write_atomically(self.manifest, json.dumps(manifest, indent=1, sort_keys=True) + "\n")

    def free_bytes(self) -> int:
        """Returns how much the disk of the folder still takes."""
        at = self.path
        while not at.exists():
            at = at.parent
        return shutil.disk_usage(at).free


def _differences(before: Any, now: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            inner = f"{at}.{key}" if at else str(key)
            found += _differences(before.get(key), now.get(key), inner)
        return found
    return [] if before == now else [(at, before, now)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

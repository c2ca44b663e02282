"""A run folder: where things lie in it, and whose run it is."""

import json
import os.path
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NoReturn

import yaml

from evoprune.config.schema import Config, digest
from evoprune.config.settings import joined
from evoprune.core.errors import ConfigError, EvopruneError, RunFolderError, check_path
from evoprune.core.files import write_atomically
from evoprune.folder.journal import Journal, read_journal, repair


def plain_name(name: str) -> str:
    """Returns the name of something in a folder, which leads nowhere else.

    Raises:
        ConfigError: it holds a path, or is none.
    """
    if name != PurePath(name).name or "\\" in name or "\0" in name or not name.strip(". "):
        raise ConfigError(
            f"'{name}' is no plain name.", "Write a name without slashes, such as small-1."
        )
    return name


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made by ``claim``, locked and described by ``open_journal``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.manifest = self.path / "manifest.json"
        self.calibration = self.path / "calibration"
        self.ranks = self.path / "ranks"
        self.costs = self.path / "costs.csv"
        self.space = self.path / "space.json"
        self.journal = self.path / "journal.jsonl"
        self.front_csv = self.path / "front.csv"
        self.front_json = self.path / "front.json"
        self.controls = self.path / "controls"
        self.summary = self.path / "summary.json"
        self.handed = self.path / "handed"
        self.models = self.path / "models"
        self.log = self.path / "log.txt"

    def __repr__(self) -> str:
        return f"RunFolder('{self.path}')"

    @classmethod
    def existing(cls, path: str | Path) -> "RunFolder":
        """Returns the folder of a run that was begun.

        Raises:
            RunFolderError: there is no run in it.
        """
        check_path(path)
        folder = cls(path)
        if not os.path.isfile(folder.config):
            raise RunFolderError(
                f"'{path}' is no run folder: it holds no config.yaml.",
                "Give the folder that `evoprune search` wrote, such as runs/quickstart.",
            )
        return folder

    def claim(self) -> None:
        """Makes the folder, if there is none.

        Raises:
            RunFolderError: it cannot be made, or holds something else than a run.
        """
        ours = {self.journal.name, f"{self.journal.name}.lock"}
        try:
            empty = not self.path.is_dir() or {path.name for path in self.path.iterdir()} <= ours
            if not empty and not self.config.is_file():
                raise RunFolderError(
                    f"'{self.path}' is not empty and holds no run.", "Choose another `output`."
                )
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"The run folder '{self.path}' cannot be made: {error.strerror or error}.",
                "Choose another `output`, or mend its permissions.",
            ) from error

    def open_journal(self, config: Config) -> Journal:
        """Returns the journal of a claimed folder, which locks it, and writes config.yaml.

        Until something is evaluated the folder belongs to no search, so that whatever a
        configuration got wrong may be mended in place.

        Raises:
            RunFolderError: another process holds it, it cannot be written, or it belongs to
                another search.
        """
        identity = config.identity()
        header = {"identity": digest(identity)}
        journal = Journal.open(self.journal, header)
        try:
            if journal.header.get("identity") != header["identity"] and journal.records():
                self._refuse(self.read_config()["identity"], identity)
            manifest = self.read_manifest()
            if manifest is not None and manifest["identity"] != header["identity"]:
                # What was prepared for another search is not for this one, such as its recovery.
                for prepared in (self.ranks, self.calibration):
                    shutil.rmtree(prepared, ignore_errors=True)
                self.manifest.unlink()
            if journal.header.get("identity") != header["identity"]:
                self.journal.unlink()  # before the lock is given back
                journal.close()
                journal = Journal.open(self.journal, header)
            parts = {"identity": identity, "execution": config.execution()}
            write_atomically(self.config, yaml.safe_dump(parts, sort_keys=False))
        except BaseException:
            journal.close()
            raise
        return journal

    def repair(self) -> tuple[list[int], Path | None]:
        """Sets damaged lines of the journal aside (``evoprune.folder.journal.repair``)."""
        return repair(self.journal, {"identity": digest(self.read_config()["identity"])})

    def _refuse(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> NoReturn:
        """Refuses another search in the same folder, naming what differs."""
        changes = [
            f"{key}: {_short(old)} -> {_short(new)}" for key, old, new in _differences(before, now)
        ]
        if not changes:
            raise RunFolderError(
                f"The header of '{self.journal}' names another search than '{self.config}'.",
                f"If the latter is right, mend the journal: evoprune doctor {self.path} --repair.",
            )
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
        except (OSError, yaml.YAMLError, RecursionError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"'{self.config}' is damaged: {' '.join(str(error).split())}.",
                "Restore it, or search again in another `output`.",
            ) from error

    def load(self) -> Config:
        """Returns the configuration of the run."""
        parts = self.read_config()
        try:
            return Config.model_validate(joined(parts))
        except (EvopruneError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunFolderError(
                f"'{self.config}' is damaged: {' '.join(str(error).split())[:200]}.",
                "Restore it, or search again in another `output`.",
            ) from error

    def unfinished(self) -> RunFolderError:
        """Returns the error of a run that has no front: how far its search is, and its command."""
        asked = self.read_config()["execution"]["search"]
        ends = [f"{size}={value}" for size, value in asked.items() if value is not None]
        done = 0
        if self.journal.is_file():
            records = read_journal(self.journal)[1]
            done = sum(r["type"] == "evaluation" and r["split"] == "search" for r in records)
        return RunFolderError(
            f"The search in '{self.path}' has not ended, so it has no front: "
            f"{done:,} evaluations of {' or '.join(ends)}.",
            f"Go on with it: evoprune search {self.config}",
        )

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


def _differences(before: Any, now: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            inner = f"{at}.{key}" if at else str(key)
            found += _differences(before.get(key), now.get(key), inner)
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [one for i, pair in pairs for one in _differences(*pair, f"{at}.{i}")]
    return [] if before == now else [(at, before, now)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

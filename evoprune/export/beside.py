"""What of the original model travels with an export: tokenizer, generation settings, licence."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evoprune.core.errors import ExportError
from evoprune.export.subject import Source

_GENERATION = "generation_config.json"
_PROCESSOR = "preprocessor_config.json"
# One of these is there if there is a tokenizer.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_OF_TOKENIZERS = re.compile(
    r"(.*tokenizer.*|vocab.*|merges|special_tokens_map|added_tokens|chat_template.*"
    r"|spiece|sentencepiece.*)\.(json|txt|model|jinja|tiktoken|bpe)|.*\.tiktoken"
)
_LICENCE = re.compile(
    r"(licen[cs]e|notice|copying|patents|(acceptable_)?use_policy|usage_policy)[^.]*"
    r"(\.(txt|md|rst|html|pdf))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Carried:
    """What lies beside an export, as it lay beside the original.

    Attributes:
        tokenizer: whether there is a tokenizer.
        licences: names of the files that say what may be done with the model.
        processor: whether there is what turns pictures into inputs.
    """

    tokenizer: bool = False
    licences: tuple[str, ...] = ()
    processor: bool = False


def carry_over(source: Source, folder: Path) -> Carried:
    """Copies what belongs to the original model into an export, and returns what that was.

    The tokenizer is saved as transformers loads it, so that it is known to load; files of it that
    are not written then (a vocabulary for other programs, say) are copied as they are.

    Raises:
        ExportError: there is a tokenizer, and it cannot be loaded.
    """
    generation = _file(source, _GENERATION)
    if generation is not None:
        # Copied as it is: transformers refuses to save some that it loads.
        shutil.copyfile(generation, folder / _GENERATION)
    tokenizer = any(_file(source, name) for name in _TOKENIZER)
    if tokenizer:
        _save_tokenizer(source, folder)
    at_hand = list(_at_hand(source))
    licences = tuple(path.name for path in at_hand if _LICENCE.fullmatch(path.name))
    for path in at_hand:
        travels = path.name in licences or (tokenizer and _OF_TOKENIZERS.fullmatch(path.name))
        if travels and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    processor = _file(source, _PROCESSOR)
    if processor is not None:
        shutil.copyfile(processor, folder / _PROCESSOR)
    return Carried(tokenizer, licences, processor is not None)


def _save_tokenizer(source: Source, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.name_or_path,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
        )
    except Exception as error:  # whatever a file or a foreign class may raise
        raise ExportError(
            f"The tokenizer of '{source.name_or_path}' cannot be loaded: "
            f"{' '.join(str(error).split())[:200]}.",
            "Mend the tokenizer's files beside the model.",
        ) from error
    tokenizer.save_pretrained(folder)


def _at_hand(source: Source) -> Iterator[Path]:
    """Yields the files of the original model on this machine, by name.

    They lie in its folder, or in the snapshot of the hub that it was loaded from, whose files are
    links into ``blobs``. A link to anywhere else is no file of the model.
    """
    folder = Path(source.name_or_path)
    if not folder.is_dir():
        config = _file(source, "config.json")
        if config is None:
            return
        folder = Path(config).parent
    homes = [folder.resolve(), (folder.parent.parent / "blobs").resolve()]
    for path in sorted(folder.iterdir()):
        if path.is_file() and any(path.resolve().is_relative_to(home) for home in homes):
            yield path


def _file(source: Source, name: str) -> str | None:
    """Returns where a file of the original model lies, fetched if need be; None without it."""
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            source.name_or_path,
            name,
            revision=source.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # neither a folder nor a hub id
        return None
    return None if found is None else str(found)

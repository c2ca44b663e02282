"""Files written whole or not at all, and their digests."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evoprune.core.errors import unwritable


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside a file; what is written there takes its place at the end.

    Whoever reads the file sees what it held before, or all that it is to hold.

    Raises:
        RunFolderError: it cannot be written; the old one is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # what cannot be written may not be unlinked either
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path | str, text: str, errors: str = "strict") -> None:
    """Writes a text file whole or not at all (``replacing``).

    Args:
        path: the file.
        text: what it is to hold, in UTF-8.
        errors: what becomes of half characters (``str.encode``).

    Raises:
        RunFolderError: the file cannot be written; the old one is as it was.
    """
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors))


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

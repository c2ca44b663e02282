"""The lock of a journal: who may write it, and whether whoever said so still runs."""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from evoprune.core.errors import RunFolderError, unwritable

_HOST = socket.gethostname()


class Lock:
    """The only right to write a file; get one with ``take``.

    It is a lock of the system's on ``<file>.lock``, which goes with the process however that ends;
    a forked child shares it, an executed one does not. What stands in that file says who has it,
    for people, and is all there is to go by where a file system does not pass locks on to other
    machines.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> Self:
        """Returns the lock of a file.

        What a process left in the lock file that was killed is stale: its lock went with it. Only
        of another machine's process this cannot be told.

        Raises:
            RunFolderError: another process has it, or the folder cannot be locked.
        """
        import fcntl  # absent on Windows, where journals can still be read

        try:
            descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            holder = _holder(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_stale(path, holder)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunFolderError(
                f"Another process is writing '{path}': {_named(holder)}.",
                "Wait for it or stop it, or choose another run folder.",
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise RunFolderError(
                f"'{path}' cannot be locked: {error.strerror or error}.",
                "Put the run folder on a file system with locks, such as a local disk.",
            ) from error
        except RunFolderError:
            os.close(descriptor)
            raise
        _sign(descriptor)
        return cls(descriptor)

    def release(self) -> None:
        """Gives the lock back; twice is harmless."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.release()


def _boot() -> str:
    """Returns what names this start of this machine's kernel, empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _holder(descriptor: int) -> dict[str, Any]:
    """Returns who wrote a lock file, empty if that was closed."""
    try:
        found = json.loads(os.pread(descriptor, 1000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_stale(path: Path, holder: Mapping[str, Any]) -> None:
    """Checks that who signed a lock file which is free here does not run elsewhere.

    Raises:
        RunFolderError: that cannot be seen from this machine.
    """
    if holder.get("host", _HOST) != _HOST and holder.get("boot", _boot()) != _boot():
        raise RunFolderError(
            f"'{path}' was not closed by {_named(holder)}, and it cannot be seen from here "
            "whether that still runs.",
            f"If it does not, delete '{path}.lock' and give the same command again.",
        )


def _named(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "who it is, its lock does not say"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _sign(descriptor: int) -> None:
    """Writes into a lock file who has it."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    own = {"pid": os.getpid(), "host": _HOST, "boot": _boot(), "since": since}
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(own).encode(), 0)

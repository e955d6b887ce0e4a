"""The seam between a model and the stores that its folder may lie in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class FolderCopy:
    """A folder of a store on this machine.

    `version` tells its state in the store from any other; None for a folder that was here already.
    """

    folder: Path
    version: str | None


class CopyFolder(Hashable, Protocol):
    """Copies some files of a folder to this machine, once for all its processes. Can be pickled."""

    def __call__(
        self,
        uri: str,
        *,
        part: str,
        is_wanted: Callable[[str], bool],
        decides: Callable[[str], bool],
        version: str | None,
    ) -> FolderCopy:
        """The wanted files at `uri`, by their names in the folder; `part` is a name for what is wanted.

        The files that `decides` names make the version. With a `version`, it is that or an error.

        Raises:
            ModelError: Nothing is there, it is another version, or it cannot be copied.
            ConfigError: The URI cannot be used.
        """

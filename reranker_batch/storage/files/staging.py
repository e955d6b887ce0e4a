"""Files that get their name when they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyarrow import fs

from reranker_batch.errors import CommitError


@contextmanager
def moved_when_whole(filesystem: fs.FileSystem, staged: str, final: str) -> Iterator[None]:
    """The block writes the file `staged`, which then replaces `final`; after an error in the block it is deleted.

    Raises:
        CommitError: It cannot be written.
    """
    try:
        yield
        filesystem.move(staged, final)
    except BaseException as error:
        with suppress(OSError):  # it takes space that may be what is missing
            filesystem.delete_file(staged)
        if isinstance(error, OSError):
            raise CommitError(f"{final} cannot be written: {error}") from error
        raise

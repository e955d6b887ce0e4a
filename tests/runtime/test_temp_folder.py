"""A folder for temporary files whose sockets would have paths that are too long is refused before Ray starts."""

import pytest

from reranker_batch.errors import ConfigError
from reranker_batch.runtime.temp_folder import check_temp_folder


def test_a_long_folder_for_temporary_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "ü" * 30)
    with pytest.raises(ConfigError, match=r"TMPDIR=.* is \d+ bytes too long: .*Set RAY_TMPDIR to a short path"):
        check_temp_folder()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_temp_folder()


@pytest.mark.parametrize("length", range(30, 46))
def test_the_limit_is_that_of_ray(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Ray's own check, on the path that it makes up of a session's name."""
    import os

    from ray._private.utils import validate_socket_filepath

    folder = "/" + "x" * (length - 1)
    monkeypatch.setenv("RAY_TMPDIR", folder)
    path = f"{folder}/ray/session_2026-11-25_12-34-56_123456_{os.getpid()}/sockets/plasma_store"
    try:
        validate_socket_filepath(path)
    except OSError:
        with pytest.raises(ConfigError):
            check_temp_folder()
    else:
        check_temp_folder()

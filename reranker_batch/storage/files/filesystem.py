"""Paths and URIs to filesystems. Nothing else in the package opens a filesystem."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import fsspec
import pyarrow as pa
from fsspec.registry import known_implementations
from pyarrow import fs

from reranker_batch.errors import ConfigError, first_line
from reranker_batch.uris import (
    BUILTIN,
    BUILTIN_FOLDER,
    builtin_name,
    is_uri,
    options_of,
    problem_of,
    scheme_of,
    split_options,
)

BUILTIN_TABLES = {"demo": "demo.parquet"}
"""Tables that ship with the package, by the name after `builtin:`."""

_GCS_RETRY_S = 15
"""How long a request is repeated before its error is seen; pyarrow's own default is a quarter of an hour."""


@dataclass(frozen=True)
class Folder:
    """A folder by its absolute path or URI. Travels between processes as that text alone."""

    uri: str

    @classmethod
    def at(cls, path_or_uri: str) -> Folder:
        """The folder at `path_or_uri`; a relative path counts from the present working directory."""
        return cls(absolute(path_or_uri))

    @property
    def filesystem(self) -> fs.FileSystem:
        return resolve(self.uri)[0]

    @property
    def path(self) -> str:
        """The folder as `filesystem` calls it."""
        return resolve(self.uri)[1]

    def child(self, *names: str) -> str:
        """The path of something inside, as `filesystem` calls it."""
        return join(self.path, *names)

    def names(self, *inner: str) -> set[str]:
        """What lies in the folder, or in one inside it; nothing where it is not there. Raises OSError."""
        selector = fs.FileSelector(self.child(*inner) if inner else self.path, allow_not_found=True)
        return {info.base_name for info in self.filesystem.get_file_info(selector)}

    def refuse_unwritable(self) -> None:
        """Refuse a local folder that this process can neither make nor write to. Makes nothing.

        Raises:
            ConfigError: Says why.
        """
        if not isinstance(self.filesystem, fs.LocalFileSystem):
            return
        folder = Path(self.path)
        try:
            nearest = next(one for one in (folder, *folder.parents) if _is_there(one))
            if not nearest.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file")
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, f"{nearest} is read-only for this user")
        except OSError as error:
            raise ConfigError(f"{self.uri} cannot be written: {error.strerror}. Give a place that can be.") from None

    def folder(self, name: str) -> Folder:
        """A folder inside, by its name as `filesystem` calls it."""
        if not is_uri(self.uri):
            return Folder(join(self.uri, name))
        plain, options = split_options(self.uri)
        return Folder(join(plain, name.replace("%", "%25").replace("?", "%3F")) + options)


def _is_there(path: Path) -> bool:
    """Raises OSError where the name cannot be one, or cannot be looked at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def resolve(path_or_uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path as that filesystem calls it.

    A path is taken literally; in a URI `%20` stands for a space. Filesystems are made once a process.

    Raises:
        ConfigError: The URI carries credentials, its scheme is unknown or its driver is not installed.
    """
    return _filesystem(absolute(path_or_uri))


def absolute(path_or_uri: str) -> str:
    """The same place, whatever the working directory of the process that asks later."""
    if is_uri(path_or_uri) or is_builtin(path_or_uri):
        return path_or_uri
    return os.path.abspath(os.path.expanduser(path_or_uri))


def is_builtin(path_or_uri: str) -> bool:
    return builtin_name(path_or_uri) is not None


def join(folder: str, *names: str) -> str:
    """Put names below a folder of a filesystem; the folder may be the root of a bucket or ''."""
    return "/".join([folder.rstrip("/"), *names]) if folder else "/".join(names)


def is_inside(path: str) -> bool:
    """Whether a recorded path can only lead below the folder that it is joined to."""
    parts = path.split("/")
    return not is_uri(path) and not {"", ".", ".."} & set(parts) and "\0" not in path


@lru_cache(maxsize=256)
def _filesystem(place: str) -> tuple[fs.FileSystem, str]:
    if (shipped := builtin_name(place)) is not None:
        return fs.LocalFileSystem(), _builtin_path(shipped)
    if not is_uri(place):
        return fs.LocalFileSystem(), place
    if (problem := problem_of(place)) is not None:
        raise ConfigError(problem)
    try:
        return _from_uri(place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if "Unrecognized filesystem" not in str(error) and "not compiled" not in str(error):
            raise ConfigError(f"{place} cannot be used: {first_line(error)}.") from None
    except (ImportError, OSError, pa.ArrowException) as error:
        raise ConfigError(f"{place} cannot be opened: {first_line(error)}.") from None
    return _from_fsspec(place)


def _from_uri(uri: str) -> tuple[fs.FileSystem, str]:
    path, options = split_options(uri)
    if scheme_of(uri) in ("gs", "gcs") and "retry_limit_seconds" not in options_of(uri):
        options += f"{'&' if options else '?'}retry_limit_seconds={_GCS_RETRY_S}"
    filesystem, inner = fs.FileSystem.from_uri(quote(path, safe="%/:@+,;=~!$&'()*-._[]") + options)
    return filesystem, inner


def _from_fsspec(uri: str) -> tuple[fs.FileSystem, str]:
    scheme = scheme_of(uri)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        hint = known_implementations.get(scheme, {}).get("err") or first_line(error)
        raise ConfigError(f"{scheme}:// needs a driver that is not installed. {hint.rstrip('.')}.") from None
    except Exception as error:  # a driver's own classes
        if "Protocol not known" in str(error):
            raise ConfigError(f"{scheme}:// is no filesystem known to pyarrow or fsspec.") from None
        raise ConfigError(f"{uri} cannot be opened: {first_line(error)}.") from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), str(path)


def _builtin_path(name: str) -> str:
    if name and name not in BUILTIN_TABLES:
        known = ", ".join(BUILTIN + item for item in BUILTIN_TABLES)
        raise ConfigError(f"{BUILTIN + name!r} is no table of the package. Known: {known}.")
    return str(BUILTIN_FOLDER / BUILTIN_TABLES[name]) if name else str(BUILTIN_FOLDER)

"""Paths and URIs to filesystems. Nothing else in the package opens a filesystem."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import fsspec
import pyarrow as pa
from fsspec.registry import known_implementations
from pyarrow import fs

from reranker_batch.errors import ConfigError

BUILTIN_TABLES = {"demo": "demo.parquet"}
"""Tables that ship with the package, by the name after `builtin:`."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OPTIONS = re.compile(r"\?[\w.-]+=[^/]*$")
_SECRET_OPTION = re.compile(
    r"token|secret|passw|pwd|signature|credential|api_?key|(access|account)_?key|^(key|sig|sas)$"
)


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


def is_uri(path_or_uri: str) -> bool:
    return _URI.match(path_or_uri) is not None


def is_builtin(path_or_uri: str) -> bool:
    return path_or_uri.startswith("builtin:")


def split_options(uri: str) -> tuple[str, str]:
    """Cut `?region=…` off a URI. A `?` that does not begin an option is part of the path: a glob."""
    found = _OPTIONS.search(uri) if is_uri(uri) else None
    return (uri[: found.start()], uri[found.start() :]) if found else (uri, "")


def join(folder: str, *names: str) -> str:
    """Put names below a folder of a filesystem; the folder may be the root of a bucket or ''."""
    return "/".join([folder.rstrip("/"), *names]) if folder else "/".join(names)


def is_inside(path: str) -> bool:
    """Whether a recorded path can only lead below the folder that it is joined to."""
    parts = path.split("/")
    return not is_uri(path) and not {"", ".", ".."} & set(parts) and "\0" not in path


@lru_cache(maxsize=256)
def _filesystem(place: str) -> tuple[fs.FileSystem, str]:
    if is_builtin(place):
        return fs.LocalFileSystem(), _builtin_path(place)
    if not is_uri(place):
        return fs.LocalFileSystem(), place
    refuse_credentials(place)
    try:
        return _from_uri(place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if "Unrecognized filesystem" not in str(error) and "not compiled" not in str(error):
            raise ConfigError(f"{place} cannot be used: {error}.") from None
    except (ImportError, OSError) as error:
        raise ConfigError(f"The driver for {_scheme(place)}:// cannot be used: {_first_line(error)}.") from None
    return _from_fsspec(place)


def _from_uri(uri: str) -> tuple[fs.FileSystem, str]:
    path, options = split_options(uri)
    filesystem, inner = fs.FileSystem.from_uri(quote(path, safe="%/:@+,;=~!$&'()*-._[]") + options)
    return filesystem, inner


def _from_fsspec(uri: str) -> tuple[fs.FileSystem, str]:
    scheme = _scheme(uri)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        hint = known_implementations.get(scheme, {}).get("err") or _first_line(error)
        raise ConfigError(f"{scheme}:// needs a driver that is not installed. {hint.rstrip('.')}.") from None
    except ValueError as error:
        raise ConfigError(f"{scheme}:// is no filesystem known to pyarrow or fsspec: {_first_line(error)}.") from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), str(path)


def refuse_credentials(uri: str) -> None:
    """Keep passwords and keys out of configs, records and messages.

    Raises:
        ConfigError: The message names the scheme and the kind of secret, never the URI.
    """
    if kind := _credential_in(uri):
        raise ConfigError(
            f"The {_scheme(uri)}:// URI carries {kind}, which would end up in records and logs. Take it out and give "
            "the credentials by environment variables, a profile or a role of the machine."
        )


def _credential_in(uri: str) -> str | None:
    path, _, query = uri.partition("?")
    authority = urlsplit(path).netloc if "[" not in path else path.split("/")[2]
    user, at, host = authority.rpartition("@")
    port = re.sub(r"^\[.*\]", "", host).partition(":")[2]
    if at and (":" in user or _scheme(uri) in ("http", "https", "ftp")):
        return "credentials ('user:password@')"
    if port and not port.isdigit():
        return "what looks like credentials ('user:password@')"
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if _SECRET_OPTION.search(name.lower().replace("-", "_")):
            return f"a secret in its option {name!r}"
    return None


def _scheme(uri: str) -> str:
    return uri.partition("://")[0].lower()


def _builtin_path(place: str) -> str:
    folder = Path(__file__).parents[1] / "builtin"
    name = place.removeprefix("builtin:")
    if name and name not in BUILTIN_TABLES:
        raise ConfigError(f"{place!r} is no table of the package. Known: builtin:{', builtin:'.join(BUILTIN_TABLES)}.")
    return str(folder / BUILTIN_TABLES[name]) if name else str(folder)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")

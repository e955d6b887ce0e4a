"""URIs as text: their parts, and what of them may be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

BUILTIN = "builtin:"
"""Before the name of a table or a model that ships with the package."""
BUILTIN_FOLDER = Path(__file__).parent / "builtin"

LATEST = "latest:"
"""Before a folder: the newest complete output below it."""

SAFE_OPTIONS = frozenset(
    {
        "region",
        "scheme",
        "endpoint_override",
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "allow_delayed_open",
        "smart_defaults",
        "tls_ca_file_path",
        "tls_verify_certificates",
        "retry_limit_seconds",
        "project_id",
        "enable_tls",
        "blob_storage_authority",
        "dfs_storage_authority",
        "background_writes",
        "credential_kind",
        "tenant_id",
        "client_id",
        "user",
        "replication",
        "buffer_size",
        "default_block_size",
    }
)
"""Options that a URI may have: what pyarrow's filesystems know, without what is secret."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OPTIONS = re.compile(r"\?(?=[\w.%-]+=)")
_LINE_WITH_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\n]*")
_OPTION = re.compile(r"(?P<lead>[?&;])(?P<name>[^\s=&?/'\"]+)=(?P<value>[^\s&'\"]*)")
_NO_USER_SCHEMES = ("http", "https", "ftp", "s3", "s3a", "gs", "gcs", "hf", "ray")
_USERINFO = re.compile(
    r"://(?:[^\s/@:]*:(?!\d+(?:[/?\s]|$))[^\s@]*@|[^\s/@]*%3a[^\s/@]*@)|"
    rf"(?<![A-Za-z0-9+.-])(?:{'|'.join(_NO_USER_SCHEMES)})://[^\s/@?]+@",
    re.IGNORECASE,
)


def builtin_name(place: str) -> str | None:
    """The name after `builtin:`, None for all other places."""
    return place.removeprefix(BUILTIN) if place.startswith(BUILTIN) else None


def latest_folder(value: str) -> str | None:
    """The folder after `latest:`, None for all other places."""
    return value.removeprefix(LATEST) if value.startswith(LATEST) else None


def is_uri(path_or_uri: str) -> bool:
    return _URI.match(path_or_uri) is not None


def scheme_of(uri: str) -> str:
    return uri.partition("://")[0].lower()


def split_options(uri: str) -> tuple[str, str]:
    """Cut `?region=…` off a URI. A `?` that does not begin an option is part of the path: a glob."""
    options = _OPTIONS.search(uri) if is_uri(uri) else None
    return (uri[: options.start()], uri[options.start() :]) if options else (uri, "")


def options_of(uri: str) -> dict[str, str]:
    """The options of a URI by name, values unquoted."""
    pairs = (option.partition("=") for option in split_options(uri)[1].removeprefix("?").split("&") if option)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def problem_of(uri: str) -> str | None:
    """Why a URI must not be used: it has a secret, or an option that may be one. The text never shows the URI."""
    if secret := _secret_in(uri):
        return (
            f"The {scheme_of(uri)}:// URI has {secret}, which would end up in records and logs. Take it out and give "
            "credentials by environment variables, a profile or a role of the machine."
        )
    unknown = [name for name in options_of(uri) if name not in SAFE_OPTIONS]
    if unknown:
        name = unknown[0] if re.fullmatch(r"[A-Za-z][\w.-]{0,40}", unknown[0]) else "…"
        return (
            f"The {scheme_of(uri)}:// URI has the unknown option {name!r}. Known: {', '.join(sorted(SAFE_OPTIONS))}. "
            "Give credentials by environment variables, a profile or a role of the machine; a '?' that is a wildcard "
            "must not be followed by NAME=."
        )
    return None


def _secret_in(uri: str) -> str | None:
    path = uri.partition("?")[0]
    authority = unquote(path.split("/")[2])
    user, at, host = authority.rpartition("@")
    port = re.sub(r"^\[.*\]", "", host).partition(":")[2]
    if at and (":" in user or scheme_of(uri) in _NO_USER_SCHEMES):
        return "credentials ('user:password@')"
    if port and not (port.isascii() and port.isdigit()):
        return "what looks like credentials ('user:password@')"
    if "@" in options_of(uri).get("endpoint_override", ""):
        return "credentials in its option 'endpoint_override'"
    if scheme_of(uri) in ("http", "https") and "?" in uri:
        return "a query ('?…'), which may be a signature"
    return None


def shown_uri(uri: str) -> str:
    """The URI without userinfo and without the values of options that are not known to be harmless."""
    return redacted(uri) if is_uri(uri) else uri


def redacted(text: str) -> str:
    """The text with every URI in it as `shown_uri` would show it."""
    return _LINE_WITH_URI.sub(lambda match: _masked(match[0]), text) if "://" in text else text


def _masked(text: str) -> str:
    text = _USERINFO.sub(lambda match: f"{match[0].partition('://')[0]}://***@", text)
    return _OPTION.sub(_masked_option, text)


def _masked_option(match: re.Match[str]) -> str:
    is_safe = match["name"] in SAFE_OPTIONS and "@" not in match["value"].replace("***@", "")
    return match[0] if is_safe else f"{match['lead']}{match['name']}=***"

"""The model hub: list a repository and fetch named files of one commit.

Messages name the error's class only: what a hub client puts into its own can hold addresses with credentials.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from reranker_batch.errors import ModelError
from reranker_batch.model.quiet import quiet_download

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Files of one commit of a hub repository."""

    commit: str
    names: list[str]


def list_files(name: str, revision: str | None, *, timeout_s: float) -> Listing | None:
    """The files that `revision` of a model holds, or None where the hub does not answer.

    Raises:
        ModelError: The hub answered, and there is no such model or revision, or it is closed to us.
    """
    try:
        info = HfApi().model_info(name, revision=revision, timeout=timeout_s)
    except GatedRepoError:
        raise ModelError(
            f"Model {name} is gated. Accept its terms on the hub and give the job a token (environment HF_TOKEN)."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"Model {name} has no revision {revision!r}. Set model.revision.") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"Model {name} is neither a local folder nor a model on the hub (or it is private and the job has no "
            "token in HF_TOKEN). Set model.name."
        ) from None
    except Exception as error:  # The client's errors of transport differ between its versions.
        logger.info("the hub did not answer for %s (%s)", name, type(error).__name__)
        return None
    return Listing(str(info.sha), [item.rfilename for item in info.siblings or []])


def cached_folder(name: str, revision: str | None) -> Path:
    """The folder of a model that an earlier run downloaded; its name is the commit.

    Raises:
        ModelError: There is none.
    """
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        raise ModelError(_unreachable(name)) from None


def download(name: str, commit: str, files: list[str]) -> Path:
    """Fetch `files` of one commit, as far as the local cache lacks them, and give the folder.

    Raises:
        ModelError: The hub broke off.
    """
    try:
        with quiet_download():
            return Path(snapshot_download(name, revision=commit, allow_patterns=[_literal(item) for item in files]))
    except Exception as error:
        raise ModelError(f"{_unreachable(name)} ({type(error).__name__})") from None


def _literal(name: str) -> str:
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def _unreachable(name: str) -> str:
    return (
        f"Model {name} is not a local folder, and the hub cannot be reached from this machine, nor does its cache "
        "hold the model. Copy the model's folder here and set model.name to it, or download it where the hub answers."
    )

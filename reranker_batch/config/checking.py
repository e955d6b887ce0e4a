"""Plain values checked against a section of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reranker_batch.config.complaints import complaints
from reranker_batch.errors import ConfigError

SectionT = TypeVar("SectionT", bound=BaseModel)


def checked(section: type[SectionT], values: Mapping[str, Any], title: str) -> SectionT:
    """The section with these values.

    Raises:
        ConfigError: `title`, then one line for every wrong key or value.
    """
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{title}:\n" + "\n".join(complaints(error, section))) from None

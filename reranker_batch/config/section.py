"""What every section of the settings is: strict, frozen, without unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

LARGEST = 2**31 - 1

Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """No file, column or model can have such a name."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
                raise ValueError(f"{text!r} is not valid text: it has a NUL or bytes that are not UTF-8")
        return value

"""Settings that stand in a file of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from reranker_batch.config.checking import checked
from reranker_batch.config.overrides import apply_override
from reranker_batch.config.sections import Section
from reranker_batch.config.yaml_file import read_config_file


class ConfigFile(Section):
    """All settings of a command.

    Build it from a file with `load`, from plain values with `of`.
    """

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Check plain values.

        Raises:
            ConfigError: With one line for every wrong key or value.
        """
        return checked(cls, values, "The config is wrong")

    @classmethod
    def load(cls, path: str | Path, *, overrides: Iterable[str] = ()) -> Self:
        """Read a YAML file and apply `section.key=value` overrides.

        Unquoted values are read by the type of their key: a key that takes text gets the text as it stands.

        Raises:
            ConfigError: File missing, not YAML, or a wrong key or value.
        """
        values = read_config_file(Path(path), cls)
        for override in overrides:
            apply_override(values, override, cls)
        return cls.of(values)

    def to_yaml(self) -> str:
        """Every key, defaults included, as a config file that `load` reads; characters that cannot be seen escaped."""
        options: dict[str, Any] = {"sort_keys": False, "width": sys.maxsize}
        text: str = yaml.safe_dump(self.model_dump(), allow_unicode=True, **options)
        is_visible = all(line.isprintable() for line in text.split("\n"))
        return text if is_visible else str(yaml.safe_dump(self.model_dump(), **options))

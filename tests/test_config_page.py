"""Every key of the config is described, documented and tried."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reranker_batch.config import JobConfig
from reranker_batch.config.labels import LabelConfig
from reranker_batch.config.page import LABEL_SCHEMA, PAGE, SCHEMA, config_page, config_schema, label_schema
from reranker_batch.config.plain import SectionType, item_of, section_of

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "configs").glob("*.yaml")]
USES = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path != Path(__file__))


def sections(section: SectionType, prefix: str = "") -> Iterator[tuple[str, SectionType]]:
    """A section and those inside it, each with the prefix of its keys."""
    yield prefix, section
    for name, field in section.model_fields.items():
        if (inner := section_of(field.annotation)) is not None:
            yield from sections(inner, f"{prefix}{name}.")
        elif (item := section_of(item_of(field.annotation))) is not None:
            yield from sections(item, f"{prefix}{name}[].")


ROOTS = [*sections(JobConfig), *sections(LabelConfig, "label: ")]


def described() -> Iterator[tuple[str, str | None]]:
    """Sections and keys by their dotted names, with what is said about them."""
    for prefix, section in ROOTS:
        for name, field in section.model_fields.items():
            inner = section_of(field.annotation)
            yield prefix + name, field.description if inner is None else inner.__doc__


DESCRIPTIONS = dict(described())


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_key_has_a_description(name: str) -> None:
    description = DESCRIPTIONS[name]
    assert description, f"{name} has no description"
    assert description.rstrip().endswith("."), f"{name}: a description is one or more sentences"
    assert "|" not in description, f"{name}: this would break the table of docs/{PAGE}"


def test_what_auto_and_null_mean_is_said() -> None:
    for name, section in ROOTS:
        for key, field in section.model_fields.items():
            if field.default in (None, "auto"):
                word = "null" if field.default is None else "auto"
                assert word in (field.description or ""), f"{name}{key}: say what {word} means"


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_key_is_set_in_a_test_or_a_config(name: str) -> None:
    key = name.rpartition(".")[2].removeprefix("label: ")
    assert re.search(rf"\b{key}[\"']?\s*[:=](?!=)", USES), f"no test and no file of configs/ sets {name}"


def test_the_page_names_every_key() -> None:
    page = config_page()
    for name in DESCRIPTIONS:
        key = name.rpartition(".")[2].removeprefix("label: ")
        headings = (f"\n## {name}\n", f"\n## {name.removeprefix('label: ')}\n")
        assert any(heading in page for heading in headings) or f"\n| `{key}` | " in page


def test_page_and_schema_are_those_of_the_code() -> None:
    """`make docs` writes them."""
    assert (ROOT / "docs" / PAGE).read_text(encoding="utf-8") == config_page()
    assert (ROOT / "docs" / SCHEMA).read_text(encoding="utf-8") == config_schema()
    assert (ROOT / "docs" / LABEL_SCHEMA).read_text(encoding="utf-8") == label_schema()


def test_the_schema_is_one_that_editors_read() -> None:
    schema = json.loads(config_schema())
    assert schema["required"] == ["model", "output"]
    assert schema["additionalProperties"] is False

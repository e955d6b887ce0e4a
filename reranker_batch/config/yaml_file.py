"""A config file as plain values. YAML without what surprises: no anchors, no tags, no key twice, no guessed types."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from reranker_batch.config.plain import SectionType, item_of, may_be_null, read_plain, section_of, type_of
from reranker_batch.errors import ConfigError

_LARGEST_BYTES = 1 << 18
_DEEPEST = 20
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_NEEDS_QUOTES = re.compile(
    r"""(?P<before>(?:[\w.-]+:|-)\s+)(?P<value>[*&!%@`{}\[\]|>?,][^'"]*|[^'"]*:\s[^'"]*|[^'"]+:)$"""
)
_FORM = "A line is 'key: value', indented with spaces below its section; quotes and brackets are closed."


class _NotPlainError(Exception):
    """YAML that no config needs. The message is a sentence for the user."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def read_config_file(path: Path, root: SectionType) -> dict[str, Any]:
    """The values of a YAML file, unquoted ones by the types of their keys.

    Raises:
        ConfigError: The file cannot be read, is not text, not YAML, has a key twice or no sections.
    """
    text = _text_of(path)
    node = _composed(text, f"Config file {path}")
    if not isinstance(node, MappingNode):
        raise ConfigError(f"Config file {path} must hold sections such as 'input:' and 'model:'.")
    return _mapping(node, root, f"Config file {path}")


def read_list(text: str, where: str, annotation: Any) -> list[Any]:
    """`[a, 'b c']`, its items read by the type that they have in `annotation`.

    Raises:
        ConfigError: It is no list of single values.
    """
    node = _composed(text, where)
    if not isinstance(node, SequenceNode) or not all(isinstance(item, ScalarNode) for item in node.value):
        raise ConfigError(f"{where}: the value is no list of names, such as [a, b].")
    return [item.value if item.style else read_plain(item.value, item_of(annotation)) for item in node.value]


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as source:
            content = source.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"Config file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"Config file {path} cannot be read: {error}.") from None
    if len(content) > _LARGEST_BYTES:
        raise ConfigError(f"{path} is larger than {_LARGEST_BYTES >> 10} KiB, so it is no config file.")
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    try:
        return content.removeprefix(mark).decode(_BOMS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"Config file {path}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from None


def _composed(text: str, where: str) -> Node | None:
    try:
        _check_events(text)
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node
    except _NotPlainError as error:
        raise ConfigError(_explained(text, error.line, where, f"{error} ")) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_explained(text, _line_of(error), where)) from None
    except yaml.reader.ReaderError as error:
        line, code = text.count("\n", 0, error.position) + 1, ord(text[error.position])
        raise ConfigError(f"{where}, line {line}: the character U+{code:04X} is not allowed. Remove it.") from None
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF"
        raise ConfigError(f"{where} is not YAML that can be used: an escape in quotes is no character.") from None


def _line_of(error: yaml.MarkedYAMLError) -> int:
    """Of a quote or bracket that is not closed, where it is opened."""
    is_open = error.context is not None and re.search("quoted|flow", error.context) is not None
    mark = error.context_mark if is_open and error.context_mark is not None else error.problem_mark
    return 0 if mark is None else mark.line


def _check_events(text: str) -> None:
    """No anchors, aliases and tags, which multiply or mean types, and no depth that only an attack has."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line if event.start_mark is not None else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _NotPlainError("Anchors (&name) and aliases (*name) have no place here.", line)
        if getattr(event, "tag", None) is not None:
            raise _NotPlainError("Tags (!name) have no place here.", line)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _NotPlainError("This is nested too deeply.", line)


def _explained(text: str, number: int, where: str, problem: str = "") -> str:
    """The line and what to do about it, without the words of a YAML parser."""
    lines = text.splitlines()
    line = lines[min(number, len(lines) - 1)].strip() if lines else ""
    shown = line if len(line) <= 100 else f"{line[:100]}…"
    return f"{where}, line {number + 1} is not YAML that can be used: {shown!r}. {problem}{_remedy(line, text, number)}"


def _remedy(line: str, text: str, number: int) -> str:
    if "\t" in text.split("\n")[min(number, text.count("\n"))].partition("#")[0]:
        return "Indent with spaces, not with tabs."
    if match := _NEEDS_QUOTES.match(line):
        value = match["value"].strip().replace("'", "''")
        return f"A value with special characters needs quotes: {match['before']}'{value}'"
    return _FORM


def _mapping(node: MappingNode, section: SectionType | None, where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise ConfigError(f"{where}, line {line}: a key must be a name.")
        key = _repaired(key_node.value)
        if key in lines:
            raise ConfigError(f"{where}, line {line}: {key!r} is there twice, first in line {lines[key]}. Remove one.")
        lines[key] = line
        values[key] = _value(value_node, None if section is None else type_of(section, key), where)
    return values


def _value(node: Node, annotation: Any, where: str) -> Any:
    section = section_of(annotation)
    if isinstance(node, MappingNode):
        return _mapping(node, section, where)
    if isinstance(node, SequenceNode):
        return _items(node, annotation, where)
    if not isinstance(node, ScalarNode) or node.style is not None:
        return _repaired(node.value)
    if node.value in ("", "null", "~", "Null", "NULL"):
        return {} if section is not None and not may_be_null(annotation) else None
    return read_plain(node.value, annotation)


def _items(node: SequenceNode, annotation: Any, where: str) -> list[Any]:
    """Texts, unless the type of the key says what else the items of its lists may be."""
    item = item_of(annotation)
    return [_value(each, str if item is None else item, where) for each in node.value]


def _repaired(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, which the YAML reader leaves apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

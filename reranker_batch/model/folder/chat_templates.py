"""Chat templates of a repository, and the text that each makes of a query and a document.

A pair is put into messages as sentence-transformers does it: the roles `query` and `document`, and `system` for an
instruction. A template that does not render both texts is made for chats and says nothing about pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.bounded import run_bounded
from reranker_batch.model.folder.json_files import read_optional_object, read_text
from reranker_batch.model.folder.st_settings import ModuleSettings, is_module_layout, module_settings

CANARY_PAIRS = (
    ("what is the capital of France", "Paris is the capital of France"),
    ("naïve café 東京 3 of 4", "line one\nline two  with   spaces, (brackets) and 12.5 % of ﬁne ünïts"),
    ("short", " ".join(["a document of many words that no template may cut"] * 60)),
)
"""Texts that begin and end in letters, so that no tokenizer joins them with what stands around them."""

_PROBES = (("alpha", "bravo"), ("charlie", "bravo"), ("alpha", "foxtrot"))
_MADE_UP_ROLES = ("rolealpha", "rolebravo")
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
_OWN_ARGUMENTS = frozenset({"conversations", "messages", "chat_template", "tools", "tokenize", "return_dict"})
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template: where it stands, its text, and how messages are given to it."""

    place: str
    text: str
    is_structured: bool
    options: Mapping[str, Any]


@dataclass(frozen=True)
class RenderedPairs:
    """What a template makes of `CANARY_PAIRS`, without an instruction and with one; None where it fails."""

    place: str
    plain: tuple[str, ...] | None
    instructed: tuple[str, ...] | None


def render_pairs(folder: Path, instruct: str | None) -> list[RenderedPairs]:
    """What the folder's templates for pairs make of `CANARY_PAIRS`; empty where none of its templates is for pairs.

    The default template alone where it renders pairs, or the one that sentence-transformers' settings name.

    Raises:
        ModelError: A file with a template is damaged.
    """
    settings = module_settings(folder)
    templates = _templates(folder, settings)
    if settings.chat_template is not None:
        templates = _selected(templates, settings)
    rendered = ((name, _render(folder, template, instruct)) for name, template in templates.items())
    speaking = {name: pairs for name, pairs in rendered if pairs is not None}
    return [speaking["default"]] if "default" in speaking else list(speaking.values())


def _templates(folder: Path, settings: ModuleSettings) -> dict[str, ChatTemplate]:
    """By name; files with templates replace those in tokenizer_config.json, as in transformers."""
    templates = dict(_template_files(folder)) or dict(_configured(folder))
    return {name: _prepared(folder, place, text, settings) for name, (place, text) in templates.items()}


def _template_files(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    default = folder / "chat_template.jinja"
    if default.is_file():
        yield "default", (default.name, read_text(default))
    for path in sorted(folder.glob("additional_chat_templates/*.jinja")):
        yield path.stem, (f"additional_chat_templates/{path.name}", read_text(path))


def _configured(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    path = folder / "tokenizer_config.json"
    value = read_optional_object(path).get("chat_template")
    place = f"{path.name} (chat_template)"
    if isinstance(value, str):
        yield "default", (place, value)
    elif isinstance(value, list):
        for item in value:
            if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("name", "template")):
                raise ModelError(f"{path} has a chat_template without a name and a template. Copy the model again.")
            yield item["name"], (f"{place}, {item['name']}", item["template"])
    elif value is not None:
        raise ModelError(f"{path} has a {type(value).__name__} as chat_template. Copy the model again.")


def _prepared(folder: Path, place: str, text: str, settings: ModuleSettings) -> ChatTemplate:
    is_structured = any(pattern in text for pattern in _STRUCTURED)
    if settings.message_format is not None:
        is_structured = settings.message_format == "structured"
    options = {key: value for key, value in settings.template_options.items() if key not in _OWN_ARGUMENTS}
    return ChatTemplate(place, text, is_structured, {**_special_tokens(folder), **options})


def _selected(templates: Mapping[str, ChatTemplate], settings: ModuleSettings) -> dict[str, ChatTemplate]:
    chosen = settings.chat_template or ""
    assert settings.source is not None
    if chosen in templates:
        return {"default": templates[chosen]}
    return {"default": _prepared(settings.source.parent, settings.source.name, chosen, settings)}


def _special_tokens(folder: Path) -> dict[str, str]:
    settings = {
        **read_optional_object(folder / "special_tokens_map.json"),
        **read_optional_object(folder / "tokenizer_config.json"),
    }
    tokens = {f"{name}_token": settings.get(f"{name}_token") for name in _SPECIAL}
    contents = {name: value.get("content") if isinstance(value, dict) else value for name, value in tokens.items()}
    return {name: value for name, value in contents.items() if isinstance(value, str)}


def _render(folder: Path, template: ChatTemplate, instruct: str | None) -> RenderedPairs | None:
    """None where the template does not render both texts of a pair, or is made for chats of any roles."""
    plain = [_conversation(template, pair, None) for pair in (*_PROBES, *CANARY_PAIRS)]
    instructed = [_conversation(template, pair, instruct) for pair in (*_PROBES, *CANARY_PAIRS)]
    chat = _conversation(template, _PROBES[0], None, roles=_MADE_UP_ROLES)
    texts = _rendered(template.text, json.dumps([*plain, *instructed, chat]), json.dumps(dict(template.options)))
    if texts is None:
        return None
    *pairs, of_chat = texts
    if not is_module_layout(folder) and all(role in (of_chat or "") for role in _MADE_UP_ROLES):
        return None
    one, other = (_speaking(pairs[at : at + len(plain)]) for at in (0, len(plain)))
    return RenderedPairs(template.place, one, other) if one or other else None


def _speaking(texts: Sequence[str | None]) -> tuple[str, ...] | None:
    """The texts of `CANARY_PAIRS`, where the probes show that query and document both reach the text."""
    complete = tuple(text for text in texts if text is not None)
    if len(complete) < len(texts) or complete[0] in complete[1 : len(_PROBES)]:
        return None
    return complete[len(_PROBES) :]


@lru_cache(maxsize=64)
def _rendered(template: str, conversations: str, options: str) -> tuple[str | None, ...] | None:
    """Renderings of one template, None where it is over the bounds of time or memory."""
    answer = run_bounded(
        "render", template=template, conversations=json.loads(conversations), options=json.loads(options)
    )
    return None if answer is None else tuple(answer)


def _conversation(
    template: ChatTemplate,
    pair: tuple[str, str],
    instruct: str | None,
    *,
    roles: tuple[str, str] = ("query", "document"),
) -> list[dict[str, Any]]:
    texts = [*((("system", instruct),) if instruct else ()), *zip(roles, pair, strict=True)]
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if template.is_structured else text}
        for role, text in texts
    ]

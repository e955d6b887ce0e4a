"""Whether a repository's own chat template makes the prompt of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from reranker_batch.model.folder.chat_templates import CANARY_PAIRS, RenderedPairs
from reranker_batch.model.recipes.recipe import Kind, Recipe

_SHOWN_CHARACTERS = 1_500


def prompt_texts(recipe: Recipe) -> tuple[str, ...]:
    """The prompts of `CANARY_PAIRS` by the recipe, control tokens spelled out."""
    prompt = recipe.required_prompt
    instruct = prompt.instruct_text(recipe.instruct)
    pieces = prompt.parsed(instruct)
    return tuple(
        "".join(piece.fill({"instruct": instruct, "query": query, "document": document}) for piece in pieces)
        for query, document in CANARY_PAIRS
    )


def readings(recipe: Recipe, rendered: RenderedPairs) -> Iterator[tuple[Recipe, tuple[str, ...]]]:
    """Texts of the template, each with the recipe whose prompts they must be; one that agrees is enough.

    With an instruction it is given to the template. One whose template has the family's own instruction built in is
    of the family anyway, and another instruction may be put in that place.
    """
    asked = recipe.instruct if recipe.uses_instruct else None
    if asked and rendered.instructed:
        yield recipe, rendered.instructed
    if rendered.plain:
        yield (recipe.with_instruct(None) if asked else recipe), rendered.plain
    elif not asked and rendered.instructed:
        yield recipe, rendered.instructed


def agreeing(recipe: Recipe, rendered: RenderedPairs) -> tuple[Recipe, tuple[str, ...]] | None:
    """The reading whose texts are the recipe's prompts, if any. The last newline may be missing: Jinja drops one."""
    return next((reading for reading in readings(recipe, rendered) if _agrees(*reading)), None)


def compared_reading(recipe: Recipe, rendered: RenderedPairs) -> tuple[Recipe, tuple[str, ...]] | None:
    """The reading whose ids the encoder's are compared with; None if the recipe's prompt is another one.

    Without a prompt, the encoder's own ids are all there is to compare with.
    """
    return next(readings(recipe, rendered)) if recipe.kind is Kind.PAIR else agreeing(recipe, rendered)


def _agrees(recipe: Recipe, texts: tuple[str, ...]) -> bool:
    prompts = prompt_texts(recipe)
    # The tokenizer begins one text by itself; a template may leave that to it.
    start = recipe.required_prompt.pieces[0] if recipe.kind is Kind.TEXT else ""
    return all(
        text in (prompt, prompt.removesuffix("\n"), prompt.removeprefix(start))
        for text, prompt in zip(texts, prompts, strict=True)
    )


def closest(recipes: Sequence[Recipe], rendered: RenderedPairs) -> Recipe:
    """The recipe whose prompt is most like what the template makes."""

    def likeness(recipe: Recipe) -> float:
        as_read, theirs = next(iter(readings(recipe, rendered)))
        return SequenceMatcher(None, prompt_texts(as_read)[0], theirs[0], autojunk=False).ratio()

    return max(recipes, key=likeness)


def template_difference(recipe: Recipe, rendered: RenderedPairs) -> str:
    """Both texts of a pair for which template and recipe differ, for a message."""
    as_read, theirs = next(iter(readings(recipe, rendered)))
    ours = prompt_texts(as_read)
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), 0)
    return f"{rendered.place} makes {shown(theirs[at])}, the recipe {recipe.name} makes {shown(ours[at])}"


def shown(text: str | Sequence[int]) -> str:
    """A text in quotes with its control characters visible, cut in the middle if it is long."""
    written = repr(text)
    half = _SHOWN_CHARACTERS // 2
    return written if len(written) <= _SHOWN_CHARACTERS else f"{written[:half]} ... {written[-half:]}"

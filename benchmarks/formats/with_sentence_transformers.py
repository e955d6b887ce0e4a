"""sentence-transformers: its miner of hard negatives writes its four layouts, in the files of `datasets`."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from sample import case, main
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

PAIRS = {
    "anchor": ["a boy, jumping", 'who is "007"', "größer als 数", "two dogs"],
    "positive": ['He "jumps", he does', "Bond,\nJames", "Größe 📏", "Dogs play"],
}


def write(folder: Path) -> None:
    for layout, file in (
        ("triplet", "csv"),
        ("n-tuple", "parquet"),
        ("labeled-pair", "csv"),
        ("labeled-list", "jsonl"),
    ):
        mined = mine_hard_negatives(
            Dataset.from_dict(PAIRS), model(), num_negatives=2, output_format=layout, range_min=0, verbose=False
        )
        name, path = CONFIGS[layout]["format"], f"data.{file}"
        goal = case(folder, name, {"input": {"path": path, **CONFIGS[layout]}}, expected(layout, mined)) / path
        {"csv": mined.to_csv, "parquet": mined.to_parquet, "jsonl": mined.to_json}[file](goal)


CONFIGS: dict[str, dict[str, Any]] = {
    "triplet": {"format": "triplets"},
    "n-tuple": {"format": "n-tuples"},
    "labeled-pair": {"format": "labelled-pairs"},
    "labeled-list": {"format": "labelled-lists"},
}


def expected(layout: str, mined: Dataset) -> list[dict[str, Any]]:
    queries: list[dict[str, Any]] = []
    for row in mined:
        texts = [value for key, value in row.items() if key not in ("anchor", "label", "labels")]
        documents = texts[0] if layout == "labeled-list" else texts
        candidates = [[None, text] for text in documents]
        if layout == "labeled-pair" and queries and queries[-1]["query"] == row["anchor"]:
            queries[-1]["candidates"] += candidates
        else:
            queries.append({"query_id": None, "query": row["anchor"], "candidates": candidates})
    return queries


def model() -> SentenceTransformer:
    """Any embedding does: what is tried is the layout of the files."""
    words = sorted({word for texts in PAIRS.values() for text in texts for word in text.split()})
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, **{word: at for at, word in enumerate(words, 1)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    return {}


if __name__ == "__main__":
    main(write, read)

"""RankLLM: its writer writes requests as JSON and as JSON lines."""

from pathlib import Path

from rank_llm.data import Candidate, DataWriter, Query, Request, read_requests_from_file
from sample import CORPUS, QUERIES, RUN, answer, case, main, ranked, text_of


def write(folder: Path) -> None:
    runs = sorted(ranked(RUN).items())
    titled = {doc: dict(CORPUS[doc]) for doc in CORPUS}
    whole = {doc: {"contents": text_of(doc)} for doc in CORPUS}
    for name, file, documents in (("rankllm_json", "r.json", whole), ("rankllm_jsonl", "r.jsonl", titled)):
        path = case(folder, name, {"input": {"path": file, "format": "rankllm"}}, answer()) / file
        writer = DataWriter(
            [
                Request(Query(QUERIES[query], query), [Candidate(doc, RUN[query][doc], documents[doc]) for doc in docs])
                for query, docs in runs
            ]
        )
        if file.endswith("l"):
            writer.write_in_jsonl_format(str(path))
            assert len(read_requests_from_file(str(path))) == len(runs)
        else:
            writer.write_in_json_format(str(path))


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    return {}


if __name__ == "__main__":
    main(write, read)

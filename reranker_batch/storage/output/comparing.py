"""How far the rankings of an output moved, against another output or the order of its own input."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from reranker_batch.core.mapping import Caught, Mapper, in_threads, raised
from reranker_batch.core.movement import Movement, movement_of
from reranker_batch.core.ragged import IntArray, Ragged, offsets_of
from reranker_batch.core.rank_matches import Rankings, match_first_stage, match_rankings
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.query_join import JoinedLists, join_by_query
from reranker_batch.storage.output.ranked_lists import column_of, list_parts, read_part_lists, read_ranked_lists
from reranker_batch.storage.values import list_lengths


def compare_outputs(before: Folder, after: Folder) -> Movement:
    """Movement of the queries that both outputs have, whatever their layouts, units and order.

    Documents of a query are the same where their ids are equal. Neighbours with equal logits are tied. Takes one
    pass over both and temporary files of about the size of their ids and scores.

    Raises:
        CommitError: A part of either cannot be read, or the folder for temporary files is full.
    """
    joined = join_by_query(read_ranked_lists(before), read_ranked_lists(after))
    return sum((_movement_of_joined(lists) for lists in joined), Movement())


def compare_with_first_stage(output: Folder, *, each: Mapper = in_threads) -> Movement:
    """Movement of the kept candidates against the order in which each query's candidates came.

    See `match_first_stage` for what is known of candidates that were not kept. `each` says where parts are read.

    Raises:
        CommitError: A part cannot be read.
    """
    paths = [info.path for info in list_parts(output)]
    return sum(raised(each(Caught(partial(_movement_of_part, output)), paths)), Movement())


def _movement_of_part(output: Folder, path: str) -> Movement:
    tables = read_part_lists(output, path, ("doc_id", "index", "logit"))
    return sum((_movement_of_lists(table) for table in tables), Movement())


def _movement_of_lists(lists: pa.Table) -> Movement:
    index = column_of(lists, "index")
    logits = column_of(lists, "logit").flatten().to_numpy()
    matches = match_first_stage(index.flatten().to_numpy(), list_lengths(index), logits)
    return movement_of(matches, column_of(lists, "query_id"), column_of(lists, "doc_id").flatten())


def _movement_of_joined(lists: JoinedLists) -> Movement:
    before, after = column_of(lists.before, "doc_id"), column_of(lists.after, "doc_id")
    doc_ids = [before.flatten(), after.flatten()]
    codes = pa.concat_arrays(doc_ids).dictionary_encode().indices.to_numpy()
    matches = match_rankings(
        _rankings(before, codes[: len(doc_ids[0])], lists.before),
        _rankings(after, codes[len(doc_ids[0]) :], lists.after),
    )
    others = Movement(
        queries_only_before=lists.num_only_before,
        queries_only_after=lists.num_only_after,
        repeated_queries=lists.num_repeated,
    )
    return others + movement_of(matches, column_of(lists.after, "query_id"), doc_ids[1])


def _rankings(documents: pa.LargeListArray, codes: IntArray, lists: pa.Table) -> Rankings:
    scores = column_of(lists, "logit").flatten().to_numpy()
    return Rankings(Ragged(codes, offsets_of(list_lengths(documents))), scores)

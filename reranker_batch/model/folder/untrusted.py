"""What untrusted files of a model make a library do, in a process of its own: run as a script by `bounded`.

Reads one JSON value from standard input and writes one to standard output.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

_MAX_CHARACTERS = 1_000_000


def _limit(cpu_s: int, memory_bytes: int) -> None:
    """From here on: so much more processor time and memory than the process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, mapped + memory_bytes))


def _render(request: dict[str, Any]) -> list[str | None]:
    """Each conversation as text; None for one that the template does not render."""
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit(request["cpu_s"], request["memory_bytes"])

    def rendered(conversation: Any) -> str | None:
        try:
            answer: Any = render_jinja_template(
                conversations=[conversation], chat_template=request["template"], **request["options"]
            )
        except Exception:
            return None
        text = str(answer[0][0])
        return text if len(text) <= _MAX_CHARACTERS else None

    return [rendered(conversation) for conversation in request["conversations"]]


def _normalize(request: dict[str, Any]) -> list[int] | None:
    """Characters that each text becomes before a tokenizer's model reads it; None where a pattern gives up."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(json.dumps(request["tokenizer"]))
    _limit(request["cpu_s"], request["memory_bytes"])
    try:
        return [_length(backend, text) for text in request["texts"]]
    except BaseException:  # The library panics at such a pattern, which is no Exception.
        return None


def _length(backend: Any, text: str) -> int:
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
    words = backend.pre_tokenizer.pre_tokenize_str(normalized) if backend.pre_tokenizer else []
    return max(len(normalized), sum(len(word) for word, _ in words))


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answer = _render(request) if request["task"] == "render" else _normalize(request)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()

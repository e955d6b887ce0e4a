"""Fixed texts that a tokenizer and a model are tried on at load, before any row of the input."""

from __future__ import annotations

PLAIN_TEXTS = (
    "what is a panda?",
    "The giant panda (Ailuropoda melanoleuca) is a bear species endemic to China.",
    "Straße, naïve café, Ångström, ﬁne ½ №5, e\u0301te\u0301",
    "Быстрая коричневая лиса прыгает через ленивую собаку, 2026 год.",
    "γρήγορη αλεπού πηδάει πάνω από το σκυλί.",
    "敏捷的棕色狐狸跳过了懒狗。東京都は日本の首都です。",
    "서울은 대한민국의 수도이다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول",
    "תל אביב היא עיר בישראל",
    "हिन्दी में एक वाक्य ज़रूरी है।",
    "ภาษาไทยไม่มีช่องว่าง",
    "🐼👩‍👩‍👧 emoji 🇺🇳 and ™ signs ₿",
    "def f(x): return x**2  # code_like-Text, 3.14 <b>html</b> a@b.org",
)
"""Ordinary text: a tokenizer is not used if transformers and its own file read any of it differently."""

SPACED_TEXTS = (
    "",
    " ",
    "\n",
    "  two  spaces  around  ",
    "tab\tand\nline\r\nbreaks\u00a0no-break\u3000wide",
    " leading",
    "trailing ",
    "zero\u200bwidth \u200fmarks\ufeff",
    "a",
    "\u0301",
    "▁ ## Ġ",
)
"""Odd spacing and empty texts, where tokenizers of one family differ without harm."""

TEXTS = PLAIN_TEXTS + SPACED_TEXTS

PAIRS = tuple(
    (query, document)
    for shift in (0, 1, 5)
    for query, document in zip(TEXTS, TEXTS[shift:] + TEXTS[:shift], strict=True)
)
"""Every text as a query and as a document, paired with itself, its neighbour and one of another script."""

TRIAL_PAIRS = (
    *((query, document) for query, document in zip(PLAIN_TEXTS, PLAIN_TEXTS[2:] + PLAIN_TEXTS[:2], strict=True)),
    *((text, text) for text in PLAIN_TEXTS[:3]),
    *((text, "") for text in PLAIN_TEXTS[1:3]),
    ("", "a"),
    (PLAIN_TEXTS[0], " ".join(PLAIN_TEXTS)),
    (PLAIN_TEXTS[1], " ".join(PLAIN_TEXTS[:6] * 2)),
)
"""Pairs of all lengths, two of them longer than the windows of local attention, to compare forward passes on."""

SCORED_PAIRS = (
    ("what is a panda?", "hi"),
    (
        "what is a panda?",
        "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear "
        "species endemic to China.",
    ),
    ("Which planet is known as the Red Planet?", "Mars, known for its reddish appearance, is the Red Planet."),
    ("Which planet is known as the Red Planet?", "Der Zug nach Hamburg fährt heute von Gleis sieben ab."),
    ("how to sort a list in python", "Use sorted(items) for a new list, or items.sort() to sort in place. " * 6),
    ("столица Франции", "Париж — столица и крупнейший город Франции."),
)
"""Relevant and irrelevant, short and long: no working reranker gives all of them the same score."""

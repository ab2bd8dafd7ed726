"""Self-reflection by keywords, as oat-zero counts it: what the census of behaviours is compared with.

A completion reflects if any keyword occurs in it, in any case, anywhere. The words are those of the authors'
scripts: `analysis/eval_self_reflect.py` of sail-sg/oat-zero (one list a model family) and
`analysis/keyword_count.py` of sail-sg/understand-r1-zero (one pool for all, which there is crossed with a language
model's judgement). Source: Liu et al., "There may not be aha moment in R1-Zero-like training" (2025), and arXiv
2503.20783. The code is ours, and so is what it is scored against: keywords tell no behaviours apart, hence
"verification or backtracking".
"""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "qwen": ("recheck", "rethink", "try again"),
    "llama": ("recheck", "rethink", "check again", "re-evaluate", "try again", "re-examine"),
    "rho": ("recheck", "rethink", "check again", "re-evaluate", "try again", "re-examine"),
    "deepseek": (
        *("reevaluate", "reevaluation", "recheck", "rethink", "check again", "re-evaluate", "try again"),
        "re-examine",
    ),
}
POOL = (
    *(
        "recheck",
        "rethink",
        "reassess",
        "reevaluate",
        "re-evaluate",
        "reevaluation",
        "re-examine",
        "reexamine",
    ),
    *("reconsider", "reanalyze", "double-check", "check again", "think again", "verify again"),
    "go over the steps",
)


def count_keywords(text: object, keywords: tuple[str, ...] = POOL) -> int:
    """Count how often keywords occur in a text, 0 for what is no text.

    >>> count_keywords("Let me recheck. Recheck done.")
    2
    """
    if not isinstance(text, str):
        return 0
    lower = text.lower()
    return sum(lower.count(keyword) for keyword in keywords)

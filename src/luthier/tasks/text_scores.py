"""How near a written text is to the expected one: exact match, ROUGE-L, BLEU and chrF from counts that may be summed.

BLEU (Papineni et al. 2002, aclanthology.org/P02-1040) and chrF (Popović 2015, aclanthology.org/W15-3049) are
scores of a whole corpus: functions of n-gram counts summed over its rows. So a row gives its counts, and any set of
rows - a split, a bootstrap draw - gets its scores from their sums, equal to sacrebleu's `corpus_bleu` (13a tokens,
exponential smoothing) and `corpus_chrf` (characters up to 6, beta 2, no words). ROUGE-L (Lin 2004,
aclanthology.org/W04-1013) is the mean over rows of rouge-score's F-measure without stemming, whose words are runs of
a-z and 0-9. Where most letters of the expected text are not Latin, every text would score 0: there words are what
stands between blanks and signs, and characters in scripts that are written without blanks. Exact match compares the
texts as they are, but for white space around them: case, accents and punctuation count.

Of several expected texts ROUGE-L and chrF take the best, exact match any, and BLEU all (clipped by the most of any,
length nearest to the given).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

BLEU_ORDER, CHRF_ORDER = 4, 6
_BLEU = slice(3, 3 + 2 + 2 * BLEU_ORDER)
_CHRF = slice(_BLEU.stop, _BLEU.stop + 3 * CHRF_ORDER)
WIDTH = _CHRF.stop
"""Columns of `text_counts`: 1, exact, ROUGE-L's F, then sacrebleu's statistics for BLEU and for chrF."""


def text_counts(expected: Sequence[str], given: str) -> np.ndarray:
    """WIDTH numbers of one row, which may be summed over rows: `given` against the texts that are accepted.

    No accepted text stands for one that is empty.
    """
    accepted = list(expected) or [""]
    bleu, chrf = _metrics()
    references = [[text] for text in accepted]
    out = np.zeros(WIDTH)
    out[0] = 1
    out[1] = any(text.strip() == given.strip() for text in accepted)
    out[2] = max(rouge_l(text, given) for text in accepted)
    out[_BLEU] = bleu._extract_corpus_statistics([given], references)[0]
    out[_CHRF] = chrf._extract_corpus_statistics([given], references)[0]
    return out


def text_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Sums [... x WIDTH] to scores [...]: exact match and ROUGE-L 0..1, BLEU and chrF 0..100; NaN without rows."""
    rows = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "exact_match": sums[..., 1] / rows,
            "rouge_l": sums[..., 2] / rows,
            "bleu": np.where(rows > 0, _bleu(sums[..., _BLEU]), np.nan),
            "chrf": np.where(rows > 0, _chrf(sums[..., _CHRF]), np.nan),
        }


def rouge_l(expected: str, given: str) -> float:
    """The F-measure of the longest common subsequence of words, as rouge-score gives it: 0 without a word."""
    words = _words if _is_latin(expected) else _words_of_any_script
    due, said = words(expected), words(given)
    if not due or not said:
        return 0.0
    common = _common(due, said)
    precision, recall = common / len(said), common / len(due)
    return 2 * precision * recall / (precision + recall) if common else 0.0


@lru_cache(maxsize=1)
def _metrics() -> tuple[Any, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(force=True, max_ngram_order=BLEU_ORDER), CHRF(char_order=CHRF_ORDER)


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    from rouge_score.tokenize import tokenize

    return tuple(tokenize(text, None))


@lru_cache(maxsize=4096)
def _is_latin(text: str) -> bool:
    """Whether at least half of the letters are Latin, so that rouge-score finds words."""
    letters = [c for c in text if c.isalpha()]
    return 2 * sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) >= len(letters)


_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"  # kana and Chinese characters
)


@lru_cache(maxsize=4096)
def _words_of_any_script(text: str) -> tuple[str, ...]:
    plain = "".join(" " if unicodedata.category(c)[0] in "PSZC" else c for c in unicodedata.normalize("NFC", text))
    return tuple(_UNSPACED.sub(r" \1 ", plain.lower()).split())


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, one machine word for many cells (Hyyrö 2004, bit-parallel LCS).

    A bit of `open_` is 0 where the table of the textbook grows; rouge-score fills that table cell by cell.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    whole = (1 << len(first)) - 1
    open_ = whole
    for word in second:
        met = open_ & places.get(word, 0)
        open_ = ((open_ + met) | (open_ - met)) & whole
    return len(first) - open_.bit_count()


def _bleu(stats: np.ndarray) -> np.ndarray:
    """sacrebleu's statistics (length given, length expected, matches by order, n-grams by order) to BLEU."""
    length, due = stats[..., 0], stats[..., 1]
    right, total = stats[..., 2 : 2 + BLEU_ORDER], stats[..., 2 + BLEU_ORDER :]
    brevity = np.where(length < due, np.exp(1 - due / np.where(length > 0, length, 1)), 1.0)
    halvings = np.cumsum(right == 0, -1)  # each order without a match counts half as much as the one before
    precision = np.where(right > 0, right, 0.5**halvings) / np.where(total > 0, total, 1)
    score = brevity * np.exp(np.log(100 * precision).sum(-1) / BLEU_ORDER)
    return np.where((right > 0).any(-1) & (total > 0).all(-1), np.minimum(score, 100.0), 0.0)


def _chrf(stats: np.ndarray, beta: float = 2.0) -> np.ndarray:
    """sacrebleu's statistics (n-grams given, expected, common, by order) to chrF."""
    given, due, common = (stats[..., i::3] for i in range(3))
    used = (given > 0) & (due > 0)
    orders = np.maximum(used.sum(-1), 1)
    precision = np.where(used, common / np.where(used, given, 1), 0).sum(-1) / orders
    recall = np.where(used, common / np.where(used, due, 1), 0).sum(-1) / orders
    below = beta**2 * precision + recall
    return 100 * (1 + beta**2) * precision * recall / np.where(below > 0, below, 1)

"""Where words are in plain text, in many scripts."""

from __future__ import annotations

import random
import unicodedata
from itertools import pairwise

import pytest

from luthier.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "It's John's Coca-Cola, in the U.S. for $3,500.50!",
            "It|'s|John|'s|Coca-Cola|,|in|the|U.S.|for|$|3,500.50|!",
        ),
        ("@paul saw #paris: https://x.y/z?a=1, ok.", "@paul|saw|#paris|:|https://x.y/z?a=1|,|ok|."),
        ("O'Brien (l’Oréal) don't", "O'Brien|(|l’Oréal|)|don't"),
        ("foo@bar.com a_b -c e.g. this", "foo|@|bar|.|com|a_b|-|c|e.g.|this"),
        ("东京タワー is 高い", "东|京|タ|ワ|ー|is|高|い"),
        ("e\u0301te\u0301 नमस्ते می\u200cخواهم", "e\u0301te\u0301|नमस्ते|می\u200cخواهم"),
        ("👨\u200d👩\u200d👧🇩🇪🇫🇷 👍🏽!", "👨\u200d👩\u200d👧|🇩🇪|🇫🇷|👍🏽|!"),
        ("...", ".|.|."),
        (" \t\u200b\ufeff\u0301", ""),
        ("", ""),
    ],
)
def test_words_of_many_scripts(text: str, expected: str) -> None:
    assert [text[a:b] for a, b in words(text)] == (expected.split("|") if expected else [])


def test_nothing_but_white_space_marks_and_control_signs_is_left_out() -> None:
    draw, kinds = random.Random(0), []
    alphabet = "ab1 .,'-@#_%\n\u0301\u200d\u200b中ทé🙂👍🏽🇩🇪\u00adЖ"
    for _ in range(2000):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 15)))
        spans = words(text)
        assert all(a < b for a, b in spans)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        covered = {i for a, b in spans for i in range(a, b)}
        kinds += [unicodedata.category(text[i])[0] for i in range(len(text)) if i not in covered and text[i] != "🏽"]
    assert set(kinds) <= {"Z", "C", "M"}
    assert len(kinds) > 1000

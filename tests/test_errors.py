"""What is said when luthier cannot go on, and which names are near which."""

from __future__ import annotations

import random
import time

from luthier import errors
from luthier.errors import Interrupted, LuthierError, did_you_mean, edit_distance, nearest


def test_the_tree_and_its_exit_codes() -> None:
    codes = {
        "LuthierError": 70, "InputError": 2, "RecipeError": 2, "DataError": 2, "ModelError": 2, "NotHere": 2,
        "RunError": 2,
        "ResourceError": 4,
    }  # fmt: skip
    for name, code in codes.items():
        error = getattr(errors, name)("it is wrong", where="here", fix="do that")
        assert isinstance(error, LuthierError) and error.exit_code == code
        assert str(error) == "here: it is wrong\nFix: do that"
        assert (error.where, error.found, error.fix) == ("here", "it is wrong", "do that")
    found = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, LuthierError)]
    lacking = errors.NoColumn("none", missing={"text": ""}, columns=["body", "reveiw"], where="x.csv", fix="")
    assert lacking.exit_code == 2 and isinstance(lacking, errors.DataError)
    told = lacking.as_trained({"text": "review"})
    assert told.found == 'no column "review" (the text in training); the columns are: body, reveiw'
    assert told.fix == 'rename the column "reveiw" to "review"'
    assert len(found) == len(codes) + 2
    assert [Interrupted("stopped", signal=n).exit_code for n in (2, 15)] == [130, 143]
    assert str(LuthierError("alone")) == "alone"


def _slow_distance(a: str, b: str) -> int:
    """The definition, by recursion."""
    if not a or not b:
        return len(a) + len(b)
    best = min(
        _slow_distance(a[:-1], b) + 1,
        _slow_distance(a, b[:-1]) + 1,
        _slow_distance(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    )
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        best = min(best, _slow_distance(a[:-2], b[:-2]) + 1)
    return best


def test_edit_distance() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abc", k=draw.randrange(6))) for _ in range(60)]
    pairs = [(a, b) for a in words[:30] for b in words[30:]]
    assert len(pairs) == 900
    for a, b in pairs:
        assert edit_distance(a, b) == edit_distance(b, a) == _slow_distance(a, b)
    assert [edit_distance("rate", w) for w in ("rate", "raet", "rte", "rrate", "rats", "")] == [
        0,
        1,
        1,
        1,
        1,
        4,
    ]


def test_nearest() -> None:
    known = ["learning_rate", "rank", "question-answering", "classification", "r"]
    near = {
        "learning-rate": "learning_rate", "LEARNING RATE": "learning_rate", "lerning_rate": "learning_rate",
        "rnak": "rank", "question_answering": "question-answering", "clasification": "classification",
        "classificaiton": "classification", "epochs": None, "": None, "zz": None,
    }  # fmt: skip
    for word, meant in near.items():
        assert nearest(word, known) == meant, word
    assert nearest("x", []) is None
    start = time.process_time()
    assert nearest("learning_rate" * 10_000, known) is None
    assert time.process_time() - start < 0.1


def test_did_you_mean() -> None:
    assert did_you_mean("rnak", ["rank", "alpha"]) == 'Did you mean "rank"? Known: alpha, rank.'
    assert did_you_mean("zzz", ["rank", "alpha"]) == "Known: alpha, rank."

"""What a language model writes about entities, found again in the sentence."""

from __future__ import annotations

import pytest

from luthier.engine.entities.mentions import find_mentions, plain, spoken

WORDS = [
    "Anna",
    "met",
    "Ben",
    "Smith",
    "in",
    "New",
    "York",
    ";",
    "Anna",
    "likes",
    "The",
    "New",
    "Yorker",
    ".",
]
TYPES = ["creative-work", "person", "place"]
ALL = [(0, 1, "person"), (2, 4, "person"), (5, 7, "place"), (8, 9, "person"), (10, 13, "creative-work")]


@pytest.mark.parametrize(
    "text",
    [
        "person: Anna\nperson: Ben Smith\nplace: New York\nperson: Anna\ncreative work: The New Yorker",
        "1. Person: anna\n2) PERSON: ben smith\n- place : 'New  York'\n* **person**: Anna"
        "\n• Creative_Work = The New Yorker",
        "Here they are:\nperson: Anna, Ben Smith\nplaces: New York\npersons: “Anna”\n"
        "creative-work - The New Yorker\n\nDone!",
        "Anna: person\nBen Smith -> person\nplace → New York\nperson: Anna\ncreative wrok: the new yorker",
        '{"person": ["Anna", "Ben Smith"],\n"place": "New York",\n'
        '"person": "Anna",\n"creative work": "The New Yorker"}',
    ],
)
def test_many_ways_of_saying_the_same(text: str) -> None:
    assert find_mentions(text, WORDS, TYPES) == ALL


@pytest.mark.parametrize(
    "text", ["", "none", "None.", "person: none", "person: Zoe", "beast: Anna", "\x00\ud800: :", ":::"]
)
def test_what_is_not_there_is_dropped(text: str) -> None:
    assert find_mentions(text, WORDS, TYPES) == []


def test_equal_words_are_taken_in_order_and_once() -> None:
    assert find_mentions("person: Anna\nperson: Anna\nperson: Anna", WORDS, TYPES) == [ALL[0], ALL[3]]
    assert find_mentions("person: Ben\nplace: Ben Smith", WORDS, TYPES) == [(2, 3, "person")]
    assert find_mentions("place: New York\nperson: Anna", WORDS, TYPES) == [(5, 7, "place"), (8, 9, "person")]


def test_case_width_and_joined_words_do_not_count() -> None:
    assert find_mentions("place: ＮＥＷＹＯＲＫ", WORDS, TYPES) == [(5, 7, "place")]
    assert plain("creative-work_x") == "creative work x"


@pytest.mark.parametrize(
    ("types", "text", "found"),
    [
        (["geo", "geo:city"], "geo:city: Anna\ngeo: Ben", [(0, 1, "geo:city"), (2, 3, "geo")]),
        (["geo:city"], "1. **GEO:CITY**: Anna\nBen: geo:city", [(0, 1, "geo:city"), (2, 3, "geo:city")]),
        (["a=b", "a = b"], "a=b = Anna\na = b: Ben", [(0, 1, "a=b"), (2, 3, "a = b")]),
        (["LOC", "loc"], "loc: Anna\nLOC: Ben", [(0, 1, "loc"), (2, 3, "LOC")]),
        (["LOC", "loc"], "Anna: loc\nBen: LOC", [(0, 1, "loc"), (2, 3, "LOC")]),
        (["work-a", "work_a"], "work_a: Anna\nwork-a: Ben", [(0, 1, "work_a"), (2, 3, "work-a")]),
        (["1", "-"], "-: Anna\n1: Ben", [(0, 1, "-"), (2, 3, "1")]),
    ],
)
def test_a_type_is_first_read_just_as_it_is(types: list[str], text: str, found: list[tuple[int, int, str]]) -> None:
    assert find_mentions(text, WORDS, types) == found


def test_types_are_called_apart() -> None:
    assert spoken(["creative-work", "LOC", "loc"]) == {"creative-work": "creative work", "LOC": "LOC", "loc": "loc"}
    assert spoken(["work-a", "work_a", "work a"]) == {"work-a": "work-a", "work_a": "work_a", "work a": "work a"}


def test_none_may_be_a_word_of_the_sentence() -> None:
    words = ["None", "met", "Ben"]
    assert find_mentions("person: None\nperson: Ben", words, TYPES) == [(0, 1, "person"), (2, 3, "person")]
    assert find_mentions("person: none\nplace: Ben", words, TYPES) == [(2, 3, "place")]
    assert find_mentions("None", words, TYPES) == []

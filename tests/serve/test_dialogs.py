"""Rows of turns that are to be answered: read as a file's are, and refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.errors import DataError
from luthier.serve.dialogs import dialog_row
from luthier.tasks import TASKS

FORM = TASKS["generation"].form
HI = {"role": "user", "content": "hi"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}


def test_turns_are_read_as_in_a_file() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}
    assert dialog_row([parts], FORM, 1)["messages"] == [{"role": "user", "content": "a b"}]
    assert dialog_row([{"from": "human", "value": "hi"}], FORM, 1)["messages"] == [HI]
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "look", "arguments": '{"at": "sea"}'}]}
    row = dialog_row({"messages": [HI, called], "tools": [{"name": "look"}], "id": 5}, FORM, 1)
    assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert row["tools"] == [{"type": "function", "function": {"name": "look"}}]
    assert row.id == "5"
    assert dialog_row("hi", FORM, 3).fields == {"messages": [HI]}


def test_a_row_may_have_the_fields_of_a_file() -> None:
    assert dialog_row({"prompt": "hi", "completion": "no"}, FORM, 1).fields == {"messages": [HI]}
    row = dialog_row({"instruction": "say", "input": "hi", "system": "be kind"}, FORM, 1)
    assert row["messages"] == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "say\nhi"}]
    with pytest.raises(DataError, match="row 2, prompt: a number"):
        dialog_row({"prompt": 5}, FORM, 2)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (5, "row 7: it is 5"),
        ({"message": "hi"}, 'row 7: there is no "messages"'),
        ({"messages": 5}, r"row 7, messages: a number \(5\), expected a list of turns"),
        ([], "row 7, messages: there are no turns"),
        ([5], r"row 7, messages\[0\]: a number"),
        ([HI, {"role": "boss", "content": "x"}], r'row 7, messages\[1\].role: the role "boss" is unknown'),
        ([{"role": "user", "content": 5}], r"row 7, messages\[0\].content: a number"),
        ([{"role": "user", "content": [{"type": "image"}]}], r"row 7, messages\[0\].content\[0\]: a part of type"),
        ([{**HI, "tool_calls": 5}], r"row 7, messages\[0\].tool_calls: a number"),
        ([{**HI, "tool_calls": [5]}], r"row 7, messages\[0\].tool_calls\[0\]: a number"),
        ({"messages": [HI], "tools": 5}, "row 7, tools: a number"),
        ([{"role": "user", "content": " "}], "row 7: it says nothing"),
        ([{"role": "user", "content": "\ud83d"}], "row 7: it holds half a character"),
        ({"messages": [HI], "tools": [{"name": "\ud83d"}]}, "row 7: it holds half a character"),
    ],
)
def test_what_is_no_dialog_is_refused_with_row_and_field(row: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dialog_row(row, FORM, 7)

"""Instructions and dialogues: every layout told by itself and by name, turns in order, nothing dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_forms import CHAT, CLASSIFICATION, write_lines

from luthier.data.load import Loaded, load
from luthier.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"}
SYSTEM = {"role": "system", "content": "be kind"}
Turns = list[dict[str, Any]]


def read(path: Path, rows: list[dict[str, Any]], **settings: Any) -> Loaded:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(str(path), CHAT, **settings)


def one(path: Path, row: dict[str, Any], **settings: Any) -> tuple[Turns, str, str]:
    """(turns, answer, format) of a file of this row."""
    loaded = read(path, [row], **settings)
    assert loaded.faults == [] and len(loaded.rows) == 1
    return loaded.rows[0]["messages"], loaded.rows[0].get("answer"), loaded.format


LAYOUTS: dict[str, list[tuple[dict[str, Any], Turns, str]]] = {
    "messages": [
        ({"messages": [USER, ASSISTANT]}, [USER], "say"),
        ({"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]}, [SYSTEM, USER, ASSISTANT, USER], "say"),
        ({"conversations": [USER, ASSISTANT]}, [USER], "say"),
        ({"messages": json.dumps([USER, ASSISTANT])}, [USER], "say"),
        ({"messages": [USER, ASSISTANT], "prompt": "x", "text": "y"}, [USER], "say"),
    ],
    "sharegpt": [
        (
            {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "say"}]},
            [USER],
            "say",
        ),
        (
            {
                "conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "say"}],
                "system": "be kind",
            },
            [SYSTEM, USER],
            "say",
        ),
        (
            {
                "messages": [
                    {"from": "system", "value": "be kind"},
                    {"from": "user", "value": "ask"},
                    {"from": "chatgpt", "value": "say"},
                ]
            },
            [SYSTEM, USER],
            "say",
        ),
    ],
    "alpaca": [
        ({"instruction": "ask", "input": "", "output": "say"}, [USER], "say"),
        ({"instruction": "ask", "output": "say", "system": "be kind"}, [SYSTEM, USER], "say"),
        (
            {"instruction": "ask", "input": "more", "output": "say"},
            [{"role": "user", "content": "ask\nmore"}],
            "say",
        ),
        ({"instruction": "ask", "context": "", "response": "say", "category": "qa"}, [USER], "say"),
        (
            {"instruction": "ask", "input": "", "output": "say", "history": [["ask", "say"]]},
            [USER, ASSISTANT, USER],
            "say",
        ),
    ],
    "prompt-completion": [
        ({"prompt": "ask", "completion": "say"}, [USER], "say"),
        ({"prompt": [SYSTEM, USER], "completion": [ASSISTANT]}, [SYSTEM, USER], "say"),
        ({"prompt": [USER], "completion": "say"}, [USER], "say"),
        ({"question": "ask", "answer": "say", "focus": "x"}, [USER], "say"),
        ({"prompt": "ask", "chosen": "say", "rejected": "no"}, [USER], "say"),
    ],
    "text": [({"text": "say"}, [], "say"), ({"text": "say", "url": "x"}, [], "say")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_told_and_named(layout: str, tmp_path: Path) -> None:
    for row, turns, answer in LAYOUTS[layout]:
        found = one(tmp_path / "a.jsonl", row)
        assert found == (turns, answer, f"jsonl ({layout})")
        assert one(tmp_path / "a.jsonl", row, format=layout) == found


def test_a_row_without_its_instruction_is_a_fault(tmp_path: Path) -> None:
    good = {"instruction": "ask", "input": "", "output": "say"}
    assert read(tmp_path / "a.jsonl", [good] * 3).faults == []
    rows = [good, {"input": "only", "output": "o"}, {"instruction": None, "input": "only", "output": "o"}, good]
    loaded = read(tmp_path / "a.jsonl", rows)
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [
        (2, "missing-field", "instruction"),
        (3, "wrong-type", "instruction"),
    ]
    assert [row.line for row in loaded.rows] == [1, 4]


def test_tables_and_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('instruction,input,output\nask,,say\n"a, b",c,d\n')
    loaded = load(str(tmp_path / "a.csv"), CHAT)
    assert loaded.format == "csv (alpaca)" and loaded.rows[1]["messages"][0]["content"] == "a, b\nc"
    (tmp_path / "a.txt").write_text("first\n\nsecond\n")
    loaded = load(str(tmp_path / "a.txt"), CHAT)
    assert loaded.format == "text" and [row["answer"] for row in loaded.rows] == ["first", "second"]
    (tmp_path / "one.json").write_text(json.dumps({"messages": [USER, ASSISTANT]}, indent=1))
    assert len(load(str(tmp_path / "one.json"), CHAT).rows) == 1
    (tmp_path / "one.jsonl").write_text(json.dumps({"messages": [USER, ASSISTANT]}))
    assert len(load(str(tmp_path / "one.jsonl"), CHAT).rows) == 1


def test_forced_layouts_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = {"messages": [USER, ASSISTANT], "prompt": "ask", "completion": "other", "text": "plain"}
    assert one(path, row, format="prompt-completion")[1] == "other"
    assert one(path, row, format="text")[:2] == ([], "plain")
    assert one(path, row, columns={"answer": "text"})[:2] == ([], "plain")
    odd = {"q": "ask", "r": "say", "c": "more"}
    assert one(path, odd, columns={"prompt": "q", "completion": "r"})[2] == "jsonl (prompt-completion)"
    assert one(path, odd, columns={"messages": "q", "answer": "r"})[:2] == ([USER], "say")
    turns, _, format = one(path, odd, columns={"instruction": "q", "output": "r", "input": "c"})
    assert (turns[0]["content"], format) == ("ask\nmore", "jsonl (alpaca)")
    with pytest.raises(DataError, match="no layout of instructions or dialogues fits; the columns are: q, r, c"):
        read(path, [odd])
    with pytest.raises(DataError, match="alpaca needs instruction and output"):
        read(path, [row], format="alpaca")
    broken = read(path, [{"messages": 5}] * 3, format="sharegpt")
    assert broken.format == "jsonl (sharegpt)" and len(broken.errors) == 3
    with pytest.raises(DataError, match="this task has none"):
        load(str(path), CLASSIFICATION, format="sharegpt")
    loaded = read(path, [odd], columns={"prompt": "q", "completion": "r"})
    assert loaded.columns == {"prompt": "q", "completion": "r"} and loaded.rows[0]["c"] == "more"


def test_parts_weights_and_names(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": ""},
        {
            "role": "user",
            "content": [{"type": "text", "text": "as"}, {"type": "text", "value": "k"}],
            "name": "ann",
        },
        {**ASSISTANT, "loss_weight": 0},
        USER,
        {"role": "assistant", "content": [{"type": "text", "text": "say"}], "weight": 0.5},
    ]
    row = read(tmp_path / "a.jsonl", [{"messages": turns}]).rows[0]
    assert row["messages"] == [{**USER, "name": "ann"}, {**ASSISTANT, "weight": 0.0}, USER]
    assert row["answer"] == "say" and row["answer_turn"] == {"weight": 0.5}
    plain = read(tmp_path / "a.jsonl", [{"messages": [USER, ASSISTANT]}]).rows[0]
    assert "answer_turn" not in plain.fields and "tools" not in plain.fields
    learned = {"messages": [USER, {**ASSISTANT, "train": True}]}
    assert read(tmp_path / "a.jsonl", [learned]).rows[0]["answer_turn"] == {"weight": 1.0}


def test_a_prompt_that_is_null_is_no_empty_text(tmp_path: Path) -> None:
    """It is told as what it is, in a prompt as in an instruction or an answer."""
    good = {"prompt": "ask", "completion": "say"}
    loaded = read(tmp_path / "a.jsonl", [good, {**good, "prompt": None}, {**good, "prompt": ""}])
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [
        (2, "wrong-type", "prompt"),
        (3, "empty-text", "prompt"),
    ]


def test_tools(tmp_path: Path) -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    as_turn = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    result = {"role": "tool", "content": "2"}
    wanted = [USER, as_turn, result]
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    openai = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        result,
        ASSISTANT,
    ]
    sharegpt = [
        {"from": "human", "value": "ask"},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "say"},
    ]
    for row in (
        {"messages": openai, "tools": [tool]},
        {"conversations": sharegpt, "tools": json.dumps([tool["function"]])},
    ):
        loaded = read(tmp_path / "a.jsonl", [row])
        assert loaded.faults == []
        assert (loaded.rows[0]["messages"], loaded.rows[0]["tools"]) == (wanted, [tool])
    last = read(tmp_path / "a.jsonl", [{"messages": openai[:2]}]).rows[0]
    assert json.loads(last["answer"]) == call and last["answer_turn"] == {"tool_calls": as_turn["tool_calls"]}


DISORDER: list[tuple[Turns, str, str, str, int]] = [
    ([ASSISTANT, USER, ASSISTANT], "warning", "turn-order", "messages[0].content", 2),
    ([USER, USER, ASSISTANT], "warning", "turn-order", "messages[1].content", 2),
    ([USER, ASSISTANT, ASSISTANT], "warning", "turn-order", "messages[2].content", 2),
    ([USER, SYSTEM, ASSISTANT], "warning", "turn-order", "messages[1].content", 2),
    ([USER, {"role": "tool", "content": "x"}, ASSISTANT], "warning", "turn-order", "messages[1].content", 2),
    ([USER, ASSISTANT, USER], "warning", "turn-order", "messages[2].content", 1),
    ([USER], "error", "no-answer", "messages[0].content", 0),
    ([USER, {"role": "assistant", "content": " "}], "error", "empty-text", "messages[1].content", 0),
    ([{"role": "user", "content": ""}, ASSISTANT], "error", "empty-text", "messages[0].content", 0),
    ([USER, {"role": "assistant", "content": None}], "error", "wrong-type", "messages[1].content", 0),
    ([USER, {"role": "assistant"}], "error", "missing-field", "messages[1].content", 0),
    ([USER, {"content": "say"}], "error", "missing-field", "messages[1]", 0),
    ([USER, {"role": "asistant", "content": "say"}], "error", "unknown-role", "messages[1].role", 0),
    ([USER, {"role": 7, "content": "say"}], "error", "unknown-role", "messages[1].role", 0),
    ([USER, "say"], "error", "wrong-type", "messages[1]", 0),
    (
        [USER, {"role": "assistant", "content": [{"type": "image"}]}],
        "error",
        "wrong-type",
        "messages[1].content[0]",
        0,
    ),
    ([USER, {"role": "assistant", "content": 5}], "error", "wrong-type", "messages[1].content", 0),
    ([USER, {**ASSISTANT, "weight": -1}], "error", "wrong-type", "messages[1].weight", 0),
    ([USER, {**ASSISTANT, "loss_weight": "no"}], "error", "wrong-type", "messages[1].loss_weight", 0),
    ([USER, {**ASSISTANT, "tool_calls": [{}]}], "error", "wrong-type", "messages[1].tool_calls[0]", 0),
    (
        [USER, {"role": "assistant", "content": "half \ud83d"}],
        "error",
        "lone-surrogate",
        "messages[1].content",
        0,
    ),
    ([], "error", "empty-text", "messages", 0),
    (7, "error", "wrong-type", "messages", 0),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("turns", "severity", "code", "field", "kept"), DISORDER)
def test_disorder(turns: Turns, severity: str, code: str, field: str, kept: int, tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [{"messages": [USER, ASSISTANT]}, {"messages": turns}])
    assert [(f.severity, f.code, f.line, f.field) for f in loaded.faults] == [(severity, code, 2, field)]
    assert "expected" in loaded.faults[0].message and loaded.faults[0].fix
    assert len(loaded.rows) == 1 + bool(kept) and loaded.read == 2
    if kept:
        assert len(loaded.rows[1]["messages"]) == kept


def test_an_unknown_role_is_asked_about(tmp_path: Path) -> None:
    turns = [USER, {"role": "asistant", "content": "say"}]
    fault = read(tmp_path / "a.jsonl", [{"messages": [USER, ASSISTANT]}, {"messages": turns}]).errors[0]
    assert fault.fix == 'Did you mean "assistant"?'


def test_what_is_only_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows: list[tuple[dict[str, Any], Turns]] = [
        ({"messages": [USER]}, [USER]),
        ({"messages": [USER, ASSISTANT]}, [USER]),
        ({"prompt": "ask"}, [USER]),
        ({"instruction": "ask", "input": "more"}, [{"role": "user", "content": "ask\nmore"}]),
        ({"messages": "ask"}, [USER]),
        ({"text": "ask"}, [USER]),
        ({"conversations": [{"from": "human", "value": "ask"}]}, [USER]),
    ]
    for row, turns in rows:
        assert one(path, row, labelled=False)[0] == turns


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    rows: list[dict[str, Any]] = [
        {"messages": [USER, ASSISTANT], "tools": []},
        {"messages": [USER, ASSISTANT], "tools": [{"name": "f", "parameters": deep}]},
        {"messages": [USER, {**ASSISTANT, "tool_calls": [{"name": "f", "arguments": deep}]}]},
    ]
    loaded = read(tmp_path / "a.jsonl", rows)
    assert [(f.line, f.code) for f in loaded.errors] == [(2, "too-deep"), (3, "too-deep")]


def test_ids_follow_from_the_dialogue_alone(tmp_path: Path) -> None:
    first = read(tmp_path / "a.jsonl", [{"messages": [USER, ASSISTANT]}]).rows[0]
    second = load(str(write_lines(tmp_path / "b.jsonl", [{"prompt": "ask", "completion": "say"}])), CHAT).rows[0]
    assert first.id == second.id

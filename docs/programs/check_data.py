"""Check question-answering data in Python: one answer below does not begin where its number says."""

import json
from pathlib import Path

import luthier

context = "Oslo is the capital of Norway. It lies at the head of a fjord."
questions = [
    {
        "id": "q1",
        "question": "What is the capital of Norway?",
        "answers": [{"text": "Oslo", "answer_start": 0}],
    },
    {
        "id": "q2",
        "question": "Where does Oslo lie?",
        "answers": [{"text": "at the head of a fjord", "answer_start": 35}],
    },
    {"id": "q3", "question": "Who is its mayor?", "answers": [], "is_impossible": True},
]
article = {"title": "Oslo", "paragraphs": [{"context": context, "qas": questions}]}
Path("questions.json").write_text(json.dumps({"version": "v2.0", "data": [article]}, indent=1))

report = luthier.check("questions.json", task="question-answering")
print(report["format"], report["rows"], report["kept"])
for fault in report["faults"]:
    print(fault["severity"], fault["code"], f"{fault['file']}:{fault['line']}", fault["message"], sep=" | ")

try:
    luthier.train({"model": "minilm", "task": "question-answering", "data": {"trian": "questions.json"}})
except luthier.RecipeError as error:
    print(error)

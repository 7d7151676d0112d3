"""Tune a classifier in Python and ask it something. Run it in a folder of your own: it writes messages.csv and
runs/ there.
"""

import csv
from pathlib import Path

import luthier

GREETINGS = ("Hello", "Good morning", "Hi there", "Dear team")
ENDINGS = ("please help", "thank you", "what can I do", "I am waiting", "best wishes")
SUBJECTS = {
    "billing": (
        "I was charged twice",
        "the invoice is wrong",
        "my refund is missing",
        "the price has changed",
    ),
    "login": ("I cannot sign in", "my password is refused", "the code never arrives", "my account is locked"),
}

with Path("messages.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["text", "label"])
    for greeting in GREETINGS:
        for ending in ENDINGS:
            for label, sentences in SUBJECTS.items():
                table.writerows([f"{greeting}, {sentence}, {ending}.", label] for sentence in sentences)

run = luthier.train(
    {
        "model": "minilm",
        "task": {"name": "classification", "max_length": 32},
        "data": {"train": "messages.csv", "validation": 0.2, "test": 0.2},
        "method": "full",
        "train": {"epochs": 1, "batch_size": 8},
    }
)
print(run.path.name)
print(run.verdict["verdict"])
print(run.evaluation["scores"])
questions = [
    {"id": "a", "text": "I was charged twice for one month"},
    {"id": "b", "text": "my password is refused"},
]
for answer in run.predict(questions):
    print(answer["id"], answer["prediction"], answer["confidence"])

"""The helpline that luthier carries, in the forms that the examples train on: `python make_helpline.py [FOLDER]`.

Writes into FOLDER (default: beside this file)
  helpline-old.json, helpline-new.json  its questions in SQuAD form, the later topics apart
  instructions.jsonl                    instruction, input, output: a question, its passage, and the answer
  passages.txt                          the passages alone, one a line
  search.jsonl                          anchor, positive: a question and the passage that answers it
"""

import json
import sys
from pathlib import Path

from luthier.demos.helpline import packaged

OLD_TOPICS = 9  # of 13

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
folder.mkdir(parents=True, exist_ok=True)
topics = json.loads(packaged())["data"]
for name, some in (("helpline-old.json", topics[:OLD_TOPICS]), ("helpline-new.json", topics[OLD_TOPICS:])):
    (folder / name).write_text(json.dumps({"version": "2.0", "data": some}, ensure_ascii=False), "utf-8")

paragraphs = [(topic["title"], paragraph) for topic in topics for paragraph in topic["paragraphs"]]
with (
    (folder / "instructions.jsonl").open("w", encoding="utf-8") as instructions,
    (folder / "search.jsonl").open("w", encoding="utf-8") as search,
    (folder / "passages.txt").open("w", encoding="utf-8") as passages,
):
    for title, paragraph in paragraphs:
        context = " ".join(paragraph["context"].split())
        passages.write(context + "\n")
        for qa in paragraph["qas"]:
            answer = qa["answers"][0]["text"] if qa["answers"] else "The passage does not say."
            row = {"instruction": qa["question"], "input": context, "output": answer, "topic": title}
            instructions.write(json.dumps(row, ensure_ascii=False) + "\n")
            if qa["answers"]:
                pair = {"anchor": qa["question"], "positive": context, "topic": title}
                search.write(json.dumps(pair, ensure_ascii=False) + "\n")
print(f"{len(paragraphs)} passages on {len(topics)} topics in {folder}")

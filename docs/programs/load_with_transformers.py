"""Load what `method: full` left, without luthier: `python load_with_transformers.py RUN/model "a text"`."""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, text = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
inputs = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")  # the recipe's task.max_length
with torch.no_grad():
    chances = model(**inputs).logits[0].softmax(-1)
best = int(chances.argmax())
print(model.config.id2label[best], round(float(chances[best]), 4))

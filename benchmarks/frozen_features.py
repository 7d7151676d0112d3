"""Frozen features: five epochs over IMDb reviews, features kept by luthier, computed anew by tutorials."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from math import sqrt
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

TOKENS, HIDDEN, DROPOUT, BATCH, RATE = 250, 512, 0.1, 32, 1e-3
SIDES_OF_FEATURES = {
    "tutorial": "the tutorials' loop: pad to 250, fp32, features anew every epoch",
    "luthier": "luthier, method frozen",
}


def tutorial(s: Settings) -> Result:
    """A frozen encoder in evaluation mode, the mean of its tokens, and a 384-512-2 head."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(s["seed"])
    train, test = measure.imdb(s["imdb"], s["rows"], s["test_rows"])
    tokenizer = AutoTokenizer.from_pretrained(s["model"], trust_remote_code=False)
    backbone = AutoModel.from_pretrained(s["model"], dtype=torch.float32, trust_remote_code=False)
    backbone.eval().requires_grad_(False)
    width = backbone.config.hidden_size
    head = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 2))

    def tensors(rows: Sequence[Row]) -> TensorDataset:
        encoded = tokenizer(
            [row["text"] for row in rows],
            truncation=True,
            max_length=TOKENS,
            padding="max_length",
            return_tensors="pt",
        )
        labels = torch.tensor([int(row["label"]) for row in rows])
        return TensorDataset(encoded["input_ids"], encoded["attention_mask"], labels)

    def features(ids: Any, mask: Any) -> Any:
        with torch.no_grad():
            states = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    loader = DataLoader(tensors(train), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE)
    epochs = []
    for _ in range(s["epochs"]):
        start = time.perf_counter()
        head.train()
        for ids, mask, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(features(ids, mask)), labels).backward()
            optimizer.step()
        epochs.append(time.perf_counter() - start)
    head.eval()
    right = 0
    for ids, mask, labels in DataLoader(tensors(test), batch_size=BATCH):
        right += int((head(features(ids, mask)).argmax(-1) == labels).sum())
    return {"seconds": sum(epochs), "epochs": epochs, "accuracy": right / len(test)}


def luthier(s: Settings) -> Result:
    import ours

    train, test = measure.imdb(s["imdb"], s["rows"], s["test_rows"])
    task = {"name": "classification", "max_length": TOKENS}
    method = {"name": "frozen", "hidden": HIDDEN, "dropout": DROPOUT}
    settings = {"epochs": s["epochs"], "batch_size": BATCH, "learning_rate": RATE, "save_steps": ours.NEVER}
    with ours.run(train, task=task, method=method, model=s["model"], seed=s["seed"], **settings) as ran:
        features = ran.ear.featured - ran.ear.begun
        facts = {"dtype": ran.dtype, "peak": ran.ear.peak, "accuracy": ran.score(test)["accuracy"]}
        return {"seconds": ran.seconds, "features": features, **facts}


SIDES: dict[str, measure.Side] = {"tutorial": tutorial, "luthier": luthier}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    results = measure.alternate(__file__, SIDES_OF_FEATURES, args.repeats, settings, "seconds")
    us, them = results["luthier"], results["tutorial"]
    ratio = measure.ratios(them, us, "seconds")
    ours, theirs = measure.middle(us, "accuracy"), measure.middle(them, "accuracy")
    noise = 1.96 * sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / settings["test_rows"])
    rows = [
        (
            title,
            f"{measure.middle(found, 'seconds'):.1f}",
            measure.each(found, "seconds"),
            f"{args.epochs * args.rows / measure.middle(found, 'seconds'):.0f}",
            f"{measure.middle(found, 'accuracy'):.3f}",
            measure.gigabytes(measure.middle(found, "peak")),
        )
        for name, title in SIDES_OF_FEATURES.items()
        for found in [results[name]]
    ]
    demands = Demands()
    demands.add("the tutorials' seconds / luthier's", ratio[0], 8, aim=10)
    demands.add(f"luthier's accuracy - the tutorials' (noise of the test: {noise:.3f})", ours - theirs, -noise)
    body = (
        f"{args.epochs} epochs over {args.rows} reviews of at most {TOKENS} tokens, a 384-{HIDDEN}-2 head on "
        f"the mean of the tokens, batch size {BATCH}, learning rate {RATE:g}, tokenised beforehand; accuracy on "
        f"{settings['test_rows']} others. luthier computes in {us[0]['dtype']}, features take "
        f"{measure.middle(us, 'features'):.1f} s of its time, and it is {measure.times(ratio)} as fast.\n\n"
    )
    header = ("side", "seconds", "every repeat", "rows/s over all epochs", "accuracy", "peak memory")
    return measure.finish(args.page, "frozen", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="one takes the tutorials' loop about 20 minutes")
    args = parser.parse_args()
    settings = {"model": measure.minilm(), "imdb": measure.imdb_path(), "seed": 7}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows, "epochs": args.epochs})


if __name__ == "__main__":
    sys.exit(main())

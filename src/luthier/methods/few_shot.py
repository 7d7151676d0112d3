"""Nothing is trained: the model is shown examples in its prompt (Brown et al. 2020, arxiv.org/abs/2005.14165)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError, RecipeError, did_you_mean

from .base import Method, stock_predict

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build

FILE = "few_shot.json"
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
LONGEST_PROMPT = 100_000  # characters of a prompt file


class FewShotOptions(Section):
    """Settings of few-shot prompting."""

    name: Literal["few-shot"] = "few-shot"
    k: int = Setting(4, ge=0, le=1000, description="examples in the prompt; 0: the request alone")
    choose: Literal["random", "label", "nearest"] = Setting(
        "label",
        description="which training rows are shown: any; as many of each label; or, for every row anew, those with "
        "the most like text (by TF-IDF)",
    )
    prompt: str = Setting(
        "",
        description="a file with the request in your own words, {text} or another field in braces where the row's own "
        "goes; empty: the task's words",
    )
    seed: int = Setting(7, ge=0, lt=2**32, description="of the draw of examples")


Request = str | list[dict[str, Any]]
"""What the model is asked: a text, or turns of a dialog."""

Example = tuple[Request, str]
"""A request and the answer to it."""


class FewShot(Method):
    """Holds the examples and hands them out; what is asked and answered it is given as text.

    `pool` is what examples are taken from: those that were chosen, or for `nearest` every training row.
    """

    name = "few-shot"
    Options = FewShotOptions
    changes_backbone = False
    bytes_a_weight = 4
    kinds = frozenset({"decoder", "encoder-decoder"})
    trains = False
    called = {"tuned": "prompted model", "untuned": "model without examples"}  # noqa: RUF012
    needs_base = True

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.pool: list[Example] = []
        self._prompt: str | None = None
        self._index: Any = None  # TF-IDF of the pool, for `nearest`

    @property
    def most(self) -> int:
        """Examples of one prompt."""
        return int(self.options.k)

    @property
    def prompt(self) -> str:
        """The user's own request with its places; "" for the task's words. RecipeError if it cannot be read."""
        if self._prompt is None:
            self._prompt = _read(Path(self.options.prompt)) if self.options.prompt else ""
        return self._prompt

    @prompt.setter
    def prompt(self, text: str) -> None:
        """As it was read before: the file may be gone since."""
        self._prompt = text

    def check_prompt(self, fields: Sequence[str]) -> None:
        """RecipeError unless every place of the user's prompt is one of `fields`, and there is one at least."""
        if not self.prompt:
            return
        places = _PLACE.findall(self.prompt)
        unknown = [place for place in places if place not in fields]
        known = " and ".join(f"{{{name}}}" for name in fields)
        if unknown:
            raise RecipeError(
                f"{{{unknown[0]}}} is no field of a row here",
                where=f"method.prompt: {self.options.prompt}",
                fix=f"use {known}. {did_you_mean(unknown[0], list(fields))}".strip(),
            )
        if not places:
            raise RecipeError(
                "it has no place for the row's own text, so every row would be asked the same",
                where=f"method.prompt: {self.options.prompt}",
                fix=f"put {known} where it goes",
            )

    def request(self, fields: Mapping[str, Any]) -> str | None:
        """The user's own request for a row of these fields; None where the task's words are used."""
        if not self.prompt:
            return None
        return _PLACE.sub(lambda place: str(fields[place[1]]), self.prompt)

    def pick(self, answers: Sequence[str]) -> list[int]:
        """Which of the training rows, known by their answers, `keep` needs."""
        import numpy as np

        order = [int(i) for i in np.random.default_rng(self.options.seed).permutation(len(answers))]
        if not self.options.k:
            return []
        if self.options.choose == "nearest":
            return list(range(len(answers)))
        return _balanced(order, answers, self.options.k) if self.options.choose == "label" else order[: self.options.k]

    def keep(self, examples: Sequence[Example]) -> None:
        """Hold the picked rows, put in words."""
        self.pool, self._index = list(examples), None

    def shown(self, requests: Sequence[Request]) -> list[list[Example]]:
        """For each request its examples, the nearest last. A row is no example for itself."""
        if not self.pool or not self.options.k:
            return [[] for _ in requests]
        if self.options.choose != "nearest":
            return [[one for one in self.pool if one[0] != request] for request in requests]
        out = []
        for start in range(0, len(requests), 256):
            out += self._nearest(requests[start : start + 256])
        return out

    def _nearest(self, requests: Sequence[Request]) -> list[list[Example]]:
        import numpy as np

        if self._index is None:
            self._index = _index([_text(request) for request, _ in self.pool])
        vectorizer, known = self._index
        likeness = (vectorizer.transform([_text(request) for request in requests]) @ known.T).toarray()
        out = []
        for request, scores in zip(requests, likeness):
            same = [i for i in np.flatnonzero(scores > 0.99) if self.pool[i][0] == request]
            scores[same] = -1.0
            best = np.argsort(-scores, kind="stable")[: self.options.k]
            out.append([self.pool[i] for i in best[::-1] if scores[i] >= 0])
        return out

    def learning_rate(self, width: int) -> float:
        """Nothing moves by it: the number that stands in every recipe."""
        return 1e-3

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        """No weights: the name of the base model, and what is put into its prompt."""
        told = {
            "base_model": base,
            "k": self.options.k,
            "choose": self.options.choose,
            "prompt": self.prompt,
            "examples": [{"request": request, "answer": answer} for request, answer in self.pool],
        }
        (folder / FILE).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        assert base is not None
        try:
            told = json.loads((folder / FILE).read_text("utf-8"))
            self.pool = [(one["request"], one["answer"]) for one in told["examples"]]
            self._prompt, self._index = str(told["prompt"]), None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"its examples cannot be read ({type(error).__name__}: {error})",
                where=str(folder / FILE),
                fix="copy the whole model folder again from where it was made",
            ) from None
        return build(base, False).requires_grad_(False).eval()

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        return (
            "import json\n"
            "import torch\n"
            f"from transformers import AutoTokenizer, {auto_class}\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            f"model = {auto_class}.from_pretrained(BASE, dtype=torch.float32).eval()\n"
            f'EXAMPLES = json.load(open(f"{{FOLDER}}/{FILE}", encoding="utf-8"))["examples"]\n\n\n'
            f"{stock_predict(auto_class)}"
        )


def _read(path: Path) -> str:
    where = "method.prompt"
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RecipeError(
            f"{path} cannot be read ({reason})", where=where, fix="name a text file with your prompt"
        ) from None
    if not text.strip() or len(text) > LONGEST_PROMPT:
        found = "is empty" if not text.strip() else f"holds more than {LONGEST_PROMPT:,} characters"
        raise RecipeError(f"{path} {found}", where=where, fix="write the request for one row into it")
    return text.strip("\n")


def _balanced(order: Iterable[int], answers: Sequence[str], count: int) -> list[int]:
    """`count` of the rows in `order`, an answer each in turn; answers come in the order they are first met in."""
    by_answer: dict[str, list[int]] = {}
    for i in order:
        by_answer.setdefault(answers[i], []).append(i)
    chosen: list[int] = []
    while len(chosen) < count and by_answer:
        for answer in list(by_answer):
            if len(chosen) < count:
                chosen.append(by_answer[answer].pop(0))
            if not by_answer[answer]:
                del by_answer[answer]
    return chosen


def _index(texts: Sequence[str]) -> tuple[Any, Any]:
    """A TF-IDF vectorizer and the texts' vectors. Words that nearly all hold, as the request's own, weigh little."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, max_features=200_000)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError:  # not a word in any text
        vectorizer = TfidfVectorizer(analyzer="char")
        return vectorizer, vectorizer.fit_transform([text or " " for text in texts])


def _text(request: Request) -> str:
    if isinstance(request, str):
        return request
    return "\n".join(str(turn.get("content") or "") for turn in request)

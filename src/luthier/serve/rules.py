"""Rules for answers, in a file that a person reads and edits: what is replaced, refused or flagged before it is given.

    rules:
      - name: people and low confidence
        in: input                 # or: answer
        words: [she, he]          # whole words, whatever their case; or pattern: a regular expression
        below: 0.8                # only answers that are less sure than this; left out: all
        then: refuse              # or: flag, or: replace (with: the text in its place)

The first rule that replaces or refuses decides; those that flag add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier import config
from luthier.errors import InputError, RecipeError
from luthier.records import Answer, Row

SECONDS = 0.1  # that one pattern may look at one text; what takes longer counts as found
LONGEST = 20_000  # characters that a pattern looks at
THEN = ("refuse", "replace", "flag")
_KEYS = {"name", "in", "words", "pattern", "below", "then", "with"}


@dataclass(frozen=True)
class Rule:
    name: str
    of: str  # answer or input
    then: str
    pattern: Any  # a compiled `regex` pattern
    below: float = 1.1
    instead: str = ""

    def fits(self, row: Row, answer: Answer) -> bool:
        """Whether it applies to an answer. A pattern that runs out of time counts as found, to be on the safe side."""
        if answer.confidence >= self.below:
            return False
        texts = _texts(answer.prediction) if self.of == "answer" else _texts(list(row.fields.values()))
        try:
            return any(self.pattern.search(text[:LONGEST], timeout=SECONDS) for text in texts)
        except TimeoutError:
            return True


@dataclass(frozen=True)
class Rules:
    rules: tuple[Rule, ...]
    sha256: str

    def applied(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        """The answers as they may be given: one that is refused is None, and `refused` names the rule."""
        return [self._one(row, answer) for row, answer in zip(rows, answers)]

    def _one(self, row: Row, answer: Answer) -> Answer:
        flags: list[str] = []
        for rule in self.rules:
            if not rule.fits(row, answer):
                continue
            if rule.then == "flag":
                flags.append(rule.name)
            elif rule.then == "replace":
                return Answer(rule.instead, answer.confidence, {"replaced": rule.name})
            else:  # what the model would have said must not stand beside it
                return Answer(None, answer.confidence, {"refused": rule.name})
        return replace(answer, detail={**answer.detail, "flagged": flags}) if flags else answer


def read_rules(path: Path) -> Rules:
    """The rules of a file. InputError names what is wrong with one."""
    from luthier.files import sha256_of

    try:
        tree = config.parse_yaml(path.read_text("utf-8"), str(path))
    except RecipeError as error:
        found = error.found.replace("a recipe is `key: value` lines", "rules are a list under `rules:`")
        raise InputError(found, where=error.where, fix="docs/bias.md shows such a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read ({error})", where=str(path), fix="write it as text") from None
    rules = tree.get("rules")
    if not isinstance(rules, list) or set(tree) != {"rules"}:
        raise InputError("it holds no list named `rules` alone", where=str(path), fix="docs/bias.md shows such a file")
    return Rules(tuple(_rule(one, number, str(path)) for number, one in enumerate(rules, 1)), sha256_of(path))


def _rule(one: Any, number: int, file: str) -> Rule:
    import regex

    def wrong(found: str) -> InputError:
        return InputError(f"rule {number}: {found}", where=file, fix="docs/bias.md shows such a file")

    if not isinstance(one, Mapping) or set(one) - _KEYS:
        raise wrong(f"expected keys out of {', '.join(sorted(_KEYS))}")
    then, of, below, instead = one.get("then"), one.get("in", "answer"), one.get("below", 1.1), one.get("with", "")
    if then not in THEN or of not in ("answer", "input"):
        raise wrong(f"then must be one of {', '.join(THEN)}, and in answer or input")
    if ("words" in one) == ("pattern" in one):
        raise wrong("expected either words or pattern")
    if isinstance(below, bool) or not isinstance(below, (int, float)) or ("with" in one) != (then == "replace"):
        raise wrong("below must be a number, and with stands beside `then: replace` alone")
    if not isinstance(instead, str):
        raise wrong("with must be a text")
    if "words" in one:
        words = one["words"]
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise wrong("words must be a list of texts")
        made = rf"(?<!\w)(?:{'|'.join(regex.escape(word.strip()) for word in words)})(?!\w)"
    elif isinstance(one["pattern"], str) and one["pattern"]:
        made = one["pattern"]
    else:
        raise wrong("pattern must be a text")
    try:
        pattern = regex.compile(made, regex.IGNORECASE)
    except regex.error as error:
        raise wrong(f"the pattern is no regular expression ({error})") from None
    return Rule(str(one.get("name", f"rule {number}")), of, then, pattern, float(below), instead)


def _texts(value: Any) -> list[str]:
    """Every text in a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, (list, tuple)):
        joined = [" ".join(value)] if value and all(isinstance(one, str) for one in value) else []
        return joined or [text for one in value for text in _texts(one)]
    return []

"""What may be written is what is allowed, to the byte, in every family of vocabularies."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

import tiny
from luthier.engine.writing.constrain import Guide, Passage, Vocabulary

STOP = 2
PASSAGES = [
    "the old house in Paris is big . anna lives in berlin, and keeps a cat!",
    "Ünï-cödé: 北京 is  big;\n\tthe café (naïve) — “under” 🦜 the house… ½ off",
    "   lives in rome",
]


def spelling(texts: list[str]) -> Any:
    """Llama 2's family: a sign for the space, single bytes for what has no piece of its own."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    symbols = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    symbols += sorted({c for text in tiny.WORDS for c in text})
    merges = []
    for word in tiny.WORDS:
        whole = "▁"
        for letter in word:
            merges.append((whole, letter))
            whole += letter
            symbols.append(whole)
    vocabulary = {s: i for i, s in enumerate(dict.fromkeys(symbols))}
    plain = Tokenizer(
        models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    plain.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    plain.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def suffixed(texts: list[str]) -> Any:
    """GPT's first family: the end of a word is marked."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({c for text in [*tiny.WORDS, *texts] for c in text.lower() if not c.isspace()})
    symbols = ["<unk>", "<s>", "</s>", *letters, *(f"{c}</w>" for c in letters), "th", "the</w>", "in</w>"]
    merges = [("t", "h"), ("th", "e</w>"), ("i", "n</w>")]
    vocabulary = {s: i for i, s in enumerate(symbols)}
    plain = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.decoder = decoders.BPEDecoder("</w>")
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


FAMILIES = {**tiny.TOKENIZERS, "byte-fallback": spelling, "word-ends": suffixed, "chat": tiny.chat_bpe}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param](PASSAGES)


def own_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def walk(guide: Guide, draw: random.Random, most: int = 40, end: float = 0.1) -> tuple[tuple[int, ...], bool]:
    """What is written by choosing any allowed token each time."""
    written: tuple[int, ...] = ()
    for _ in range(most):
        allowed = guide.tokens(written).tolist()
        assert allowed
        if STOP in allowed and (len(allowed) == 1 or draw.random() < end):
            return written, True
        written = (*written, draw.choice([token for token in allowed if token != STOP]))
    return written, False


def test_every_passage_may_be_written_as_the_tokenizer_writes_it(tokenizer: Any) -> None:
    draw, checked = random.Random(0), 0
    vocabulary = Vocabulary.of(tokenizer)
    for text in PASSAGES:
        guide = Guide(vocabulary, Passage(text), [STOP])
        words = [match.span() for match in re.finditer(r"\S+", text)]
        for _ in range(40):
            first = draw.randrange(len(words))
            last = draw.randrange(first, min(len(words), first + 4))
            part = text[words[first][0] : words[last][1]]
            ids = own_ids(tokenizer, part)
            if tokenizer.unk_token_id in ids:
                continue
            for i, token in enumerate(ids):
                assert token in guide.tokens(tuple(ids[:i])), (part, i, tokenizer.convert_ids_to_tokens(ids))
            assert STOP in guide.tokens(tuple(ids))
            assert guide.text(tuple(ids)).lower() == part.lower()
            checked += 1
    assert checked >= 60


def test_whatever_is_written_is_a_passage(tokenizer: Any) -> None:
    draw, ends = random.Random(1), 0
    vocabulary = Vocabulary.of(tokenizer)
    for text in PASSAGES:
        for _ in range(60):
            guide = Guide(vocabulary, Passage(text), [STOP])
            assert STOP not in guide.tokens(())
            written, ended = walk(guide, draw)
            said = guide.text(written)
            assert said in text
            ends += ended
            if ended:
                assert said.strip(), "an answer is not empty"
                decoded = tokenizer.decode(list(written)).strip().lower()
                bare, due = ("".join(t.split()) for t in (decoded, said.lower()))
                if said.isascii():  # the tokens themselves say the same, but for spaces around words
                    assert bare == due
    assert ends >= 100


def test_one_of_some_texts_is_written_whole_or_not_ended(tokenizer: Any) -> None:
    texts = ["the house", "the old house", "big", "the"]
    vocabulary = Vocabulary.of(tokenizer)
    draw, seen = random.Random(2), set()
    for _ in range(120):
        guide = Guide(vocabulary, texts, [STOP])
        written, ended = walk(guide, draw)
        assert ended
        seen.add(guide.text(written))
    assert seen == set(texts)


def test_words_beside_a_passage_may_be_written_too(tokenizer: Any) -> None:
    guide = Guide(Vocabulary.of(tokenizer), Passage("anna lives in rome .", ("who is it",)), [STOP])
    for text in ("who is it", "lives in rome"):
        ids = own_ids(tokenizer, text)
        assert all(token in guide.tokens(tuple(ids[:i])) for i, token in enumerate(ids)), text
        assert STOP in guide.tokens(tuple(ids))
        assert guide.text(tuple(ids)) == text
    half = own_ids(tokenizer, "who is")
    assert STOP not in guide.tokens(tuple(half)), "the words beside are no passage: they end at their end alone"


def test_capitals_and_accents_come_back_from_the_passage() -> None:
    tokenizer = tiny.wordpiece(PASSAGES)
    guide = Guide(Vocabulary.of(tokenizer), Passage("In PARIS the Café is old ."), [STOP])
    for said in ("PARIS", "the Café is", "Café"):
        ids = own_ids(tokenizer, said)
        assert all(token in guide.tokens(tuple(ids[:i])) for i, token in enumerate(ids))
        assert guide.text(tuple(ids)) == said


def test_half_a_character_is_neither_begun_nor_ended() -> None:
    tokenizer = tiny.chat_bpe()
    text = "北京🦜"
    vocabulary = Vocabulary.of(tokenizer)
    guide = Guide(vocabulary, Passage(text), [STOP])
    ids = own_ids(tokenizer, text)
    assert len(ids) == 10
    middles = {b for c in text for b in c.encode()[1:]} - {c.encode()[0] for c in text}
    firsts = {vocabulary.piece[token] for token in guide.tokens(()).tolist()} - {b" "}
    assert not any(piece[0] in middles for piece in firsts)
    ends = [i for i in range(len(ids) + 1) if STOP in guide.tokens(tuple(ids[:i]))]
    assert ends == [3, 6, 10]
    assert guide.text(tuple(ids[:8])) == "北京", "what is not whole is left out"


def test_a_space_in_front_belongs_to_the_tokenizer() -> None:
    tokenizer = tiny.chat_bpe()
    guide = Guide(Vocabulary.of(tokenizer), Passage("(berlin) big"), [STOP])
    for ids in (own_ids(tokenizer, " berlin"), own_ids(tokenizer, "berlin"), own_ids(tokenizer, " big")):
        assert all(token in guide.tokens(tuple(ids[:i])) for i, token in enumerate(ids))
        assert STOP in guide.tokens(tuple(ids))
    assert guide.text(tuple(own_ids(tokenizer, " berlin"))) == "berlin"
    assert own_ids(tokenizer, " erlin")[0] not in guide.tokens(()), "no word begins there"


def test_what_cannot_be_spelled_is_no_dead_end() -> None:
    tokenizer = tiny.unigram()  # knows no Greek
    vocabulary = Vocabulary.of(tokenizer)
    guide = Guide(vocabulary, ["the αβγ", "the house"], [STOP])
    draw = random.Random(0)
    assert {guide.text(walk(guide, draw)[0]) for _ in range(20)} == {"the house"}
    assert Guide(vocabulary, ["αβγ"], [STOP]).tokens(()).tolist() == [STOP]
    assert Guide(vocabulary, Passage(""), [STOP]).tokens(()).tolist() == [STOP]
    assert Guide(vocabulary, ["", "the"], [STOP]).tokens(()).tolist().count(STOP) == 1


def test_no_way_is_taken_that_stops_in_the_middle() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", "▁x", "ab", "a", "c"]  # no b: behind "a" there is no way on
    plain = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    plain.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>")
    guide = Guide(Vocabulary.of(tokenizer), ["xabc"], [STOP])
    assert guide.tokens(()).tolist() == [3]
    assert guide.tokens((3,)).tolist() == [4]
    assert guide.tokens((3, 4)).tolist() == [6]
    assert guide.tokens((3, 4, 6)).tolist() == [STOP]


def test_special_tokens_are_never_allowed(tokenizer: Any) -> None:
    text = "<|im_end|> <s> [SEP] " + " ".join(tokenizer.all_special_tokens)
    guide = Guide(Vocabulary.of(tokenizer), Passage(text), [STOP])
    special = set(tokenizer.all_special_ids) - {STOP}
    draw = random.Random(3)
    for _ in range(30):
        written, _ = walk(guide, draw)
        assert not special & set(written)


def test_tokens_that_were_not_allowed_end_it_with_nothing() -> None:
    tokenizer = tiny.chat_bpe()
    guide = Guide(Vocabulary.of(tokenizer), Passage("the house"), [STOP])
    wrong = tuple(own_ids(tokenizer, "anna"))
    assert guide.tokens(wrong).tolist() == [STOP]
    assert guide.text(wrong) == ""


def test_a_long_passage_takes_milliseconds() -> None:
    """The bound is a hundred times what an idle machine needs: it catches what grows with the square."""
    tokenizer = tiny.chat_bpe()
    vocabulary = Vocabulary.of(tokenizer)
    text = " ".join(random.Random(0).choices(tiny.WORDS, k=600))[:3000]
    begin = time.process_time()
    guide = Guide(vocabulary, Passage(text), [STOP])
    guide.tokens(())
    ids = own_ids(tokenizer, text)
    for i in range(len(ids)):
        guide.tokens(tuple(ids[:i]))
    assert time.process_time() - begin < 2.0
    assert guide.text(tuple(ids)) == text

"""Random models of two layers, with tokenizers of three families, and rows that fit them: all made here, in code."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from luthier.models.quiet import quiet_transformers
from luthier.records import Row

_LISTS = {
    "negative": "awful dull boring weak lifeless clumsy",
    "positive": "lovely bright clever warm gripping funny",
    "names": "anna ben clara david emma felix greta hugo iris jonas karla leo mara nils olga paul",
    "places": "berlin paris rome oslo madrid vienna prague lisbon dublin athens",
    "beasts": "cat dog horse parrot rabbit hamster goat turtle",
    "plain": "the a film is was very and not with plot cast story music end scene big lives in keeps where does live "
    "what animal keep who . , ? ! ' - old house small since under near red blue",
}
CLASS_WORDS = {label: _LISTS[label].split() for label in ("negative", "positive")}
NAMES, PLACES, BEASTS, PLAIN = (_LISTS[name].split() for name in ("names", "places", "beasts", "plain"))
WORDS = [*PLAIN, *itertools.chain(*CLASS_WORDS.values()), *NAMES, *PLACES, *BEASTS]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ARCHITECTURES = ("bert", "roberta", "distilbert")


def reviews(count: int, seed: int = 0) -> list[Row]:
    """Distinct sentences whose label follows from one word."""
    draw, seen, rows = random.Random(seed), set(), []
    while len(rows) < count:
        label = draw.choice(sorted(CLASS_WORDS))
        middle = draw.sample(PLAIN[:16] + NAMES + PLACES, draw.randint(4, 12))
        middle.insert(draw.randrange(len(middle)), draw.choice(CLASS_WORDS[label]))
        text = " ".join(middle)
        if text not in seen:
            seen.add(text)
            rows.append(Row(str(len(rows) + 1), {"text": text, "label": label}))
    return rows


def questions(contexts: int, seed: int = 0, unanswerable: bool = True) -> list[Row]:
    """Three questions to each of so many passages; the third has no answer, if there are such."""
    draw, rows, seen = random.Random(seed), [], set()
    while len(seen) < contexts:
        who, other = draw.sample(NAMES, 2)
        place, beast = draw.choice(PLACES), draw.choice(BEASTS)
        filling = " ".join(draw.sample(PLAIN[:16], draw.randint(2, 8)))
        context = f"{filling} . {who} lives in {place} . the {place} house is big . {who} keeps a {beast} ."
        if context in seen:
            continue
        seen.add(context)
        asked = [(f"where does {who} live ?", place), (f"what animal does {who} keep ?", beast)]
        if unanswerable:
            asked.append((f"where does {other} live ?", ""))
        for question, answer in asked:
            spans = [{"text": answer, "start": context.index(f" {answer} ") + 1}] if answer else []
            fields = {"question": question, "context": context, "answers": spans}
            rows.append(Row(str(len(rows) + 1), fields))
    return rows


def rows_for(task: str, count: int, seed: int = 0) -> list[Row]:
    """Rows that have nothing in common: of questions, one to a passage, of each kind in turn."""
    if task == "classification":
        return reviews(count, seed)
    return [row for i, row in enumerate(questions(count, seed)) if i % 3 == i // 3 % 3]


def wordpiece(texts: Iterable[str] = (), length: int = 512) -> Any:
    """Uncased BERT's tokenizer over our words, and the single characters of `texts`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted({c for text in [*WORDS, *texts] for c in text.lower() if not c.isspace()})
    entries = dict.fromkeys([*BERT_SPECIALS, *WORDS, *letters, *(f"##{c}" for c in letters)])
    plain = Tokenizer(models.WordPiece({w: i for i, w in enumerate(entries)}, unk_token="[UNK]"))
    plain.normalizer = normalizers.BertNormalizer()
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.decoder = decoders.WordPiece()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, model_max_length=length, model_input_names=inputs, **names
    )


def byte_bpe(texts: Iterable[str] = (), length: int = 512) -> Any:
    """RoBERTa's: bytes, with merges that spell out our words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    symbols = dict.fromkeys([*ROBERTA_SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges = []
    for word in WORDS:
        whole = "Ġ"
        for letter in word:
            if whole + letter not in symbols:
                merges.append((whole, letter))
                symbols[whole + letter] = None
            whole += letter
    plain = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, merges))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    plain.decoder = decoders.ByteLevel()
    plain.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    names = {
        "bos": "<s>",
        "pad": "<pad>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{key}_token": value for key, value in names.items()},
    )


def unigram(texts: Iterable[str] = (), length: int = 512) -> Any:
    """XLM-R's: pieces with scores over text in the normal form NFKC, spaces as a sign of their own."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = {c for text in [*WORDS, *texts] for c in unicodedata.normalize("NFKC", text) if not c.isspace()}
    pieces = [(s, 0.0) for s in ROBERTA_SPECIALS] + [("▁", -3.0)] + [(f"▁{w}", -5.0) for w in WORDS]
    pieces += [(c, -9.0) for c in sorted(letters - {"▁"})]
    plain = Tokenizer(models.Unigram(pieces, unk_id=3))
    plain.normalizer = normalizers.NFKC()
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    plain.decoder = decoders.Metaspace()
    plain.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos": "<s>",
        "pad": "<pad>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{key}_token": value for key, value in names.items()},
    )


TOKENIZERS: dict[str, Callable[..., Any]] = {"wordpiece": wordpiece, "byte-bpe": byte_bpe, "unigram": unigram}


def save_model(folder: Path, architecture: str) -> Path:
    """A model without a task's head, 32 wide, and its tokenizer, as transformers saves them.

    No pooler is in it, as in a model that was trained on masked words alone: where a class has one, it is new.
    """
    import torch
    from transformers import AutoModel, BertConfig, DistilBertConfig, RobertaConfig

    spread = {"initializer_range": 0.2}  # wide enough that different rows get clearly different answers
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        **spread,
    }
    torch.manual_seed(0)
    if architecture == "bert":
        tokenizer = wordpiece()
        config: Any = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **shape)
    elif architecture == "roberta":
        tokenizer = byte_bpe()
        config = RobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=258, type_vocab_size=1, pad_token_id=1, **shape
        )
    else:
        tokenizer = wordpiece()
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        config = DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=256,
            dim=32,
            n_layers=2,
            n_heads=2,
            hidden_dim=64,
            **spread,
        )
    with quiet_transformers():
        extra = {} if architecture == "distilbert" else {"add_pooling_layer": False}
        AutoModel.from_config(config, **extra).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder

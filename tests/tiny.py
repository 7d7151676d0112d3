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
DECODERS = ("llama", "gpt2")
ENCODER_DECODERS = ("t5", "bart")
CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
T5_SPECIALS = ["<pad>", "</s>", "<unk>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


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


def facts(count: int, seed: int = 0) -> list[tuple[str, str, list[str], list[str]]]:
    """Distinct (question, answer, words of a sentence, their BIO tags), the answer a short sentence."""
    draw, out = random.Random(seed), {}
    while len(out) < count:
        who, place, beast = draw.choice(NAMES), draw.choice(PLACES), draw.choice(BEASTS)
        tail = draw.sample(PLAIN[:16], draw.randint(1, 6))
        words = [who, "lives", "in", place, *tail, "."]
        tags = ["B-person", "O", "O", "B-place", *("O" for _ in tail), "O"]
        out.setdefault(f"where does {who} live {' '.join(tail)} ?", (f"in {place} with a {beast} .", words, tags))
    return [(question, *rest) for question, rest in out.items()]


def chats(count: int, seed: int = 0) -> list[Row]:
    """A question and its answer, every third after an earlier turn."""
    rows = []
    for i, (question, answer, words, _) in enumerate(facts(count, seed)):
        turns = [{"role": "user", "content": question}]
        if i % 3 == 2:
            turns = [
                {"role": "user", "content": " ".join(words[:4])},
                {"role": "assistant", "content": "the end ."},
                *turns,
            ]
        rows.append(Row(str(i + 1), {"messages": turns, "answer": answer}))
    return rows


def rows_for(task: str, count: int, seed: int = 0) -> list[Row]:
    """Rows that have nothing in common: of questions, one to a passage, of each kind in turn."""
    if task == "classification":
        return reviews(count, seed)
    if task == "question-answering":
        return [row for i, row in enumerate(questions(count, seed)) if i % 3 == i // 3 % 3]
    if task == "generation":
        return chats(count, seed)
    fields: dict[str, Callable[..., dict[str, Any]]] = {
        "token-classification": lambda q, a, words, tags: {"tokens": words, "tags": tags},
        "seq2seq": lambda q, a, words, tags: {"source": q, "target": a},
        "embedding": lambda q, a, words, tags: {"anchor": q, "positive": " ".join(words)},
        "pretraining": lambda q, a, words, tags: {"text": f"{' '.join(words)} {q} {a}"},
    }
    return [Row(str(i + 1), fields[task](*fact)) for i, fact in enumerate(facts(count, seed))]


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
    return PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=length, model_input_names=inputs, **names)


def _bytes_bpe(specials: list[str], prefix_space: bool) -> Any:
    """Bytes, with merges that spell out our words; `specials` have the first ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    symbols = dict.fromkeys([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges = []
    for word in WORDS:
        whole = "Ġ"
        for letter in word:
            if whole + letter not in symbols:
                merges.append((whole, letter))
                symbols[whole + letter] = None
            whole += letter
    plain = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, merges))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    plain.decoder = decoders.ByteLevel()
    return plain


def byte_bpe(texts: Iterable[str] = (), length: int = 512) -> Any:
    """RoBERTa's, and BART's."""
    from tokenizers import processors

    plain = _bytes_bpe(ROBERTA_SPECIALS, prefix_space=True)
    plain.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    return _with_roberta_names(plain, length)


def _with_roberta_names(plain: Any, length: int) -> Any:
    """As transformers' tokenizer, its special tokens under RoBERTa's names."""
    from transformers import PreTrainedTokenizerFast

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


def chat_bpe(texts: Iterable[str] = (), length: int = 512, template: bool = True) -> Any:
    """A chat model's, as SmolLM2's: adds nothing by itself, pads with the token that ends a turn.

    Without `template` a plain language model's, as GPT-2's: one special token, which ends a text, and no padding.
    """
    from transformers import PreTrainedTokenizerFast

    plain = _bytes_bpe(CHAT_TOKENS if template else CHAT_TOKENS[:1], prefix_space=False)
    bos, eos = ("<|im_start|>", "<|im_end|>") if template else ("<|endoftext|>",) * 2
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=bos,
        eos_token=eos,
        unk_token="<|endoftext|>",
        **({"pad_token": eos} if template else {}),
    )
    if template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def t5_bpe(texts: Iterable[str] = (), length: int = 512) -> Any:
    """T5's special tokens (padding begins an answer, `</s>` ends each text) over bytes."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    plain = _bytes_bpe(T5_SPECIALS, prefix_space=True)
    plain.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def unigram(texts: Iterable[str] = (), length: int = 512) -> Any:
    """XLM-R's: pieces with scores over text in the normal form NFKC, spaces as a sign of their own."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = {c for text in [*WORDS, *texts] for c in unicodedata.normalize("NFKC", text) if not c.isspace()}
    pieces = [(s, 0.0) for s in ROBERTA_SPECIALS] + [("▁", -3.0)] + [(f"▁{w}", -5.0) for w in WORDS]
    pieces += [(c, -9.0) for c in sorted(letters - {"▁"})]
    plain = Tokenizer(models.Unigram(pieces, unk_id=3))
    plain.normalizer = normalizers.NFKC()
    plain.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    plain.decoder = decoders.Metaspace()
    plain.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _with_roberta_names(plain, length)


TOKENIZERS: dict[str, Callable[..., Any]] = {"wordpiece": wordpiece, "byte-bpe": byte_bpe, "unigram": unigram}


def save_model(folder: Path, architecture: str, *, language_head: bool = False, **settings: Any) -> Path:
    """A random model of two layers, 32 wide, and its tokenizer, as transformers saves them.

    An encoder comes without a task's head and without a pooler, as a model that was trained on masked words alone
    (where a class has a pooler, it is new), or with the head for masked words (`language_head`). A decoder and an
    encoder-decoder come with their language head. `settings` change the config.
    """
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM

    config, tokenizer, auto_class = _model_parts(architecture, settings)
    torch.manual_seed(0)
    extra = {}
    if auto_class is AutoModel:
        if language_head:
            auto_class = AutoModelForMaskedLM
        elif architecture != "distilbert":
            extra = {"add_pooling_layer": False}
    with quiet_transformers():
        auto_class.from_config(config, **extra).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _model_parts(architecture: str, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Config, tokenizer and Auto class of a small `architecture`."""
    import transformers as hf

    spread = {"initializer_range": 0.2}  # wide enough that different rows get clearly different answers
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {"hidden_size": 32, "intermediate_size": 64, **layers, **spread}
    if architecture in ("bert", "distilbert"):
        tokenizer = wordpiece()
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 256}
        if architecture == "bert":
            return hf.BertConfig(**{**sizes, **shape, **settings}), tokenizer, hf.AutoModel
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        shape = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, **spread}
        return hf.DistilBertConfig(**{**sizes, **shape, **settings}), tokenizer, hf.AutoModel
    if architecture == "roberta":
        tokenizer = byte_bpe()
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 258, "type_vocab_size": 1}
        return hf.RobertaConfig(**{**sizes, "pad_token_id": 1, **shape, **settings}), tokenizer, hf.AutoModel
    if architecture in DECODERS:
        tokenizer = chat_bpe(template=architecture == "llama")
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        sizes = {"vocab_size": len(tokenizer), "tie_word_embeddings": True, **ends}
        if architecture == "llama":
            grouped = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
            sizes["pad_token_id"] = tokenizer.pad_token_id
            return (
                hf.LlamaConfig(**{**sizes, **shape, **grouped, **settings}),
                tokenizer,
                hf.AutoModelForCausalLM,
            )
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512, **spread}
        return hf.GPT2Config(**{**sizes, **shape, **settings}), tokenizer, hf.AutoModelForCausalLM
    if architecture == "t5":
        tokenizer = t5_bpe()
        shape = {
            "d_model": 32,
            "d_kv": 16,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 2,
            "initializer_factor": 1.0,
        }
        sizes = {"vocab_size": len(tokenizer), "decoder_start_token_id": 0, "dropout_rate": 0.0}
        return hf.T5Config(**{**sizes, **shape, **settings}), tokenizer, hf.AutoModelForSeq2SeqLM
    tokenizer = byte_bpe()
    shape = {"d_model": 32, "dropout": 0.0, "init_std": 0.2, "max_position_embeddings": 512}
    for side in ("encoder", "decoder"):
        shape |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 64}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    ids |= {"forced_eos_token_id": None, "vocab_size": len(tokenizer)}
    return hf.BartConfig(**{**ids, **shape, **settings}), tokenizer, hf.AutoModelForSeq2SeqLM

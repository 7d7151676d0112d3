"""A new model and its tokenizer, from nothing: random weights of a chosen shape, a vocabulary learned from texts.

The folder is a stock one, as transformers' save_pretrained writes it: whatever follows takes it like any other model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from ..config import Section
from ..errors import ModelError
from .kinds import Kind
from .quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW = "new"
"""What a recipe's `model` says where there is none yet."""

Architecture = Literal["bert", "modernbert", "gpt2", "llama"]
KINDS: dict[str, Kind] = {
    "bert": "encoder",
    "modernbert": "encoder",
    "gpt2": "decoder",
    "llama": "decoder",
}
_MASKED_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CAUSAL_SPECIALS = ("<|endoftext|>", "<|pad|>")
FEWEST_MERGES = 300  # of bytes and special tokens alone there are 261


class NewModel(Section):
    """The shape of a model that is made from nothing; the default is a small one (Turc et al. 2019: BERT-mini)."""

    architecture: Literal["auto", "bert", "modernbert", "gpt2", "llama"] = Field(
        "auto", description="auto: bert for masked tokens, llama for the next token"
    )
    hidden_size: int = Field(256, ge=8, le=16_384, description="width")
    num_hidden_layers: int = Field(4, ge=1, le=200, description="layers")
    num_attention_heads: int = Field(4, ge=1, le=256, description="attention heads; they divide the width")
    intermediate_size: Annotated[int, Field(ge=8, le=65_536)] | Literal["auto"] = Field(
        "auto", description="width inside a layer; auto: four times the width"
    )
    vocab_size: int = Field(
        8_000,
        ge=FEWEST_MERGES,
        le=500_000,
        description="most tokens in the vocabulary, special ones included",
    )
    tokenizer: Literal["auto", "wordpiece", "byte-bpe"] = Field(
        "auto", description="auto: wordpiece for bert, byte-bpe, which knows every character, for the others"
    )
    lowercase: bool = Field(False, description="read every text in lower case and without accents")

    @model_validator(mode="after")
    def _whole_heads(self) -> NewModel:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} "
                "num_attention_heads of an even width"
            )
        return self

    def chosen(self, masked: bool | None) -> Architecture:
        """The architecture; `masked` is what it is for, None: whatever it is."""
        if self.architecture != "auto":
            return self.architecture
        return "llama" if masked is False else "bert"


def make_model(
    folder: Path, shape: NewModel, architecture: Architecture, texts: Iterable[str], length: int, seed: int
) -> None:
    """Write a new model of this shape into `folder`: the tokenizer learned from `texts`, weights drawn by `seed`.

    `length` is the most tokens it will read at once. The same texts and seed give the same files. ModelError where
    the texts hold nothing to learn a vocabulary from.
    """
    import torch
    import transformers as hf

    tokenizer = make_tokenizer(shape, architecture, texts, length)
    config = hf.AutoConfig.for_model(architecture, **_sizes(shape, architecture, tokenizer, length))
    auto_class = hf.AutoModelForMaskedLM if KINDS[architecture] == "encoder" else hf.AutoModelForCausalLM
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _sizes(
    shape: NewModel, architecture: Architecture, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, Any]:
    """The entries of the config that are not its class's own."""
    inner = 4 * shape.hidden_size if shape.intermediate_size == "auto" else shape.intermediate_size
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "intermediate_size": inner,
        "max_position_embeddings": length,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if architecture == "gpt2":
        names = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
        names |= {"intermediate_size": "n_inner", "max_position_embeddings": "n_positions"}
        sizes = {names.get(name, name): value for name, value in sizes.items()}
    if architecture == "modernbert":
        sizes |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    if architecture == "llama":
        sizes["num_key_value_heads"] = shape.num_attention_heads
    return sizes


def make_tokenizer(
    shape: NewModel, architecture: Architecture, texts: Iterable[str], length: int
) -> PreTrainedTokenizerBase:
    """A tokenizer whose vocabulary is learned from `texts`: WordPiece (Wu et al. 2016, arxiv.org/abs/1609.08144) or
    byte pairs of bytes (Radford et al. 2019).
    """
    from transformers import PreTrainedTokenizerFast

    masked = KINDS[architecture] == "encoder"
    specials = list(_MASKED_SPECIALS if masked else _CAUSAL_SPECIALS)
    pieces = shape.tokenizer == "wordpiece" or (shape.tokenizer == "auto" and architecture == "bert")
    texts = list(texts)
    plain = _wordpiece(shape, specials, texts) if pieces else _byte_pairs(shape, specials, texts)
    if plain.get_vocab_size() <= len(specials) + (0 if pieces else 256):
        raise ModelError(
            "its texts hold too little to learn a vocabulary from",
            where="data.train",
            fix="give more text, or start from an existing model",
        )
    if masked:
        from tokenizers import processors

        ends = [(name, plain.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        plain.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        names = {f"{name.strip('[]').lower()}_token": name for name in specials}
    else:
        names = {f"{key}_token": specials[0] for key in ("bos", "eos", "unk")} | {"pad_token": specials[1]}
    inputs = ["input_ids", *(["token_type_ids"] if architecture == "bert" else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=length, model_input_names=inputs, **names)


def _wordpiece(shape: NewModel, specials: list[str], texts: list[str]) -> Any:
    """WordPiece, learned twice. The trainer numbers the letters inside words in the order of a hash table, which is
    another one in each process, and breaks ties by these numbers; so it is told them, in order, the second time.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    unknown = "[UNK]" if "[UNK]" in specials else specials[0]

    def empty(vocabulary: dict[str, int]) -> Any:
        plain = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
        plain.normalizer = normalizers.BertNormalizer(lowercase=shape.lowercase)
        plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        plain.decoder = decoders.WordPiece()
        return plain

    def learned(size: int, known: list[str]) -> dict[str, int]:
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, min_frequency=2, special_tokens=[*specials, *known], show_progress=False
        )
        plain = empty({})
        plain.train_from_iterator(texts, trainer)
        return plain.get_vocab(with_added_tokens=True)

    inside = sorted(token for token in learned(1, []) if token.startswith("##"))
    final = empty(learned(shape.vocab_size, inside))
    final.add_special_tokens(specials)
    return final


def _byte_pairs(shape: NewModel, specials: list[str], texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    plain = Tokenizer(models.BPE())
    if shape.lowercase:
        plain.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False)
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        min_frequency=2,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    return plain

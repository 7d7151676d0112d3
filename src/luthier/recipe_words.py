"""What is said about a recipe's faults: one sentence each, with what was found and what is allowed or meant.

It knows nothing of what a recipe holds: paths, help and limits are read off the schema. Other tools' names
for our keys are the one list kept by hand.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .errors import edit_distance, nearest

Keys = tuple[str | int, ...]

# What other tools call our keys. Sources: the key tables of transformers/TRL, LLaMA-Factory, axolotl,
# Unsloth, LitGPT and Soup.
ALIASES = {
    "model_name_or_path": "model",
    "base_model": "model",
    "model_name": "model",
    "base": "model",
    "task_name": "task.name",
    "task_type": "task.name",
    "max_seq_length": "task.max_length",
    "max_seq_len": "task.max_length",
    "cutoff_len": "task.max_length",
    "sequence_len": "task.max_length",
    "doc_stride": "task.stride",
    "max_doc_stride": "task.stride",
    "dataset": "data.train",
    "dataset_name": "data.train",
    "datasets": "data.train",
    "train_file": "data.train",
    "local_dataset": "data.train",
    "validation_file": "data.validation",
    "val_size": "data.validation",
    "val_set_size": "data.validation",
    "val_split": "data.validation",
    "val_split_fraction": "data.validation",
    "test_file": "data.test",
    "test_size": "data.test",
    "eval_dataset": "data.validation",
    "column_mapping": "data.columns",
    "text_column": "data.columns",
    "label_column": "data.columns",
    "dataset_text_field": "data.columns",
    "text_field": "data.columns",
    "input_column": "data.columns",
    "target_column": "data.columns",
    "field_messages": "data.columns",
    "formatting": "data.format",
    "format_type": "data.format",
    "dataset_format": "data.format",
    "id2label": "data.label_names",
    "label_list": "data.label_names",
    "class_names": "data.label_names",
    "finetuning_type": "method.name",
    "training_type": "method.name",
    "adapter": "method.name",
    "use_peft": "method.name",
    "peft_type": "method.name",
    "lora_r": "method.rank",
    "lora_rank": "method.rank",
    "r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_target": "method.target",
    "lora_target_modules": "method.target",
    "target_modules": "method.target",
    "modules_to_save": "method.modules",
    "additional_target": "method.modules",
    "dora": "method.use_dora",
    "peft_use_dora": "method.use_dora",
    "rslora": "method.use_rslora",
    "peft_use_rslora": "method.use_rslora",
    "load_in_4bit": "method.quantization",
    "quantization_bit": "method.quantization",
    "freeze_trainable_layers": "method.unfreeze_last",
    "adapter_size": "method.bottleneck",
    "bottleneck_size": "method.bottleneck",
    "non_linearity": "method.activation",
    "pre_seq_len": "method.num_virtual_tokens",
    "prefix_length": "method.num_virtual_tokens",
    "prompt_length": "method.num_virtual_tokens",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "max_steps": "train.epochs",
    "lr": "train.learning_rate",
    "per_device_train_batch_size": "train.batch_size",
    "micro_batch_size": "train.batch_size",
    "global_batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.batch_size",
    "max_grad_norm": "train.clip",
    "gradient_clipping": "train.clip",
    "lr_scheduler_type": "train.schedule",
    "lr_scheduler": "train.schedule",
    "warmup_steps": "train.warmup_ratio",
    "early_stopping_steps": "train.early_stopping_patience",
    "patience": "train.early_stopping_patience",
    "eval_strategy": "train.eval_steps",
    "evaluation_strategy": "train.eval_steps",
    "save_strategy": "train.save_steps",
    "report_to": "train.trackers",
    "logger_name": "train.trackers",
    "tracker": "train.trackers",
    "bf16": "train.dtype",
    "fp16": "train.dtype",
    "mixed_precision": "train.dtype",
    "torch_dtype": "train.dtype",
    "precision": "train.dtype",
    "max_tokens_per_batch": "train.token_budget",
}

# Keys of other tools that have no place in a recipe, and why.
NEEDLESS = {
    "output_dir": "Leave it out: `luthier train RECIPE --out DIR` names the run's folder",
    "out_dir": "Leave it out: `luthier train RECIPE --out DIR` names the run's folder",
    "output": "Leave it out: `luthier train RECIPE --out DIR` names the run's folder",
    "resume_from_checkpoint": "Leave it out: `luthier resume` carries a run on",
    "trust_remote_code": "Leave it out: luthier never runs a repository's code",
    "group_by_length": "Leave it out: luthier batches rows of like length together",
    "load_best_model_at_end": "Leave it out: a run always ends with its best weights",
    "logging_steps": "Leave it out: every step is logged",
    "num_labels": "Leave it out: labels are counted in the data",
}


_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Spot:
    """Where in the schema an error lies: its keys, the section that holds the last of them, and its field."""

    keys: Keys
    section: type[BaseModel]
    field: FieldInfo | None  # None: the section has no such key, or the fault is the section's own
    depth: int  # how many of `keys` lead to the field; what follows are items of its list or block

    @property
    def path(self) -> str:
        text = "".join(f"[{k}]" if isinstance(k, int) else f".{_clean(k)}" for k in self.keys)
        return text.removeprefix(".")

    def sibling(self, key: str) -> str:
        """The dotted path of another key beside the last one."""
        return ".".join([*map(str, self.keys[:-1]), key])


@dataclass(frozen=True)
class Known:
    """A key of the whole recipe; `variant` names the section (a method, a task) where only some have it."""

    path: str
    variant: str = ""

    @property
    def key(self) -> str:
        return self.path.rpartition(".")[2]


def locate(schema: type[BaseModel], loc: Sequence[str | int]) -> Spot:
    """pydantic's error location as recipe keys: the names it gives the members of unions are taken out."""
    keys: list[str | int] = []
    section, field, depth = schema, None, 0
    inside: list[type[BaseModel]] = [schema]  # the sections that the next part may be a key of
    for part in loc:
        if len(inside) > 1:  # told apart by `name`: this part is one of their names
            inside = [s for s in inside if part in _names(s)]
        elif inside:
            section, field = inside[0], inside[0].model_fields.get(str(part))
            keys.append(part)
            depth = len(keys)
            inside = sections(field.annotation) if field else []
        elif isinstance(part, int) or (field and _is_block(field.annotation) and len(keys) == depth):
            keys.append(part)
    if len(inside) == 1:  # the location of a section: the fault is the section's own
        return Spot(tuple(keys), inside[0], None if inside[0] is schema else field, depth)
    return Spot(tuple(keys), section, field, depth)


def sentence(detail: ErrorDetails, spot: Spot, schema: type[BaseModel]) -> tuple[str, str]:
    """(what is wrong, the dotted path of the key that was meant, or "")."""
    kind, found, annotation = detail["type"], detail["input"], spot.field.annotation if spot.field else None
    if kind == "extra_forbidden":
        return _unknown(spot, schema)
    if kind == "missing":
        about = spot.field.description if spot.field else ""
        return f'the key "{spot.path}" is missing' + (f": {about}" if about else ""), ""
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unnamed(found, spot), ""
    if kind in ("value_error", "assertion_error"):
        error = (detail.get("ctx") or {}).get("error")
        message = str(error or detail["msg"]).removeprefix("Value error, ")
        own = spot.field is None or bool(sections(annotation)) or spot.path in message
        return message if own else f"{spot.path} is {shown(found)}: {message}", ""
    guess = nearest(found, _choices(annotation)) if isinstance(found, str) else None
    meant = f"[{guess}]" if guess == found else f'"{guess}"'  # the word is right, but it belongs in a list
    ask = f". Did you mean {meant}?" if guess else "."
    items = len(spot.keys) - spot.depth
    metadata = spot.field.metadata if spot.field and not items else ()
    allowed = describe(annotation, metadata, items)
    return f"{spot.path or 'this'} is {shown(found)}{ask} Allowed: {allowed}", ""


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a value of this type may be."""
    return [t for t in _members(annotation) if isinstance(t, type) and issubclass(t, BaseModel)]


def known_keys(schema: type[BaseModel], prefix: str = "", variant: str = "") -> list[Known]:
    """Every key of the recipe; a key that only some sections of a union have, once for each of these."""
    found = []
    for name, field in schema.model_fields.items():
        found.append(Known(prefix + name, variant))
        inner = sections(field.annotation)
        for section in inner:
            shared = set.intersection(*(set(s.model_fields) for s in inner))
            for known in known_keys(section, f"{prefix}{name}."):
                alone = "" if known.key in shared else next(iter(_names(section)), "")
                found.append(Known(known.path, alone))
    return list(dict.fromkeys(found))


def describe(annotation: Any, metadata: Sequence[Any] = (), items: int = 0) -> str:
    """What a value of this type may be, in words; with `items`, what those of such a list or block may be."""
    words: list[str] = []
    for kind, limits in _typed(annotation, metadata):
        origin, inside = get_origin(kind), get_args(kind)
        if items:
            words += [describe(inside[-1], (), items - 1)] if origin in (list, dict) else []
        elif origin is Literal:
            words += [str(value) for value in inside]
        elif origin is list:
            inner = describe(inside[0])
            words.append("a list of texts" if inner == "text" else f"a list of: {inner}")
        elif origin is dict:
            words.append("a block of `name: value` lines")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            keys = ", ".join(list(kind.model_fields)[:3])
            names = " or ".join(_names(kind))
            words.append(f"a block with name: {names}" if names else f"a block of keys such as {keys}")
        elif kind is not type(None):
            words.append(_PLAIN.get(kind, str(kind)) + _limits(limits))
    words = list(dict.fromkeys(words))
    if get_origin(annotation) is Literal:
        return ", ".join(words)
    return ", or ".join(words)


def shown(value: Any) -> str:
    """A value as a reader wrote it, short and on one line."""
    if value is None:
        return "empty"
    if isinstance(value, (Mapping, list, tuple)):
        kind = "block" if isinstance(value, Mapping) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{_clean(value)}"' if isinstance(value, str) else _clean(str(value))


def _clean(text: str, longest: int = 60) -> str:
    """`text` without what a terminal would act on, cut where it is long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + "..."


def _unknown(spot: Spot, schema: type[BaseModel]) -> tuple[str, str]:
    """An unknown key: ours for another tool's word, its place if it is ours, else the nearest we have."""
    said = f'unknown key "{spot.path}"'
    word = str(spot.keys[-1])
    plain = word.lower().replace("-", "_").replace(" ", "_")
    own, everywhere = spot.section.model_fields, known_keys(schema)
    if plain in own:
        return _meant(said, spot.sibling(plain))
    if plain in NEEDLESS:
        return f"{said}. {NEEDLESS[plain]}", ""
    if any(k.path == ALIASES.get(plain) for k in everywhere):
        return f"{said}. luthier calls it {ALIASES[plain]}", ALIASES[plain]
    beside = [k for k in everywhere if k.key == plain and k.path == spot.path]
    if beside:
        name = spot.section.model_fields["name"].default if "name" in own else "this block"
        return f"{said}: {name} has none. It is a key of {' and '.join(k.variant for k in beside)}", ""
    here, there = nearest(word, own), nearest(word, [k.key for k in everywhere])
    if here and not (there and edit_distance(plain, there) < edit_distance(plain, here)):
        return _meant(said, spot.sibling(here))
    if there:
        homes = [k for k in everywhere if k.key == there]
        return f"{said}. Did you mean {_places(homes)}?", homes[0].path
    paths = {k.path for k in everywhere}
    alias = nearest(word, [a for a, path in ALIASES.items() if path in paths and len(a) > 3])
    if alias:
        return f"{said}. luthier calls it {ALIASES[alias]}", ALIASES[alias]
    return f"{said}. Known here: {', '.join(own)}", ""


def _meant(said: str, path: str) -> tuple[str, str]:
    return f'{said}. Did you mean "{path}"?', path


def _places(homes: list[Known]) -> str:
    """The paths of `homes`, each with the sections that alone have it."""
    by_path: dict[str, list[str]] = {}
    for known in homes:
        by_path.setdefault(known.path, []).append(known.variant)
    out = []
    for path, variants in by_path.items():
        only = " and ".join(v for v in variants if v)
        out.append(f'"{path}"' + (f" (of {only})" if only else ""))
    return " or ".join(out)


def _unnamed(found: Any, spot: Spot) -> str:
    """A section told apart by its `name`, which is missing, misspelt or unknown."""
    names = [n for s in sections(spot.field.annotation if spot.field else None) for n in _names(s)]
    allowed = f"Allowed: {', '.join(names)}"
    written = found if isinstance(found, Mapping) else {}
    if "name" not in written:
        typo = nearest("name", map(str, written))
        if typo:
            return f'unknown key "{spot.path}.{_clean(typo)}". Did you mean "{spot.path}.name"?'
        return f'the key "{spot.path}.name" is missing. {allowed}'
    name = written["name"]
    guess = nearest(name, names) if isinstance(name, str) else None
    ask = f'. Did you mean "{guess}"?' if guess else "."
    return f"{spot.path}.name is {shown(name)}{ask} {allowed}"


def _names(section: type[BaseModel]) -> tuple[str, ...]:
    """The values of the section's `name` key, by which a union of sections is told apart."""
    field = section.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _typed(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[tuple[Any, Sequence[Any]]]:
    """The plain types inside Annotated, Union and Optional, each with what limits it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        limits = [m for e in extra for m in (e.metadata if isinstance(e, FieldInfo) else (e,))]
        yield from _typed(inner, [*metadata, *limits])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _typed(part, metadata)
    else:
        yield annotation, metadata


def _members(annotation: Any) -> list[Any]:
    return [kind for kind, _ in _typed(annotation)]


def _is_block(annotation: Any) -> bool:
    return any(get_origin(kind) is dict for kind in _members(annotation))


def _choices(annotation: Any) -> list[str]:
    """Every word that may stand in a value of this type or in a list of them."""
    out: list[str] = []
    for kind in _members(annotation):
        if get_origin(kind) is Literal:
            out += map(str, get_args(kind))
        elif get_origin(kind) is list:
            out += _choices(get_args(kind)[0])
    return out


def _limits(metadata: Sequence[Any]) -> str:
    """` above 0 and at most 1`, from the limits of a field."""
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}
    found = [(word, getattr(m, name, None)) for name, word in words.items() for m in metadata]
    said = [f"{word} {limit:,}" for word, limit in found if limit is not None]
    filled = any(getattr(m, "min_length", 0) for m in metadata)
    return (f" {' and '.join(said)}" if said else "") + (" that is not empty" if filled else "")


def mentioned(message: str, written: Mapping[str, Any]) -> list[str]:
    """The first of the written keys that a message names, if any: a contradiction is shown at its line."""
    return [word for word in re.findall(r"\w+", message) if word in written][:1]

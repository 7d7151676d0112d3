"""Virtual tokens that are learned in front of every text, the model behind them frozen; by peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from luthier.config import Section
from luthier.errors import ModelError

from .base import Method
from .peft_folder import load_adapter, peft_card, save_adapter, saved_config

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build


class SoftPromptOptions(Section):
    """Settings of soft prompts."""

    name: Literal["soft-prompt"] = "soft-prompt"
    kind: Literal["auto", "prefix", "prompt", "p-tuning"] = Setting(
        "auto",
        description="prefix: virtual tokens before every layer; prompt: before the first; p-tuning: before the first, "
        "made by a small network; auto: prefix (encoder-decoder: prompt), or which of them it takes",
    )
    num_virtual_tokens: int = Setting(
        16, ge=1, le=4096, description="how many; they count towards what the model can read"
    )
    encoder_hidden_size: int = Setting(
        0,
        ge=0,
        le=65536,
        description="width of the network that makes the virtual tokens, and is not saved; 0: p-tuning's is as wide as "
        "the model, a prefix has none",
    )

    @model_validator(mode="after")
    def _has_a_network(self) -> SoftPromptOptions:
        if self.kind in ("auto", "prompt") and self.encoder_hidden_size:
            raise ValueError(
                f"method.encoder_hidden_size: kind {self.kind} has no network; leave it out, or choose kind: p-tuning"
            )
        return self


class SoftPrompt(Method):
    name = "soft-prompt"
    Options = SoftPromptOptions
    changes_backbone = False
    needs_base = True
    library = "peft"

    @property
    def offset(self) -> int:
        return self.options.num_virtual_tokens

    def learning_rate(self, width: int) -> float:
        """Measured on short reviews with MiniLM: a prompt bears less than a prefix, a network least."""
        return {"prompt": 5e-3, "p-tuning": 1e-3}.get(self.options.kind, 1e-2)

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        """ModelError unless, on a few tokens, the prompt has an effect, and the right one under padding."""
        for kind in self._kinds(model.config):
            tuned, problem = self._wrapped(model, head, kind)
            if tuned is not None:
                return tuned
        raise ModelError(
            f"a soft prompt of kind {kind} does not fit this class: {problem}",
            where=type(model).__name__,
            fix=f"method.kind: {'prompt' if kind == 'prefix' else 'prefix'}, or method: lora",
        )

    def _kinds(self, config: Any) -> tuple[str, ...]:
        """What to try. In an encoder-decoder peft's prefix reaches the decoder alone, a prompt all there is."""
        if self.options.kind != "auto":
            return (self.options.kind,)
        return ("prompt", "prefix") if config.is_encoder_decoder else ("prefix", "prompt")

    def _wrapped(self, model: nn.Module, head: HeadSpec, kind: str) -> tuple[nn.Module | None, str]:
        """The model behind a prompt of this kind, or None and what is wrong with that."""
        from luthier.engine.soft import begin, misfit, wrap
        from luthier.models.quiet import quiet_transformers

        with quiet_transformers():
            try:
                words = begin(model, self.offset) if kind == "prefix" else None
                tuned = wrap(model, self._config(model, head, kind))
                if words is not None and not self.options.encoder_hidden_size:
                    tuned.prompt_encoder["default"].load_prompt_embeddings(words)
                problem = misfit(tuned)
            except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
                return None, str(error).strip().splitlines()[-1][:200]
        return (None, problem) if problem else (tuned, "")

    def _config(self, model: nn.Module, head: HeadSpec, kind: str) -> Any:
        """peft's settings, with the sizes that it would otherwise guess from the model's config."""
        import peft

        from luthier.engine.heads import head_modules
        from luthier.engine.soft import shape_of

        given: Any = model.config
        hidden, sizes = self.options.encoder_hidden_size, shape_of(given)
        if kind != "prefix":
            sizes["token_dim"] = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
        common = {
            # peft knows no word for masked language models; what it does for features fits them.
            "task_type": head.peft_type or "FEATURE_EXTRACTION",
            "num_virtual_tokens": self.options.num_virtual_tokens,
            "modules_to_save": head_modules(model, head) or None,
            **sizes,
        }
        if kind == "prefix":
            both = 2 if given.is_encoder_decoder else 1
            return peft.PrefixTuningConfig(
                **common,
                num_transformer_submodules=both,
                prefix_projection=bool(hidden),
                encoder_hidden_size=hidden or sizes["token_dim"],
            )
        # One set of tokens is enough: of an encoder-decoder, in front of what the encoder reads.
        common["num_transformer_submodules"] = 1
        if kind == "p-tuning":
            return peft.PromptEncoderConfig(**common, encoder_hidden_size=hidden or sizes["token_dim"])
        return peft.PromptTuningConfig(**common, prompt_tuning_init="SAMPLE_VOCAB")

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        save_adapter(model, folder, base)

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        import peft

        from luthier.engine.soft import prompt_effect, wrap

        assert base is not None
        kinds = {
            "PREFIX_TUNING": peft.PrefixTuningConfig,
            "PROMPT_TUNING": peft.PromptTuningConfig,
            "P_TUNING": peft.PromptEncoderConfig,
        }
        return load_adapter(
            build(base, True),  # the adapter holds the head
            saved_config(folder, kinds),
            wrap,
            folder,
            trained=lambda name: name == "prompt_embeddings",
            effect=prompt_effect,
        )

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        return peft_card(auto_class, head.outputs, _PREDICT.get(auto_class, ""))


_OWN = '[:, -inputs["input_ids"].shape[1] :]  # without the virtual tokens\n'
_PREDICT = {
    "AutoModelForTokenClassification": f"def predict(inputs):\n    return model(**inputs).logits{_OWN}",
    "AutoModelForQuestionAnswering": (
        "def predict(inputs):\n"
        "    out = model(**inputs)\n"
        f"    return torch.stack([out.start_logits, out.end_logits], -1){_OWN}"
    ),
    "AutoModel": f"def predict(inputs):\n    return model(**inputs).last_hidden_state{_OWN}",
}

"""The `train` block of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from luthier.config import Section

from .debias import DebiasOptions
from .forgetting import ForgettingOptions, short_form


class TrainOptions(Section):
    """How the model is tuned. What `auto` stands for is resolved once and written into the run's recipe."""

    epochs: float = Field(3, gt=0, le=10_000, description="passes over the training rows; 0.5 is half of one")
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        "auto", description="peak rate; auto: by method and model width"
    )
    batch_size: int = Field(
        16, ge=1, le=1_000_000, description="examples (windows) per optimizer step, whatever the hardware"
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="AdamW's decay of matrices; biases and norms are left alone"
    )
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps over which the rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="how the rate falls after warm-up")
    clip: float = Field(1.0, ge=0, description="largest norm of a step's gradient; 0: no limit")
    dropout: Annotated[float, Field(ge=0, lt=1)] | Literal["model"] = Field(
        "model", description="dropout of hidden states; model: as its config says"
    )
    attention_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout of attention weights; above 0 is slower, most where texts are long"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label's certainty that is spread over all labels"
    )
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        "none",
        description="how much labels count in the loss; balanced: rare ones as much as common ones, or label: weight",
    )
    row_weights: str = Field(
        "", description="the rows' column that says how much each counts in the loss; empty: all alike"
    )
    debias: DebiasOptions = Field(
        default_factory=DebiasOptions, description="an adversary that makes the encoder unlearn what tells groups apart"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each layer's learning rate as a share of the one's above it; 1: all the same",
    )
    neftune_noise_alpha: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="noise on input embeddings while training (NEFTune); 5 is usual, 0: none",
    )
    adversarial: Literal["none", "fgm", "freelb"] = Field(
        "none",
        description="learn under the worst small changes of input embeddings, too; costs one pass a step of it",
    )
    adversarial_epsilon: float = Field(
        0.03,
        gt=0,
        le=1e6,
        description="adversarial: largest norm of a row's change, in norms of its mean embedding",
    )
    adversarial_steps: int = Field(2, ge=1, le=100, description="freelb: ascents of the change in a step")
    early_stopping_patience: int = Field(
        2, ge=0, description="scorings without a better validation score before stopping; 0: never"
    )
    eval_steps: Annotated[int, Field(ge=1)] | Literal["epoch"] = Field(
        "epoch", description="optimizer steps between validation scorings"
    )
    save_steps: Annotated[int, Field(ge=1)] | Literal["epoch"] = Field(
        "epoch", description="optimizer steps between checkpoints"
    )
    save_total_limit: int = Field(3, ge=2, description="checkpoints kept: the best and the newest")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what products are computed in; auto: what is faster here"
    )
    token_budget: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="padded tokens in memory at once; speed and memory, never the mathematics"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations instead of keeping them: less memory, slower"
    )
    fit: Literal["off", "auto"] = Field(
        "off",
        description="where the run needs more memory than is there; off: say so; auto: lower token_budget, and if that "
        "is not enough turn gradient_checkpointing on",
    )
    forgetting: Annotated[ForgettingOptions, BeforeValidator(short_form)] = Field(
        default_factory=ForgettingOptions,
        description="against forgetting, where `model` is an earlier run: none, replay, ewc or distill",
    )
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        [], description="where numbers go beside the run folder"
    )

    @property
    def changes_embeddings(self) -> bool:
        """Whether something is added to input embeddings, sized by each row."""
        return self.neftune_noise_alpha > 0 or self.adversarial != "none"

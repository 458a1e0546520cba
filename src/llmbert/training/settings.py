"""What a training run is told."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """How a model is trained. Rates are per optimiser step; tokens a step are batch x context."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    steps: int = Field(1000, ge=1)
    batch: int = Field(32, ge=1)  # rows in one optimiser step
    accumulate: int = Field(1, ge=1)  # micro-batches the rows are split into
    optimiser: Literal["sgd", "momentum", "nesterov", "adam", "adamw", "adagrad", "rmsprop", "muon"] = "muon"
    learning_rate: float = Field(3e-3, gt=0.0)
    matrix_learning_rate: float = Field(0.02, gt=0.0)  # of Muon, for the inner matrices
    momentum: float = Field(0.95, ge=0.0, lt=1.0)
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.95, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    schedule: Literal["constant", "linear", "exponential", "cosine", "wsd"] = "wsd"
    warmup: int = Field(0, ge=0)  # steps
    hold: int = Field(0, ge=0)  # steps at the full rate between warm-up and schedule
    floor: float = Field(0.0, ge=0.0, le=1.0)  # what the schedule ends at, as a share of the rate
    clip_norm: float | None = Field(1.0, gt=0.0)
    clip_value: float | None = Field(None, gt=0.0)
    noise: float = Field(0.0, ge=0.0)  # DP-SGD: of the documents' clipped gradients, in clip_norms; 0: off
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False  # the layers: seconds at first, for long trainings on a GPU
    recompute: bool = False  # a Transformer's layers on the way back: less memory, a third more arithmetic
    average: float = Field(0.0, ge=0.0, lt=1.0)  # decay of an exponential moving average of the weights; 0: off
    evaluate_every: int | None = Field(None, ge=1)  # steps; None: twenty times in all
    patience: int | None = Field(None, ge=1)  # evaluations without a better one before stopping; None: never
    checkpoint_seconds: float = Field(60.0, ge=0.0)
    batch_tokens: int | None = Field(None, ge=8)  # of pairs: rows as many as fit so many padded tokens on either side
    keep_end: bool = False  # of a source too long: keep its end, not its start; of conversations that is usual
    mixture_temperature: float = Field(1.0, ge=1.0)  # of several tasks: 1 in proportion to their sizes, more evens out
    next_sentence: bool = True  # masked: also tell whether one stretch of text follows another
    whole_words: bool = False  # masked: hide whole words
    infilling: float | None = Field(None, ge=0.0, le=1.0)  # share of texts with something to be filled in; None: half
    blanks: float = Field(0.3, ge=0.0, le=1.0)  # of those the share with blanks instead of a middle moved to the end
    kl_schedule: Literal["constant", "linear", "sigmoid", "cyclical"] = "linear"  # elbo: how the KL term's weight rises
    kl_steps: int | None = Field(None, ge=1)  # over so many steps; None: half of all
    kl_cycles: int = Field(4, ge=1)
    free_bits: float = Field(0.0, ge=0.0)  # nats of each latent dimension that cost nothing
    word_dropout: float = Field(0.0, ge=0.0, lt=1.0)  # share of the decoder's inputs that are made unknown
    aggressive: int = Field(0, ge=0)  # first steps that train the encoder alone, nine times out of ten
    adversarial: Literal["policy", "relaxed"] = "policy"  # a GAN: SeqGAN's way, or RelGAN's
    likelihood_steps: int | None = Field(None, ge=0)  # before it, of maximum likelihood; None: six of ten
    warm_steps: int | None = Field(None, ge=0)  # behind them, of the discriminator alone; None: one of ten
    discriminator_every: int = Field(5, ge=0)  # its steps for each of the generator
    discriminator_rate: float = Field(1.0, gt=0.0)  # its rate as a share of the learning rate
    rollouts: int = Field(8, ge=1)  # how often a text is finished from each place to judge it
    sharpness: float = Field(100.0, ge=1.0)  # of softened texts, at the end
    across_documents: bool = False  # let attention see through the end of a document into the one before
    seed: int = Field(0, ge=0, lt=2**63)
    preflight: bool = True  # check masks, labels, caches and optimisers before the first step
    freeze: str | None = (
        None  # "3": embeddings and the lowest three layers; else patterns of names of weights, "trunk.*"
    )
    layer_decay: float = Field(1.0, gt=0.0, le=1.0)  # a layer's rate as a share of that of the layer above it
    lora_rank: int = Field(0, ge=0)  # 0: no LoRA
    lora_alpha: float | None = Field(None, gt=0.0)  # None: the rank
    lora_targets: str = "*attention*"  # patterns of names of linear maps

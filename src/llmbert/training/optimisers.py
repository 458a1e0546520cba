"""Optimisers: torch's, and Muon for the matrices of a model with AdamW for the rest; what learns, and how fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.nn.attention import CrossAttention, SelfAttention
from llmbert.nn.crf import CRF
from llmbert.nn.lora import add_lora
from llmbert.nn.stacked import stacked_maps
from llmbert.protocols import UsageError
from llmbert.training.precision import resolve_precision
from llmbert.training.settings import TrainingSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Roughly the semi-orthogonal matrix nearest to each of (N, rows, columns): U Vᵀ of its U S Vᵀ.

    Quintic Newton-Schulz iteration (Jordan et al. 2024): singular values land in about [0.7, 1.2].
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a matrix moves by the same length (Jordan et al. 2024).

    m ← μ m + g;  W ← (1 - η λ) W - η · √max(1, rows/columns) · orthogonalise(g + μ m).
    A weight that stacks several maps (query, key, value) says so in its `sections`, and each is taken by itself; in its
    `paces` it may say that some of them move by a share of η (see `mark_sections`).
    kind: the numbers it iterates in; bfloat16 is near enough and nearly three times as quick, but on processors
    without it (where torch's own Muon takes it all the same) a hundred times slower than float32.
    """

    def __init__(
        self,
        weights: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        kind: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.kind = kind

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients: Any = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, gradients)
            pushes = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            alike: dict[tuple[torch.Size, float], list[tuple[Tensor, Tensor]]] = {}
            for weight, push in zip(weights, pushes, strict=True):
                sections = getattr(weight, "sections", (len(weight),))
                paces = getattr(weight, "paces", (1.0,) * len(sections))
                for rows, part, pace in zip(weight.split(sections), push.split(sections), paces, strict=True):
                    alike.setdefault((rows.shape, pace), []).append((rows, part))
            for (shape, pace), pairs in alike.items():
                scale = -group["lr"] * pace * max(1.0, shape[0] / shape[1]) ** 0.5
                stacked = torch.stack([push for _, push in pairs])
                moves = orthogonalise(stacked.to(self.kind)).to(stacked.dtype)
                torch._foreach_add_([rows for rows, _ in pairs], list(moves.unbind()), alpha=scale)


def _torch(kind: type[torch.optim.Optimizer], **fixed: Any) -> Callable[[list[dict[str, Any]], TrainingSettings], Any]:
    def build(groups: list[dict[str, Any]], s: TrainingSettings) -> torch.optim.Optimizer:
        options: dict[str, Any] = {"lr": s.learning_rate, **fixed}
        if kind is torch.optim.SGD and fixed:
            options["momentum"] = s.momentum
            if not s.momentum:  # nothing to look ahead along
                options.pop("nesterov", None)
        if kind in (torch.optim.Adam, torch.optim.AdamW):
            options |= {"betas": (s.beta1, s.beta2), "fused": True}
        return kind(groups, **options)

    return build


OPTIMISERS: dict[str, Callable[[list[dict[str, Any]], TrainingSettings], torch.optim.Optimizer]] = {
    "sgd": _torch(torch.optim.SGD),
    "momentum": _torch(torch.optim.SGD, nesterov=False),
    "nesterov": _torch(torch.optim.SGD, nesterov=True),
    "adam": _torch(torch.optim.Adam),
    "adamw": _torch(torch.optim.AdamW),
    "adagrad": _torch(torch.optim.Adagrad),
    "rmsprop": _torch(torch.optim.RMSprop, alpha=0.99),
}


def adapt(model: nn.Module, settings: TrainingSettings) -> None:
    """Freeze what `settings` says and put LoRA on; to be done before the optimisers are built or a training resumed.

    With heads on a trunk LoRA is the trunk's alone, and the heads learn beside it. Raises UsageError for patterns that
    match nothing, or that leave nothing to learn.
    """
    if settings.lora_rank:
        trunk = getattr(model, "trunk", model)
        add_lora(trunk, settings.lora_rank, settings.lora_alpha, settings.lora_targets)
    if settings.freeze is not None:
        freeze(model, settings.freeze)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise UsageError(f"freeze={settings.freeze} leaves nothing to learn; freeze less")


def freeze(model: nn.Module, what: str) -> list[str]:
    """Keep weights as they are: "3" the embeddings and the lowest three layers, else patterns, "trunk.blocks.0.*,…".

    Returns the names of the weights that are frozen. Raises UsageError where none is.
    """
    depths = layer_depths(model)
    if what.strip().isdigit():
        chosen = [name for name, depth in depths.items() if depth <= int(what)]
    else:
        patterns = [pattern.strip() for pattern in what.split(",")]
        chosen = [name for name in depths if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise UsageError(f"freeze={what!r} matches no weight; name some of {', '.join(sorted(depths)[:5])}, …")
    for name in chosen:
        model.get_parameter(name).requires_grad_(False)
    return chosen


_LAYER = re.compile(r"(?:^|\.)(?:blocks|layers)\.(\d+)\.|_l(\d+)(?:_reverse)?$")


def layer_depths(model: nn.Module) -> dict[str, int]:
    """How deep each weight lies, by name: 0 for embeddings, n + 1 for layer n, and above all layers for what follows.

    In an encoder-decoder layer n of the one is as deep as layer n of the other.
    """
    found: dict[str, int | None] = {}
    for name, _ in model.named_parameters():
        layer = _LAYER.search(name)
        if layer:
            found[name] = 1 + int(layer[1] or layer[2])
        else:
            found[name] = 0 if "embedding" in name else None
    top = 1 + max((depth for depth in found.values() if depth is not None), default=0)
    return {name: top if depth is None else depth for name, depth in found.items()}


def build_optimisers(model: nn.Module, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """The optimisers of a model: one, or for `muon` Muon over its inner matrices and AdamW over the rest.

    Weight decay falls on matrices alone, not on biases, gains or embeddings. Each group remembers its base rate as
    "base_lr", which the schedule multiplies. A model whose tables are drawn larger than others' says by how much faster
    they are moved (`table_pace`). With `layer_decay` ξ the layers below the top have their own:
    ξ^(how far below) of the rate (Howard & Ruder 2018, §3.2).
    """
    mark_sections(model)
    apart = _no_inner_matrices(model)
    weights = [(name, w) for name, w in model.named_parameters() if w.requires_grad]
    matrices = [(name, w) for name, w in weights if w.dim() == 2 and id(w) not in apart]
    rest = [(name, w) for name, w in weights if w.dim() != 2 or id(w) in apart]
    adaptive = settings.optimiser not in ("sgd", "momentum", "nesterov")
    grouped = _Groups(model, settings.layer_decay, settings.discriminator_rate, adaptive)
    found: list[torch.optim.Optimizer] = []
    if settings.optimiser == "muon":
        adamw = grouped(rest, settings.learning_rate, weight_decay=0.0)
        muon = grouped(matrices, settings.matrix_learning_rate)
        if adamw:
            betas = (settings.beta1, settings.beta2)
            found.append(torch.optim.AdamW(adamw, settings.learning_rate, betas=betas, fused=True))
        if muon:
            device = muon[0]["params"][0].device.type
            kind = getattr(torch, resolve_precision(settings.precision, device))
            found.append(Muon(muon, settings.matrix_learning_rate, settings.momentum, settings.weight_decay, kind))
    else:
        groups = grouped(matrices, settings.learning_rate, weight_decay=settings.weight_decay)
        groups += grouped(rest, settings.learning_rate, weight_decay=0.0)
        found.append(OPTIMISERS[settings.optimiser](groups, settings))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["base_lr"] = group["lr"]
    return found


class _Groups:
    """Sorts weights into groups for an optimiser, one for each rate."""

    def __init__(self, model: nn.Module, decay: float, discriminator: float, adaptive: bool) -> None:
        depths = layer_depths(model) if decay < 1 else {}
        top = max(depths.values(), default=0)
        self.shares = {name: decay ** (top - depth) for name, depth in depths.items()}
        judges = (name for name, _ in model.named_parameters() if name.startswith("discriminator."))
        self.shares |= {name: self.shares.get(name, 1.0) * discriminator for name in judges}
        # An adaptive step is as long for small weights as for large ones, a plain one as long as its gradient.
        self.paces: dict[int, float] = {
            id(table.weight): float(module.table_pace)  # type: ignore[arg-type]
            for module in model.modules()
            if hasattr(module, "table_pace") and adaptive
            for table in module.modules()
            if isinstance(table, nn.Embedding)
        }

    def __call__(self, weights: list[tuple[str, nn.Parameter]], rate: float, **options: Any) -> list[dict[str, Any]]:
        by_share: dict[float, list[nn.Parameter]] = {}
        for name, weight in weights:
            share = self.shares.get(name, 1.0) * self.paces.get(id(weight), 1.0)
            by_share.setdefault(share, []).append(weight)
        return [{"params": params, "lr": rate * share, **options} for share, params in by_share.items()]


def _no_inner_matrices(model: nn.Module) -> set[int]:
    """Matrices that are none between two hidden states: embeddings, output layers and transitions between labels."""
    found = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found |= {id(m.transitions) for m in model.modules() if isinstance(m, CRF)}
    outputs = [m for name, m in model.named_modules() if re.fullmatch(r"(.+\.)?head|heads\.[^.]+\.out", name)]
    return found | {id(m.weight) for m in outputs if isinstance(m, nn.Linear)}


def mark_sections(model: nn.Module) -> None:
    """Note on each stacked weight how many rows belong to each of its maps, for Muon.

    Where the products of queries and keys are not divided by √D (T5), the queries are smaller by as much at the start,
    and are moved by as much less: at the pace of the rest attention would be at one place before it had found which.
    """
    for layer, sections in stacked_maps(model):
        layer.weight.sections = sections  # type: ignore[attr-defined]
    for module in model.modules():
        if isinstance(module, SelfAttention | CrossAttention) and module.scale is not None:
            pace = module.head_width**-0.5 / module.scale
            if isinstance(module, SelfAttention):
                module.qkv.weight.paces = (pace, 1.0, 1.0)  # type: ignore[attr-defined]
            else:
                module.query.weight.paces = (pace,)  # type: ignore[attr-defined]
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
            for name, weight in module.named_parameters():
                if name.startswith("weight"):
                    weight.sections = (module.hidden_size,) * gates  # type: ignore[attr-defined]

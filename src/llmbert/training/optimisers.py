"""Optimisers: torch's, and Muon for the matrices of a model with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.training.settings import TrainingSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Roughly the semi-orthogonal matrix nearest to each of (N, rows, columns): U Vᵀ of its U S Vᵀ.

    Quintic Newton-Schulz iteration (Jordan et al. 2024), in float32: singular values land in about [0.7, 1.2].
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
    A weight that stacks several maps (query, key, value) says so in its `sections`, and each is taken by itself.
    torch's own Muon iterates in bfloat16, which processors without it compute a hundred times slower.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                push = weight.grad.add(state["momentum"], alpha=group["momentum"])
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                sections = getattr(weight, "sections", (len(weight),))
                for rows, part in zip(weight.split(sections), push.split(sections), strict=True):
                    by_shape.setdefault(rows.shape, []).append((rows, part))
            for shape, pairs in by_shape.items():
                scale = -group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                moves = orthogonalise(torch.stack([push for _, push in pairs]))
                for (rows, _), move in zip(pairs, moves, strict=True):
                    rows.add_(move, alpha=scale)


def _torch(kind: type[torch.optim.Optimizer], **fixed: Any) -> Callable[[list[dict[str, Any]], TrainingSettings], Any]:
    def build(groups: list[dict[str, Any]], s: TrainingSettings) -> torch.optim.Optimizer:
        options: dict[str, Any] = {"lr": s.learning_rate, **fixed}
        if kind is torch.optim.SGD and fixed:
            options["momentum"] = s.momentum
        if kind in (torch.optim.Adam, torch.optim.AdamW):
            options["betas"] = (s.beta1, s.beta2)
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


def build_optimisers(model: nn.Module, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """The optimisers of a model: one, or for `muon` Muon over its inner matrices and AdamW over the rest.

    Weight decay falls on matrices alone, not on biases, gains or embeddings. Each group remembers its base rate as
    "base_lr", which the schedule multiplies.
    """
    mark_sections(model)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = getattr(model, "head", None)
    if head is not None:
        embeddings.add(id(head.weight))
    weights = [w for w in model.parameters() if w.requires_grad]
    matrices = [w for w in weights if w.dim() == 2 and id(w) not in embeddings]
    rest = [w for w in weights if w.dim() != 2 or id(w) in embeddings]
    if settings.optimiser == "muon":
        found: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), weight_decay=0.0)
        ]
        if matrices:
            found.append(Muon(matrices, settings.matrix_learning_rate, settings.momentum, settings.weight_decay))
    else:
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        found = [OPTIMISERS[settings.optimiser]([g for g in groups if g["params"]], settings)]
    for optimiser in found:
        for group in optimiser.param_groups:
            group["base_lr"] = group["lr"]
    return found


def mark_sections(model: nn.Module) -> None:
    """Note on each stacked weight how many rows belong to each of its maps, for Muon."""
    for module in model.modules():
        sections = getattr(module, "sections", None)
        if sections:
            for layer in module.children():
                if isinstance(layer, nn.Linear) and layer.out_features == sum(sections):
                    layer.weight.sections = sections  # type: ignore[attr-defined]
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
            for name, weight in module.named_parameters():
                if name.startswith("weight"):
                    weight.sections = (module.hidden_size,) * gates  # type: ignore[attr-defined]

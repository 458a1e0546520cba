"""A mixture combines its members' probabilities by the formulas, and its weights are those that predict best."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llmbert.models import FAMILIES
from llmbert.models.mixture import Mixture, MixtureSettings, features, read_together
from llmbert.models.ngram import NGram, NGramSettings
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import load
from llmbert.workbench import mixing
from llmbert.workbench.mixing import (
    WAYS,
    Kept,
    check_members,
    fit_mixture,
    gather_kept,
    parse_members,
    read_again,
    seconds_of_mixing,
)

VOCABULARY, BEGIN, END = 20, 2, 3


@pytest.mark.parametrize("name", ["..", ".", "", "inner"])
def test_members_lie_below_and_are_no_mixtures(name: str, tmp_path: Path) -> None:
    """A stranger's folder is not to lead elsewhere, or into itself."""
    for folder in (tmp_path, tmp_path / "members" / "inner"):
        (folder / "members").mkdir(parents=True, exist_ok=True)
        save_file({"weights": torch.zeros(1)}, folder / "model.safetensors")
        config = {"model_type": "llmbert-mixture", "vocab_size": 9, "settings": {}, "members": [name]}
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LLMBertError, match=r"does not name the members|inner is itself a mixture"):
        load(tmp_path)


def text(seed: int, documents: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    words = [4 + random.zipf(1.6, random.integers(5, 20)) % 16 for _ in range(documents)]
    rows = [np.concatenate(([BEGIN], part, [END])) for part in words]
    return np.concatenate(rows).astype(np.uint16), np.concatenate(([0], np.cumsum([len(row) for row in rows])))


def members() -> list[Any]:
    torch.manual_seed(0)
    gpt = FAMILIES["gpt"]
    shape = {"layers": 1, "width": 16, "heads": 2, "context": 16}
    model = gpt.build(gpt.settings_class()(**shape), VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return [NGram.fit(*text(1), VOCABULARY, NGramSettings(order=3)), model]


def make(way: Any) -> Mixture:
    mixture = Mixture(MixtureSettings(way=way), members())
    torch.manual_seed(4)
    for weight in (mixture.weights, mixture.gate):
        if weight is not None:
            torch.nn.init.normal_(weight, 0.4, 0.3)
    return mixture.eval()


@pytest.mark.parametrize("way", ["linear", "log-linear", "gate"])
def test_it_is_what_the_formulas_say(way: str) -> None:
    mixture = make(way)
    ids = torch.from_numpy(text(3)[0][:9].astype(np.int64))[None]
    with torch.inference_mode():
        found = mixture.logits(ids)[0]
        parts = [part[0].double() for part in mixture.parts(ids)]
    np.testing.assert_allclose(found.exp().sum(-1).numpy(), 1, atol=1e-5)
    weights = mixture.weights.detach().double()
    for time in range(9):
        p = [part[time].exp() for part in parts]
        if way == "log-linear":
            powers = torch.stack([q.clamp_min(math.exp(-30)) ** w for q, w in zip(p, weights, strict=True)]).prod(0)
            expected = powers / powers.sum()
        else:
            scores = weights.clone()
            if mixture.gate is not None:
                entropies = [-(q[q > 0] * q[q > 0].log()).sum() for q in p]
                seen = torch.stack([*entropies, *(q.max().log() for q in p)])
                scores = scores + mixture.gate.detach().double() @ seen
            expected = sum(share * q for share, q in zip(scores.softmax(0), p, strict=True))
        torch.testing.assert_close(found[time].exp().double(), expected, atol=1e-5, rtol=1e-4)


def test_what_is_wanted_at_some_places_is_what_is_said_there() -> None:
    mixture = make("linear")
    ids = torch.from_numpy(text(3)[0][:18].astype(np.int64)).view(2, 9)
    wanted = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.inference_mode():
        for some, all_of_them in zip(mixture.parts_at(ids, wanted), mixture.parts(ids), strict=True):
            torch.testing.assert_close(some, all_of_them[wanted], rtol=1e-5, atol=1e-5)


def test_a_gate_sees_entropy_and_the_highest() -> None:
    sure, unsure = torch.tensor([0.97, 0.01, 0.01, 0.01]).log(), torch.full((4,), 0.25).log()
    seen = features([sure[None], unsure[None]])[0]
    assert seen[1] == pytest.approx(math.log(4)) and seen[0] < 0.2
    assert seen[2] == pytest.approx(math.log(0.97)) and seen[3] == pytest.approx(math.log(0.25))


def known(count: int = 4000) -> Kept:
    """Text of which the first member is right when it is sure, and the second otherwise."""
    random = torch.Generator().manual_seed(0)
    sure = torch.rand(count, generator=random) < 0.5
    aims = torch.randint(0, 4, (count,), generator=random)
    right = torch.full((count, 4), 0.02).scatter_(1, aims[:, None], 0.94)
    flat = torch.full((count, 4), 0.25)
    other = torch.where(sure[:, None], flat, right * 0.7 + 0.075)
    whole = torch.stack([torch.where(sure[:, None], right, flat), other])
    whole = (whole / whole.sum(-1, keepdim=True)).log()
    targets = whole.gather(2, aims[None, :, None].expand(2, -1, 1))[..., 0].mT
    return Kept(targets, features(list(whole)), whole, aims, torch.arange(count))


def test_each_way_finds_the_weights_that_predict_best() -> None:
    kept = known()
    alone = -kept.targets.mean(0)
    losses = {}
    for way, how in WAYS.items():
        found = how.fit(kept)
        losses[way] = how.loss(kept, *found)
        assert losses[way] < float(alone.min())
        for weight in found:
            for _ in range(5):  # nothing near by is better
                moved = [each + 0.05 * torch.randn_like(each) if each is weight else each for each in found]
                assert how.loss(kept, *moved) > losses[way] - 2e-3
    assert losses["gate"] < losses["linear"] - 0.1, "who is sure is heard"


def test_ways_are_compared_on_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every third token, those that the log-linear way knows all probabilities of."""
    ids, starts = text(9, 60)
    shard: Any = SimpleNamespace(ids=ids, starts=starts)
    monkeypatch.setattr(mixing, "MOST_DISTRIBUTIONS", len(ids) // 3 * 2 * members()[0].vocabulary_size)
    kept = gather_kept(members(), MixtureSettings(), shard)
    assert len(kept.aims) == len(kept.places) < len(kept.targets) // 2
    for part in (kept, kept.half(0), kept.half(1), kept.half(1).wholly_known()):
        known = part.whole.gather(2, part.aims[None, :, None].expand(2, -1, 1))[..., 0].mT
        torch.testing.assert_close(part.targets[part.places], known)
    assert sum(len(kept.half(which).targets) for which in (0, 1)) == len(kept.targets)
    judged: list[Kept] = []

    def loss(part: Kept, *weights: torch.Tensor) -> float:
        judged.append(part)
        return 0.0

    monkeypatch.setattr(mixing, "WAYS", {name: replace(way, loss=loss) for name, way in WAYS.items()})
    fit_mixture(dict(zip(("ngram", "gpt"), members(), strict=True)), MixtureSettings(), shard)
    assert len(judged) == 3 and all(len(part.targets) == len(part.aims) > 0 for part in judged)


def test_of_kept_text_that_crosses_the_limit_the_head_is_weighed() -> None:
    few, many = text(9, 3), text(9, 400)
    shard: Any = SimpleNamespace(
        ids=np.concatenate([few[0], many[0]]), starts=np.array([0, len(few[0]), len(few[0]) + len(many[0])])
    )
    kept = gather_kept(members(), MixtureSettings(), shard, most=100)
    assert len(kept.targets) == 98, "a begin token of either document is given"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("ngram ordr=3, gpt", "'ordr'"),
        ("ngram order=0, gpt", "order"),
        ("ngram, gpt layers=1 widht=8", "'widht'"),
        ("ngram, gpt learning_rate=fast", "learning_rate"),
        ("ngram, gpt free_bits=1", "free_bits"),
        ("ngram, lstm vocabulary_size=99", "of the mixture"),
    ],
)
def test_wrong_settings_of_a_member_are_found_before_any_is_trained(members: str, words: str) -> None:
    store = SimpleNamespace(kept=SimpleNamespace(ids=range(100), documents=5))
    check_members(MixtureSettings(members="ngram order=3, gpt layers=1 steps=5"), {"batch": "4"}, store)
    with pytest.raises(UsageError, match=words):
        check_members(MixtureSettings(members=members), {}, store)


def test_kept_text_that_leaves_nothing_to_judge_by_is_refused() -> None:
    store = SimpleNamespace(kept=SimpleNamespace(ids=range(18), documents=2))
    with pytest.raises(LLMBertError, match="16 tokens are kept"):
        check_members(MixtureSettings(), {}, store)


def test_the_best_way_is_chosen_on_text_of_its_own() -> None:
    ids, starts = text(9, 60)

    class Shard:
        pass

    shard: Any = Shard()
    shard.ids, shard.starts = ids, starts
    mixture, found = fit_mixture(dict(zip(("ngram", "gpt"), members(), strict=True)), MixtureSettings(), shard)
    assert found["way"] == mixture.way == min(found["nats_by_way"], key=found["nats_by_way"].get)
    assert set(found["nats_by_way"]) == {"linear", "log-linear", "gate"}
    nats = mixture.token_nats(ids, starts)
    mean = float(nats.sum()) / found["kept_tokens"]
    assert mean < min(found["nats_alone"].values())
    assert found["kept_tokens"] == len(ids) - 60
    one, said = fit_mixture(dict(zip(("ngram", "gpt"), members(), strict=True)), MixtureSettings(way="linear"), shard)
    assert one.way == said["way"] == "linear" and sum(said["shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize("wrong", ["gpt", "ngram order, gpt", ""])
def test_members_are_named_rightly(wrong: str) -> None:
    assert parse_members("ngram order=7, gpt") == [("ngram", {"order": "7"}), ("gpt", {})]
    with pytest.raises(UsageError):
        parse_members(wrong)


@pytest.mark.parametrize("kept", [300, 20_000])
def test_how_long_mixing_takes_is_told_from_what_was_read_of_whole_documents(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token takes half a millisecond here, and texts of 210 tokens are read whole or not at all."""
    clock = [0.0]

    def gather(models: Any, settings: Any, shard: Any, most: int) -> Any:
        read = min(most // 210 * 210 or 210, kept)
        clock[0] += 5e-4 * read
        return SimpleNamespace(targets=range(read))

    monkeypatch.setattr(mixing, "gather_kept", gather)
    monkeypatch.setattr(mixing.time, "perf_counter", lambda: clock[0])
    store: Any = SimpleNamespace(valid=SimpleNamespace(ids=range(5000)), kept=SimpleNamespace(ids=range(kept)))
    assert read_again(store) == 5000 + kept
    told = seconds_of_mixing([None], MixtureSettings(), store, 60.0)
    assert told == pytest.approx(3.0 + 5e-4 * read_again(store))


def test_few_tokens_are_read_together_whatever_the_vocabulary() -> None:
    assert [read_together(size) for size in (69, 4096, 1 << 25)] == [8192, 4096, 1]

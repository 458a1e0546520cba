"""A draft makes texts come sooner and changes nothing else: greedy ones token for token, drawn ones in distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmbert.decoding import Engine, GenerationSettings, LookupDraft, NGramDraft, Proposal, Request
from llmbert.decoding.sampling import accept_or_draw
from llmbert.models import find_family
from llmbert.protocols import UsageError

BEGIN, END = 2, 3


@dataclass
class Texts:
    """The state of a `Markov`: all tokens of each row."""

    rows: list[list[int]]

    @property
    def lengths(self) -> Tensor:
        return torch.tensor([len(row) for row in self.rows])

    def select(self, rows: Tensor) -> Texts:
        return Texts([list(self.rows[i]) for i in rows.tolist()])

    def extend(self, other: Texts) -> Texts:
        return Texts(self.rows + other.rows)

    def rewind(self, tokens: Tensor) -> Texts:
        backs = torch.as_tensor(tokens).expand(len(self.rows)).tolist()
        return Texts([row[: len(row) - back] for row, back in zip(self.rows, backs, strict=True)])


class Markov:
    """Logits looked up by the last two tokens: exact, however many are looked at together."""

    def __init__(self, size: int = 12, seed: int = 0, reach: int | None = None, end: float = -2.0) -> None:
        self.vocabulary_size, self.max_length = size, reach
        self.table = 2 * torch.randn(size, size, size, generator=torch.Generator().manual_seed(seed))
        self.table[:, :, END] = end
        self.asked = 0

    def start(self, batch: int, condition: Any = None) -> Texts:
        return Texts([[] for _ in range(batch)])

    def step(self, ids: Tensor, state: Texts) -> tuple[Tensor, Texts]:
        self.asked += 1
        assert self.max_length is None or int(state.lengths.max()) + ids.shape[1] <= self.max_length
        found = []
        for row, new in zip(state.rows, ids.tolist(), strict=True):
            logits = []
            for token in new:
                row.append(token)
                before = row[-2] if len(row) > 1 else 0
                logits.append(self.table[before, token])
            found.append(torch.stack(logits))
        return torch.stack(found), state


class Fixed:
    """A draft that guesses a given text again and again."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def propose(self, tokens: Any, count: int, generator: Any) -> Proposal:
        return Proposal((self.tokens * (count + 1))[:count] if self.tokens else [])


def engine(model: Any, draft: Any = None, guesses: int = 4, max_batch: int = 8) -> Engine:
    return Engine(model, BEGIN, END, str, padding_id=0, unknown_id=1, draft=draft, guesses=guesses, max_batch=max_batch)


def written(model: Any, requests: list[Request], draft: Any = None, guesses: int = 4) -> list[tuple[list[int], str]]:
    return [(h.ids, str(h.finish)) for h in engine(model, draft, guesses).run(requests)]


def request(prompt: list[int], **chosen: Any) -> Request:
    return Request(prompt, GenerationSettings(**{"max_tokens": 24, "temperature": 0.0, **chosen}))


PROMPTS = [[5, 6, 7], [8], [9, 4, 9, 4, 9], [10, 11, 5, 5, 6, 7, 8, 9]]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 1},
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram": 2},
    {"stop": ("7, 8",)},
    {"logprobs": 2},
]


@settings(max_examples=40, deadline=None)
@given(
    guess=st.lists(st.integers(0, 11), max_size=6),
    guesses=st.integers(1, 6),
    which=st.sampled_from(SETTINGS),
    seed=st.integers(0, 5),
    end=st.sampled_from([-2.0, 1.0, 3.0]),
)
def test_whatever_is_guessed_a_greedy_text_is_the_same(
    guess: list[int], guesses: int, which: dict[str, Any], seed: int, end: float
) -> None:
    model = Markov(seed=seed, end=end)
    requests = [request(prompt, **which) for prompt in PROMPTS]
    assert written(model, requests, Fixed(guess), guesses) == written(model, requests)


@pytest.mark.parametrize("family", ["gpt", "lstm", "gru"])
def test_real_families_write_the_same_with_every_draft(family: str) -> None:
    torch.manual_seed(0)
    known = find_family(family)
    shape = {"layers": 2, "width": 16, "context": 64} | ({"heads": 2} if known.settings == "GPTSettings" else {})
    model = known.build(known.settings_class()(**shape), 12).eval()
    for weight in model.parameters():  # first weights are cautious; these say something
        torch.nn.init.normal_(weight, std=0.5)
    requests = [request(prompt, max_tokens=30) for prompt in PROMPTS]
    alone = written(model, requests)
    for draft in (LookupDraft(), NGramDraft(Markov(seed=1), 3, BEGIN), Fixed([5, 6])):
        assert written(model, requests, draft) == alone


def test_a_draft_that_knows_is_always_right_and_saves_steps() -> None:
    model, knows = Markov(end=-9.0), Markov(end=-9.0)
    plain = written(model, [request([5, 6], max_tokens=40)])
    slow, model.asked = model.asked, 0
    quick = engine(model, NGramDraft(knows, 3, BEGIN, (0, 1, BEGIN)))
    found = next(quick.run([request([5, 6], max_tokens=40)]))
    assert (found.ids, str(found.finish)) == plain[0]
    assert quick.accepted == quick.proposed > 0
    assert model.asked <= slow / 4


def test_texts_beyond_the_reach_slide_all_the_same() -> None:
    requests = [request([5, 6, 7], max_tokens=50), request([8], max_tokens=9)]
    requests += [request([5, 6, 7] * 9, max_tokens=tokens) for tokens in (1, 4, 30)]
    assert written(Markov(reach=16, end=-9.0), requests, Fixed([5, 9])) == written(Markov(reach=16, end=-9.0), requests)


def test_the_same_seed_draws_the_same_text() -> None:
    draft = NGramDraft(Markov(seed=3), 3, BEGIN)
    first, again, other = (written(Markov(), [request([5], temperature=0.9, seed=s)], draft) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("draft", ["sure", "drawn", "wrong", "itself"])
@pytest.mark.parametrize("shape", [{"temperature": 1.0}, {"temperature": 0.7, "top_k": 4}])
def test_drawn_texts_have_the_models_distribution(draft: str, shape: dict[str, Any]) -> None:
    """A chi-square test on the first two tokens of many texts (Wilson & Hilferty 1931 for its tail)."""
    size, count = 7, 4000
    model = Markov(size, seed=2, end=0.0)
    drafts = {"sure": Fixed([5, 4]), "drawn": NGramDraft(Markov(size, seed=4), 3, BEGIN), "wrong": Fixed([0, 0])}
    chosen = drafts.get(draft) or NGramDraft(Markov(size, seed=2, end=0.0), 3, BEGIN)
    requests = [request([5], max_tokens=2, seed=i, **shape) for i in range(count)]
    found = torch.zeros(size + 1, size + 1)
    for ids, finish in written(model, requests, chosen, guesses=2):
        first, second = (*ids, *([END] * (finish == "end")), size, size)[:2]
        found[first, second] += 1
    expected = count * _pairs(model, shape)
    assert not found[expected == 0].any(), "what cannot be was never written"
    cells = expected > 0
    freedom = int(cells.sum()) - 1
    statistic = float(((found - expected)[cells] ** 2 / expected[cells]).sum())
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert abs(z) < 4.5, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


def _pairs(model: Markov, shape: dict[str, Any]) -> Tensor:
    """p(first, second) behind the prompt [5], the last row and column for texts that ended before."""
    size = model.vocabulary_size

    def next_token(a: int, b: int) -> Tensor:
        logits = model.table[a, b].clone()
        logits[:3] = -torch.inf  # padding, unknown and begin are never written
        if shape.get("top_k"):
            logits[logits < logits.topk(shape["top_k"]).values[-1]] = -torch.inf
        return (logits.double() / shape["temperature"]).softmax(-1)

    found = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    for first, p in enumerate(next_token(BEGIN, 5)):
        if first == END:
            found[END, size] = p
        else:
            found[first, :size] = p * next_token(5, first)
    return found


def test_a_guess_stands_as_often_as_it_may() -> None:
    """Of one token: the draw has probability p whatever q was, and the guess is kept with probability min(1, p/q)."""
    p, q = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    generator, counts, kept = torch.Generator().manual_seed(0), torch.zeros(4), 0
    for _ in range(8000):
        guess = int(torch.multinomial(q, 1, generator=generator))
        token = accept_or_draw(p.log(), guess, q, generator)
        counts[token] += 1
        kept += token == guess
    assert torch.allclose(counts / 8000, p, atol=0.02)
    assert kept / 8000 == pytest.approx(float(torch.minimum(p.double(), q).sum()), abs=0.02)


def test_lookup_takes_what_followed_the_longest_agreement() -> None:
    draft = LookupDraft(longest=3, shortest=1)
    assert draft.propose([7, 1, 2, 3, 9, 1, 2, 3], 2, None).tokens == [9, 1]
    assert draft.propose([1, 2, 5, 1, 2, 6, 1, 2], 3, None).tokens == [6, 1, 2], "the last earlier place"
    assert draft.propose([1, 2, 3], 4, None).tokens == [] == draft.propose([], 4, None).tokens
    with pytest.raises(UsageError, match="will not do"):
        LookupDraft(longest=1, shortest=2)
    with pytest.raises(UsageError, match="1 to 32 tokens"):
        engine(Markov(), draft, guesses=0)


def test_a_draft_that_knows_no_way_on_guesses_nothing() -> None:
    """Behind some contexts a model that counts without smoothing allows only what is never written."""
    model = Markov(size=8)
    model.table[:] = -torch.inf
    model.table[:, :, 1] = 0.0
    draft = NGramDraft(model, 3, BEGIN, never_ids=(0, 1, BEGIN))
    assert draft.propose([5, 6], 3, torch.Generator()).tokens == []


@given(st.lists(st.sampled_from([0, 1, 255, 256, 1 << 33]), min_size=1, max_size=40), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_lookup_finds_what_a_search_place_by_place_finds(tokens: list[int], longest: int) -> None:
    expected: list[int] = []
    for size in range(min(longest, len(tokens) - 1), 0, -1):
        ends = [end for end in range(size, len(tokens)) if tokens[end - size : end] == tokens[-size:]]
        if ends:
            expected = tokens[ends[-1] : ends[-1] + 3]
            break
    assert LookupDraft(longest, 1).propose(tokens, 3, None).tokens == expected

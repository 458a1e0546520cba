"""One engine steps a batch whose rows come and go; whoever asks for a text sees only a view on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llmbert.decoding.drafts import Draft, Proposal
from llmbert.decoding.processors import Context, Processor, build_processors, log_probabilities_of
from llmbert.decoding.sampling import accept_or_draw, greedy, sample
from llmbert.decoding.settings import Request, check_prompt, end_ids_of, never_written
from llmbert.decoding.stepping import Row, RunningBatch, modules_of, resting
from llmbert.decoding.streaming import Decode, StopFinder, TextStream
from llmbert.decoding.utf8 import ValidUtf8, character_begun
from llmbert.protocols import Progress, Stepper, UsageError, silent

MOST_GUESSES = 32  # a recurrent or n-gram state goes back no further than twice that

FinishReason = Literal["end", "length", "stop", "cancelled"]
"""The model ended the text, max_tokens were written, a stop string came up, or the request was withdrawn."""


@dataclass(frozen=True)
class Token:
    """A generated token; with `logprobs` its log-probability in nats, and the most probable alternatives with theirs.

    Log-probabilities are those of the model's own distribution, before any processor, so that they mean the same
    whatever the settings. None: not asked for, or the model gave the token no probability at all.
    """

    id: int
    log_probability: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What is new of a request: tokens, the text that became certain, and, in the last one, why it ended."""

    tokens: tuple[Token, ...] = ()
    text: str = ""
    finish: FinishReason | None = None


class Handle:
    """A request under way.

    `tokens`: all generated so far, the end token left out and those of a stop string included; `finish`: why it
    ended, None while it has not. `text` never shows any of a stop string, nor of a half character. begun: the last
    tokens of a prompt that ends inside a character, which the text then shows whole.
    """

    def __init__(self, request: Request, decode: Decode, begun: Sequence[int] = ()):
        self.request = request
        self.tokens: list[Token] = []
        self.finish: FinishReason | None = None
        self._stream = TextStream(request.decode or decode)
        self._stream.push(begun)
        self._stops = StopFinder(request.settings.stop)
        self._shown: list[str] = []
        self._read = 0  # tokens whose text was looked at
        self._taken_tokens = 0
        self._taken_texts = 0
        self._told = False

    @property
    def ids(self) -> list[int]:
        """The ids of `tokens`."""
        return [token.id for token in self.tokens]

    @property
    def text(self) -> str:
        """All text that is certain so far."""
        self._read_text()
        return "".join(self._shown)

    def take(self) -> Delta:
        """What came since the last call."""
        self._read_text()
        delta = Delta(
            tuple(self.tokens[self._taken_tokens :]),
            "".join(self._shown[self._taken_texts :]),
            None if self._told else self.finish,
        )
        self._taken_tokens, self._taken_texts = len(self.tokens), len(self._shown)
        self._told = self.finish is not None
        return delta

    def cancel(self) -> None:
        """Withdraw the request; its row leaves with the engine's next step. Nothing happens if it has ended."""
        self._end("cancelled")

    def _add(self, token: Token) -> None:
        """Take a token; ends the request at its length or at a stop string."""
        self.tokens.append(token)
        if self.request.settings.stop:
            self._read_text()
            if self._stops.found is not None:
                self._end("stop")
        if len(self.tokens) >= self.request.settings.max_tokens:
            self._end("length")

    def _end(self, reason: FinishReason) -> None:
        if self.finish is not None:
            return
        self._read_text()
        if self.tokens:  # else there may be a character that only the prompt began
            self._show(self._stops.push(self._stream.finish()))
        if self._stops.found is not None and reason != "cancelled":
            reason = "stop"
        self._show(self._stops.finish())
        self.finish = reason

    def _read_text(self) -> None:
        """Decoding waits until text is wanted: whoever needs ids alone does not pay for it."""
        if self.finish is None and self._read < len(self.tokens):
            new = [token.id for token in self.tokens[self._read :]]
            self._read = len(self.tokens)
            self._show(self._stops.push(self._stream.push(new)))

    def _show(self, text: str) -> None:
        if text:
            self._shown.append(text)


@dataclass(kw_only=True)
class _Row(Row):
    """A row of the engine: the request's handle, its own processors and its own random numbers."""

    handle: Handle
    processors: tuple[Processor, ...]
    generator: torch.Generator

    @property
    def remaining(self) -> int:
        return self.handle.request.settings.max_tokens - len(self.handle.tokens)


class Engine:
    """Writes many texts at once with one stepper.

    Requests join a running batch as others leave it; each has its own settings and random numbers, so what it gets
    does not depend on its neighbours (as far as the model computes a row alike alone and in a batch).

    begin_id: put before every prompt (None: nothing is), never written; end_id: ends a text, one or several;
    padding_id and never_ids are never written, unknown_id only where the settings allow it; decode: ids to text;
    token_bytes: by id, for byte-level vocabularies: then only whole UTF-8 characters are written; max_batch: most rows
    at a time, which bounds the memory of the model's state; progress is told the tokens generated so far.

    draft: guesses up to `guesses` tokens ahead, which the model checks in one step (Leviathan et al. 2023): texts are
    what they would be without it, greedy ones token for token (as far as the model computes tokens alike alone and
    together), drawn ones in distribution; which text is drawn then depends on when neighbours come and go. `proposed`
    and `accepted` count guesses.

    prefixes: prompts whose state is kept for others that begin alike (a chat's history, a system text); equal prompts
    that come together are taken in once in any case. `saved_tokens` counts what was not taken in again.

    watermark: put into every text, whatever its request asks for (see `Watermark`).

    Texts longer than the model reaches slide (see `RunningBatch`). Not for use by several threads at once.
    """

    def __init__(
        self,
        model: Stepper,
        begin_id: int | None,
        end_id: int | Sequence[int],
        decode: Decode,
        token_bytes: Sequence[bytes] | None = None,
        *,
        padding_id: int | None = None,
        unknown_id: int | None = None,
        never_ids: Sequence[int] = (),
        max_batch: int = 32,
        device: torch.device | str | None = None,
        progress: Progress = silent,
        draft: Draft | None = None,
        guesses: int = 4,
        prefixes: int = 0,
        watermark: Processor | None = None,
    ):
        if max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, not {max_batch}.")
        if not 1 <= guesses <= MOST_GUESSES:
            raise UsageError(f"a draft guesses 1 to {MOST_GUESSES} tokens, not {guesses}.")
        if prefixes < 0:
            raise UsageError(f"prefixes counts prompts that are kept, so it is 0 or more, not {prefixes}.")
        self.model = model
        self._modules = modules_of(model)
        self.end_ids = end_ids_of(end_id)
        self.decode = decode
        self.max_batch = max_batch
        self.draft, self.guesses = draft, guesses
        self.generated = self.proposed = self.accepted = 0
        self._begin_id = begin_id
        self._never = never_written(begin_id, padding_id, never_ids, self.end_ids)
        self._unknown = (unknown_id,) if unknown_id is not None else ()
        self._valid_utf8 = ValidUtf8(token_bytes, model.vocabulary_size) if token_bytes is not None else None
        self._batch: RunningBatch[_Row] = RunningBatch(model, begin_id, device, prefixes)
        self._waiting: deque[_Row] = deque()
        self.watermark = watermark
        self._progress = progress

    @property
    def saved_tokens(self) -> int:
        return self._batch.known.saved

    @property
    def active(self) -> int:
        """Requests that are under way or wait for a place."""
        rows = [*self._waiting, *self._batch.rows]
        return sum(row.handle.finish is None for row in rows)

    def add(self, request: Request) -> Handle:
        """Let a request join with the next step that has a place free; UsageError where it cannot be met."""
        row = self._row(request)
        self._batch.window(row)  # before it joins others, who are not to suffer from a prompt that nothing follows
        self._waiting.append(row)
        return row.handle

    def peek(self, request: Request) -> tuple[Tensor, Tensor]:
        """Logits (1, V) of the token after a prompt: the model's own, and what the request's settings make of them.

        Where nothing is left that a text could go on with, it is the end that is left, as in what is written. Nothing
        is written, and no text under way is touched; a watermark is left out, since the two together would tell which
        tokens it favours. UsageError as from `add`.
        """
        row = self._row(request)
        with resting(self._modules):
            logits = RunningBatch[_Row](self.model, self._begin_id, self._batch.device).advance([row])
            context = Context([row.tokens], [row.remaining], [len(request.prompt)])
            shown = [processor for processor in row.processors if processor is not self.watermark]
            return logits, _stuck(_apply(shown, logits, context), shown, context, self.end_ids[0])

    def _row(self, request: Request) -> _Row:
        prompt = self._check(request)
        settings = request.settings
        forbidden = self._never if settings.allow_unknown else self._never + self._unknown
        processors = build_processors(
            settings,
            forbidden_ids=forbidden,
            valid_utf8=self._valid_utf8,
            constraint=request.constraint,
            watermark=self.watermark,
        )
        generator = torch.Generator().manual_seed(settings.seed)
        begun = character_begun(prompt, self._valid_utf8.token_bytes) if self._valid_utf8 is not None else ()
        handle = Handle(request, self.decode, begun)
        return _Row(
            tokens=prompt,
            condition=request.condition,
            room=settings.max_tokens,
            handle=handle,
            processors=tuple(processors),
            generator=generator,
        )

    def _check(self, request: Request) -> list[int]:
        if request.settings.beams > 1:
            raise UsageError("The engine samples or decodes greedily; use beam_search for beams above 1.")
        return check_prompt(request.prompt, self.model.vocabulary_size)

    def step(self) -> list[Handle]:
        """Prefill who joins, write one token for every row, let go who is done; return the handles that moved.

        Nothing is returned once nothing is left to do.
        """
        with resting(self._modules):
            self._leave()
            joining: list[_Row] = []
            while self._waiting and len(self._batch.rows) + len(joining) < self.max_batch:
                row = self._waiting.popleft()
                if row.handle.finish is None:
                    joining.append(row)
            if not joining and not self._batch.rows:
                return []
            rows = list(self._batch.rows)
            if joining or not self._look_ahead(rows):
                logits = self._batch.advance(joining)
                rows = list(self._batch.rows)
                self._write(rows, logits)
            self._leave()
        self._progress("generating", self.generated, None, rows=len(rows))
        return [row.handle for row in rows]

    def stream(self, request: Request) -> Iterator[Delta]:
        """A request's text as it is written; the request joins with the first `next` and leaves when closed.

        Raises UsageError at once where the request cannot be met. Other requests move along.
        """
        self._check(request)
        return self._stream(request)

    def _stream(self, request: Request) -> Iterator[Delta]:
        handle = self.add(request)
        try:
            while True:
                delta = handle.take()  # there may be news from steps that others asked for
                if delta != Delta():
                    yield delta
                if delta.finish is not None:
                    return
                if handle.finish is None:
                    self.step()
        finally:
            handle.cancel()

    def run(self, requests: Iterable[Request]) -> Iterator[Handle]:
        """Finished handles of any number of requests, in their order; few are held at a time."""
        source = iter(requests)
        queue: deque[Handle] = deque()
        try:
            while True:
                while self.active < self.max_batch and len(queue) < 8 * self.max_batch:
                    request = next(source, None)
                    if request is None:
                        break
                    queue.append(self.add(request))
                if not queue:
                    return
                while queue and queue[0].finish is not None:
                    yield queue.popleft()
                if queue:
                    self.step()
        finally:
            for handle in queue:
                handle.cancel()

    def _leave(self) -> None:
        rows = self._batch.rows
        stay = [index for index, row in enumerate(rows) if row.handle.finish is None]
        self._batch.keep(stay, [rows[index] for index in stay])

    def _write(self, rows: list[_Row], logits: Tensor) -> None:
        """One token for every row: (B, V) logits to `Row.tokens` and `Handle.tokens`."""
        chosen = self._choose(rows, logits)
        details = [Token(token) for token in chosen]
        asked = [index for index, row in enumerate(rows) if row.handle.request.settings.logprobs]
        if asked:
            log_probabilities = log_probabilities_of(logits[asked])
            for index, each in zip(asked, log_probabilities, strict=True):
                details[index] = _detailed(chosen[index], each, rows[index].handle.request.settings.logprobs)
        for row, token in zip(rows, details, strict=True):
            self._take(row, token)

    def _take(self, row: _Row, token: Token) -> None:
        if token.id in self.end_ids:
            # a text whose constraint left nothing to write was cut, not ended
            row.handle._end("end" if getattr(row.handle.request.constraint, "complete", True) else "length")
            return
        row.tokens.append(token.id)
        row.handle._add(token)
        self.generated += 1

    # ---- several tokens at once ------------------------------------------------------------------------------------

    def _look_ahead(self, rows: list[_Row]) -> bool:
        """Let every row take as many tokens as its draft guessed right, and one more; false where none was guessed."""
        if self.draft is None:
            return False
        proposals = []
        for row in rows:
            generator = None if row.handle.request.settings.greedy else row.generator
            proposals.append(self.draft.propose(row.tokens, min(self.guesses, row.remaining - 1), generator))
        if not any(proposal.tokens for proposal in proposals):
            return False
        logits = self._batch.look_ahead([proposal.tokens for proposal in proposals])
        if logits is None:
            return False
        kept = []
        for row, proposal, own in zip(rows, proposals, logits, strict=True):
            before = len(row.tokens)
            self._accept(row, proposal, own[: len(proposal.tokens) + 1])
            kept.append(max(1, len(row.tokens) - before))
            self.proposed += len(proposal.tokens)
        self._batch.settle(kept, logits.shape[1])
        return True

    def _accept(self, row: _Row, proposal: Proposal, logits: Tensor) -> None:
        """Take the guesses that stand, and the token behind them; logits (guesses + 1, V)."""
        settings, guesses = row.handle.request.settings, proposal.tokens
        texts = [[*row.tokens, *guesses[:place]] for place in range(len(logits))]
        context = Context(
            texts,
            [row.remaining - place for place in range(len(logits))],
            [len(row.handle.request.prompt)] * len(texts),
        )
        block = _stuck(_apply(row.processors, logits, context), row.processors, context, self.end_ids[0])
        best = greedy(block).tolist() if settings.greedy else []
        details = log_probabilities_of(logits) if settings.logprobs else None
        for place in range(len(logits)):
            guess = guesses[place] if place < len(guesses) else None
            if settings.greedy:
                token = best[place]
            else:
                known = (
                    proposal.distributions[place] if guess is not None and proposal.distributions is not None else None
                )
                token = accept_or_draw(block[place], guess, known, row.generator)
            known_token = Token(token) if details is None else _detailed(token, details[place], settings.logprobs)
            self._take(row, known_token)
            self.accepted += token == guess
            if row.handle.finish is not None or token != guess:
                return

    def _choose(self, rows: list[_Row], logits: Tensor) -> list[int]:
        """Rows of equal settings go through their processors together."""
        chosen = [0] * len(rows)
        groups: dict[tuple[tuple[Processor, ...], bool], list[int]] = {}
        for index, row in enumerate(rows):
            key = (row.processors, row.handle.request.settings.greedy)
            groups.setdefault(key, []).append(index)
        for (processors, is_greedy), indices in groups.items():
            members = [rows[index] for index in indices]
            block = logits if len(indices) == len(rows) else logits[torch.tensor(indices, device=logits.device)]
            context = Context(
                [row.tokens for row in members],
                [row.remaining for row in members],
                [len(row.handle.request.prompt) for row in members],
            )
            block = _stuck(_apply(processors, block, context), processors, context, self.end_ids[0])
            if is_greedy:
                tokens = greedy(block)
            else:
                draws = [torch.rand((), dtype=torch.float64, generator=row.generator) for row in members]
                tokens = sample(block, torch.stack(draws))
            for index, token in zip(indices, tokens.tolist(), strict=True):
                chosen[index] = token
        return chosen


def _apply(processors: Iterable[Processor], logits: Tensor, context: Context) -> Tensor:
    for processor in processors:
        logits = processor(logits, context)
    return logits


def _stuck(logits: Tensor, processors: Iterable[Processor], context: Context, end_id: int) -> Tensor:
    """Rows where the model allows nothing that the rules allow (counts without smoothing can): the text ends there,
    or, inside a character, goes on with any token the rules allow; where they allow none together, it ends too."""
    dead = ~(logits > -torch.inf).any(-1)
    if not bool(dead.any()):
        return logits
    allowed = _apply(processors, torch.zeros_like(logits), context)
    ended = torch.full_like(logits, -torch.inf)
    ended[:, end_id] = 0.0
    may_end = (allowed[:, end_id : end_id + 1] > -torch.inf) | ~(allowed > -torch.inf).any(-1, keepdim=True)
    return torch.where(dead[:, None], torch.where(may_end, ended, allowed), logits)


def _detailed(token: int, log_probabilities: Tensor, count: int) -> Token:
    """A token with the model's log-probabilities (V,) of it and of the `count` most probable."""
    top = log_probabilities.topk(min(count, len(log_probabilities)))
    alternatives = tuple(
        (each, value)
        for each, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        if value > -torch.inf
    )
    own = float(log_probabilities[token])
    return Token(token, own if own > -torch.inf else None, alternatives)

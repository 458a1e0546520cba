"""A trained model with its tokeniser: predict, write and score."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbert.data.infilling import INFILLING_TOKENS, InfillingIds, find_infilling_ids
from llmbert.decoding import (
    Delta,
    Engine,
    GenerationSettings,
    GreenLists,
    Request,
    Token,
    Watermark,
    beam_search,
    cut_at_stop,
    split_condition,
)
from llmbert.decoding.stepping import device_of, evaluating
from llmbert.decoding.streaming import Decode
from llmbert.decoding.watermark import GAMMA, STRENGTH, WIDTH
from llmbert.metrics import TokenNats, likelihood_scores
from llmbert.protocols import Condition, LLMBertError, Progress, UsageError, silent
from llmbert.runs.drafting import find_draft, refuse_draft
from llmbert.runs.files import CONFIG, MEMBERS, WEIGHTS
from llmbert.runs.infilling import fill_gaps, nearest_context, within_reach
from llmbert.runs.pair_scoring import padded, pair_nats
from llmbert.text.foreign import ForeignTokeniser
from llmbert.text.tokenisers import Tokeniser


class Run:
    """A trained model with its tokeniser and what is known of it.

    model: a `Stepper` and `Scorer`, under a source where it is an encoder-decoder; tokeniser: or why there is none;
    facts: `run.json`, {} for a folder from elsewhere.
    """

    def __init__(
        self, folder: Path, model: Any, tokeniser: Tokeniser | LLMBertError | None, facts: dict[str, Any]
    ) -> None:
        self.folder, self.model, self.facts = folder, model, facts
        self._tokeniser = tokeniser
        self._watermark: Watermark | None = None

    @property
    def family(self) -> str:
        return str(self.facts.get("family") or getattr(self.model, "family", "ngram"))

    @property
    def reads_source(self) -> bool:
        """Whether it writes a target from a source: an encoder-decoder."""
        return getattr(self.model, "likelihood", None) == "conditional"

    @property
    def fills_gaps(self) -> bool:
        """Whether it reads a text both ways and fills gaps in it: a BERT with its masked-LM head."""
        settings = getattr(self.model, "settings", None)
        return bool(getattr(settings, "masked", False)) and getattr(settings, "mask_id", None) is not None

    @property
    def tokeniser(self) -> Tokeniser:
        """Raises LLMBertError where the folder has none."""
        if isinstance(self._tokeniser, Tokeniser):
            return self._tokeniser
        why = f" ({self._tokeniser})" if self._tokeniser else ""
        raise LLMBertError(
            f"{self.folder} has no tokeniser that can be read here{why}; give token ids to .logits instead"
        )

    # ---- predict ---------------------------------------------------------------------------------------------------

    def logits(self, ids: Any, target_ids: Any = None, source_mask: Any = None) -> Tensor:
        """Logits float32 (B, T, V) of token ids (B, T) or (T,); [:, t] predicts the token after ids[:, t].

        An encoder-decoder takes source ids (B, S) and target ids (B, T), the begin token first; source_mask (B, S) is
        true where the source (of a BERT, the text) holds a token, None: everywhere. A BERT's [:, t] is of the token at
        t itself. Raises UsageError for ids outside the vocabulary, or of another shape or number than is asked for.
        """
        block = self._block("ids", ids)
        mask = None if source_mask is None else torch.as_tensor(np.asarray(source_mask)).bool().to(block.device)
        if mask is not None and mask.dim() == 1:
            mask = mask[None]
        if mask is not None and mask.shape != block.shape:
            raise UsageError(f"source_mask has shape {tuple(mask.shape)}, the ids have {tuple(block.shape)}")
        if not self.reads_source:
            if target_ids is not None:
                raise UsageError(f"{self.family} takes one sequence of ids; leave out target_ids")
            if mask is not None and self.model.likelihood != "pseudo":
                raise UsageError(f"{self.family} takes ids without a mask; leave out source_mask")
        elif target_ids is None:
            raise UsageError(f"{self.family} predicts a target from a source; give target_ids as well")
        with evaluating(self.model):
            if not self.reads_source:
                return self.model.logits(*((block,) if mask is None else (block, mask))).cpu()
            target = self._block("target_ids", target_ids)
            if len(target) != len(block):
                raise UsageError(f"there are {len(block)} sources and {len(target)} targets; give as many of each")
            return self.model.logits(target, self.model.encode(block, mask)).cpu()

    def _block(self, name: str, ids: Any) -> Tensor:
        """Ids (B, T) on the model's device, checked."""
        block = torch.as_tensor(np.asarray(ids)).long()
        block = block[None] if block.dim() == 1 else block
        if block.dim() != 2 or block.shape[1] == 0:
            raise UsageError(
                f"{name} must be (time,) or (batch, time) with at least one token, not {tuple(block.shape)}"
            )
        if int(block.min()) < 0 or int(block.max()) >= self.model.vocabulary_size:
            raise UsageError(f"{name} must lie between 0 and {self.model.vocabulary_size - 1}, the model's vocabulary")
        return block.to(device_of(self.model))

    # ---- write -----------------------------------------------------------------------------------------------------

    @property
    def marked(self) -> bool:
        """Whether what it writes carries a watermark."""
        return self._watermark is not None

    def wrote_with(self, engine: Engine) -> bool:
        """Whether an engine of this run, made earlier, writes as one made now: with the same watermark, or none."""
        return engine.watermark is self._watermark

    def mark(self, key: bytes | None, strength: float = STRENGTH, gamma: float = GAMMA, width: int = WIDTH) -> None:
        """Let every text that it writes from now on carry the watermark of a key (see `Watermark`); None: none.

        The key is in no file of the run. Raises UsageError for a setting out of range, or a model that does not write
        from left to right.
        """
        if key is None:
            self._watermark = None
            return
        if not hasattr(self.model, "step") or self.fills_gaps:
            raise UsageError(
                f"a {self.family} does not write from left to right and carries no watermark; leave it out"
            )
        t = self._ending()
        special = {*t.reserved_ids, *getattr(t, "end_ids", (t.end_id,))}
        self._watermark = Watermark(GreenLists(key, gamma, width), strength, special)

    def generate(self, prompt: str = "", source: str | None = None, **settings: Any) -> str:
        """The text the model writes after `prompt` (the prompt itself is not repeated); see `GenerationSettings`.

        source: what an encoder-decoder writes from; its prompt is what the target begins with; draft: as in `write`.
        """
        return "".join(delta.text for delta in self.write(prompt, source, **settings))

    def stream(self, prompt: str = "", source: str | None = None, **settings: Any) -> Iterator[str]:
        """`generate`, piece by piece as it is written; a piece never ends inside a character."""
        return (delta.text for delta in self.write(prompt, source, **settings) if delta.text)

    def write(
        self,
        prompt: str = "",
        source: str | None = None,
        draft: Any = None,
        engine: Engine | None = None,
        **settings: Any,
    ) -> Iterator[Delta]:
        """The decoding as it goes: tokens, text and, in the last delta, why the text ended.

        draft: what guesses ahead to write sooner, see `find_draft`; engine: one that `engine` gave, with its own draft,
        which may know the beginning of the prompt from before. Of a prompt longer than the model reaches as much of the
        end is read as leaves room for `max_tokens`, half of its reach at least. A model that reads both ways (BERT)
        fills `max_tokens` gaps behind the prompt, and all of it comes at once. Raises UsageError where a setting is
        unknown or out of range, or a source is missing or not wanted.
        """
        chosen = generation_settings(settings)
        self._check_sources(None if source is None else [source], 1)
        if draft is not None:
            refuse_draft(self, chosen.beams)
            if engine is not None:
                raise UsageError("an engine has a draft of its own or none; give the draft to run.engine(…) instead")
        if self.fills_gaps:
            return iter([self._filled(prompt, "", chosen)])
        request = self._request(prompt, source, chosen)
        if chosen.beams == 1:
            return (engine or self.engine(draft=draft)).stream(request)
        best = beam_search(self.model, [request], **self._ids())[0][0]
        return iter([Delta(tuple(Token(i) for i in best.tokens), best.text, best.finish)])

    def request(self, prompt: str | Sequence[int] = "", source: str | None = None, **settings: Any) -> Request:
        """What `engine` takes to write a text; prompt: also ids, as `.tokeniser` gives them.

        A source is encoded here. Raises UsageError as `write` does.
        """
        self._check_sources(None if source is None else [source], 1)
        return self._request(prompt, source, generation_settings(settings))

    def _request(self, prompt: str | Sequence[int], source: str | None, settings: GenerationSettings) -> Request:
        ids = self._prompt_ids(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
        condition = self.drawn(settings.seed) if source is None else self._conditions([self._source_ids(source)])[0]
        return Request(ids, settings, condition, decode=self._behind(ids) if len(prompt) else None)

    def generate_many(
        self,
        prompts: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        *,
        batch: int = 32,
        limits: Sequence[int] | None = None,
        progress: Progress = silent,
        **settings: Any,
    ) -> list[str]:
        """A text for each prompt, or for each source (prompts None: the targets begin with nothing), in their order.

        `batch` texts are written at a time, beams too; those of like length together. Text number i draws its random
        numbers from seed + i, so that it does not depend on the batch. limits: `max_tokens` of each text, where they
        differ; progress: told with every step how many texts are done.
        Raises UsageError as `write` does, and where there are not as many sources or limits as prompts.
        """
        chosen = generation_settings(settings)
        count = len(prompts) if prompts is not None else len(sources or ())
        self._check_sources(sources, count)
        if limits is not None and len(limits) != count:
            raise UsageError(f"there are {len(limits)} limits and {count} texts; give as many of each")
        each = [
            replace(chosen, seed=(chosen.seed + i) % 2**63, max_tokens=limits[i] if limits else chosen.max_tokens)
            for i in range(count)
        ]
        if batch < 1:
            raise UsageError(f"batch must be at least 1, not {batch}")
        if self.fills_gaps:
            return [self._filled(prompt, "", own).text for prompt, own in zip(prompts or (), each, strict=True)]
        starts = [self._prompt_ids(prompt) for prompt in (prompts if prompts is not None else [""] * count)]
        read = [self._source_ids(source, i) for i, source in enumerate(sources)] if sources is not None else None
        order = sorted(range(count), key=lambda i: (-len(read[i]) if read else 0, -len(starts[i])))
        texts, ready = [""] * count, 0

        def stepped(stage: str, done: float, total: float | None = None, **figures: float | str) -> None:
            progress("generating", ready, count)

        behind = [self._behind(start) if prompts and prompts[i] else None for i, start in enumerate(starts)]
        requests = self._requests(order, starts, read, each, behind, batch)
        for index, text in self._written(order, requests, chosen.beams, batch, stepped):
            texts[index], ready = text, ready + 1
            progress("generating", ready, count)
        return texts

    def _requests(
        self,
        order: Sequence[int],
        starts: Sequence[list[int]],
        read: Sequence[list[int]] | None,
        settings: Sequence[GenerationSettings],
        behind: Sequence[Decode | None],
        batch: int,
    ) -> Iterator[Request]:
        """A request for each of `order`; sources are encoded `batch` at a time, when they are wanted."""
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            conditions = (
                self._conditions([read[i] for i in part]) if read else [self.drawn(settings[i].seed) for i in part]
            )
            for i, condition in zip(part, conditions, strict=True):
                yield Request(starts[i], settings[i], condition, decode=behind[i])

    def _written(
        self,
        order: Sequence[int],
        requests: Iterator[Request],
        beams: int,
        batch: int,
        progress: Progress,
    ) -> Iterator[tuple[int, str]]:
        """(which, its text) of each request as it is done."""
        if beams == 1:
            handles = self.engine(batch, progress).run(requests)
            yield from ((i, handle.text) for i, handle in zip(order, handles, strict=True))
            return
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            found = beam_search(self.model, [next(requests) for _ in part], **self._ids(), progress=progress)
            yield from ((i, best[0].text) for i, best in zip(part, found, strict=True))

    def infill(self, before: str, after: str, **settings: Any) -> str:
        """What may stand between `before` and `after`, by a GPT that learned to fill in (Bavarian et al. 2022).

        A BERT fills exactly `max_tokens` tokens. Of what does not fit the model's context the far ends are left out,
        and the middle ends where the context does. Raises UsageError for a model that did not learn to.
        """
        return self.write_between(before, after, **settings).text

    def write_between(self, before: str, after: str, progress: Progress = silent, **settings: Any) -> Delta:
        """`infill`, with its tokens and why it ended. progress: told of every step."""
        chosen = generation_settings(settings)
        if self.fills_gaps:
            return self._filled(before, after, chosen, progress)
        marks = self._infilling_ids()
        t = self.tokeniser
        near, far = nearest_context(t.encode(before), t.encode(after), self.model.max_length)
        prompt = [marks.prefix, *near.tolist(), marks.suffix, *far.tolist(), marks.middle]
        within = within_reach(chosen, len(prompt), self.model.max_length)
        return self._complete(prompt, near.tolist(), within, progress=progress)

    def fill_blanks(self, parts: Sequence[str], **settings: Any) -> list[str]:
        """What may stand in each gap between the parts of a text, by a GPT that learned to (Donahue et al. 2020).

        Where words have their space in front, so have the parts: "She ate", " for", "." has two gaps. max_tokens is for
        each gap. Raises UsageError for fewer than two parts, more text than fits the model's context, or a model that
        did not learn to fill in.
        """
        chosen, marks = generation_settings(settings), self._infilling_ids()
        if len(parts) < 2:
            raise UsageError("a text with a gap has two parts or more; give the texts before and behind each gap")
        first, *others = (part.tolist() for part in self.tokeniser.encode_batch(parts))
        prompt = [*first, *(i for part in others for i in (marks.blank, *part))]
        answers, text = [], first
        for part in others:
            prompt.append(marks.answer)
            within = within_reach(chosen, len(prompt), self.model.max_length)
            answer = self._complete(prompt, text, within, (self.tokeniser.end_id, marks.answer))
            written = [token.id for token in answer.tokens]
            prompt, text = [*prompt, *written], [*text, *written, *part]
            answers.append(answer.text)
        return answers

    def _infilling_ids(self) -> InfillingIds:
        if self.reads_source or not hasattr(self.model, "step"):
            raise UsageError(
                f"{self.family} does not fill in from left to right; train a gpt with --objective infilling"
            )
        return find_infilling_ids(self.tokeniser.special_ids)

    def _filled(self, before: str, after: str, settings: GenerationSettings, progress: Progress = silent) -> Delta:
        """What a model that reads both ways writes between two texts."""
        t, reach = self._ending(), self.model.settings.context
        first, last = nearest_context(t.encode(before), t.encode(after), reach)
        unknown = () if settings.allow_unknown else (t.unknown_id,)
        never = {t.padding_id, t.begin_id, t.end_id, *unknown, *t.special_ids.values()} - {-1}
        ids = fill_gaps(
            self.model,
            first.tolist(),
            last.tolist(),
            settings,
            begin_id=t.begin_id,
            end_id=t.end_id,
            forbidden_ids=sorted(never),
            progress=progress,
        )
        text = t.decode_after(ids, first.tolist()) if before else t.decode(ids)
        shown = cut_at_stop(text, settings.stop)
        return Delta(tuple(Token(i) for i in ids), shown, "length" if shown == text else "stop")

    def _complete(
        self,
        prompt: list[int],
        before: Sequence[int],
        settings: GenerationSettings,
        end_ids: tuple[int, ...] = (),
        progress: Progress = silent,
    ) -> Delta:
        """What is written behind ids; before: those of the text that it continues; end_ids: what ends it in the place
        of the usual."""
        known = self._ids() | {"progress": progress} | ({"end_id": end_ids} if end_ids else {})
        request = Request(prompt, settings, decode=self._behind(before) if before else None)
        if settings.beams > 1:
            best = beam_search(self.model, [request], **known)[0][0]
            return Delta(tuple(Token(i) for i in best.tokens), best.text, best.finish)
        return next(Engine(self.model, **known).run([request])).take()

    def engine(
        self,
        max_batch: int = 32,
        progress: Progress = silent,
        draft: Any = None,
        prefixes: int = 0,
    ) -> Engine:
        """The decoding engine over this model, for many texts at once; draft: see `find_draft`; prefixes: prompts whose
        beginnings are remembered."""
        return Engine(
            self.model,
            **self._ids(),
            max_batch=max_batch,
            progress=progress,
            draft=find_draft(self, draft),
            prefixes=prefixes,
        )

    def encode_source(self, text: str) -> list[int]:
        """A source as this model wants it: its tokens and the end token, or as a foreign tokeniser frames a text."""
        before, behind = self.tokeniser.source_frame
        return [*before, *self.tokeniser.encode(text).tolist(), *behind]

    def _source_ids(self, text: str, number: int = 0) -> list[int]:
        """`encode_source`. Raises UsageError for what the model cannot read whole."""
        ids, reach = self.encode_source(text), self.model.max_length
        if reach is not None and len(ids) > reach:
            raise UsageError(f"source {number} has {len(ids)} tokens, the model reads {reach}; cut or split it")
        if not ids:
            raise UsageError(f"source {number} is empty; give text to write from")
        return ids

    def _check_sources(self, sources: Sequence[str] | None, count: int) -> None:
        if not hasattr(self.model, "step") and not self.fills_gaps:
            raise UsageError(f"{self.family} does not write text; take another family for that")
        if self.reads_source and sources is None:
            raise UsageError(f"{self.family} writes from a source; give one (source=…)")
        if not self.reads_source and sources is not None:
            raise UsageError(f"{self.family} writes on from a prompt and reads no source; give it as the prompt")
        if sources is not None and len(sources) != count:
            raise UsageError(f"there are {len(sources)} sources and {count} prompts; give as many of each")

    def _conditions(self, sources: Sequence[list[int]]) -> list[Condition]:
        """Encoded sources, each a condition of its own, computed together."""
        device = device_of(self.model)
        with evaluating(self.model):
            return split_condition(self.model.encode(*(each.to(device) for each in padded(sources))))

    def drawn(self, seed: int) -> Condition | None:
        """What a text is written from where nothing is given: of a model with a latent variable a draw of it."""
        prior = getattr(self.model, "prior", None)
        return None if prior is None else prior(1, seed)

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt; where nothing is put in front of prompts, an empty one is the begin token."""
        t = self.tokeniser
        ids = t.encode(prompt).tolist()
        if not isinstance(t, ForeignTokeniser):
            return ids
        if self.reads_source:
            return [*t.forced_ids, *ids]
        if not ids and self._begin is None and t.begin_id >= 0:
            return [t.begin_id]
        return ids

    @property
    def _begin(self) -> int | None:
        """What stands before every prompt: of a foreign model without a source what its tokeniser puts there."""
        t = self.tokeniser
        if not isinstance(t, ForeignTokeniser) or self.facts:
            return t.begin_id
        if self.reads_source:
            return t.begin_id if t.begin_id >= 0 else None
        return t.prefix_ids[0] if len(t.prefix_ids) == 1 else None

    def _behind(self, before: Sequence[int]) -> Decode | None:
        """How text that continues some ids is decoded; None: as text that stands alone."""
        t = self.tokeniser
        # a foreign decoder's text begins with what its tokeniser forces, not with a prompt
        if not t.drops_spaces or (self.reads_source and isinstance(t, ForeignTokeniser)):
            return None
        return partial(t.decode_after, before=before)

    def _ids(self) -> dict[str, Any]:
        """What the decoders must know of the tokeniser."""
        t = self._ending()
        never = [number for name, number in t.special_ids.items() if name in INFILLING_TOKENS]
        found = {
            "begin_id": self._begin,
            "token_bytes": t.token_bytes(),
            "decode": t.decode,
            "never_ids": never,
            "watermark": self._watermark,
        }
        if not isinstance(t, ForeignTokeniser):
            return found | {"end_id": t.end_id, "padding_id": t.padding_id, "unknown_id": t.unknown_id}
        return found | {
            "end_id": t.end_ids,
            "padding_id": t.padding_id if t.padding_id >= 0 else None,
            "unknown_id": t.unknown_id if t.unknown_id >= 0 else None,
        }

    def _ending(self) -> Tokeniser:
        """The tokeniser. Raises LLMBertError where it does not know which token ends a text."""
        if self.tokeniser.end_id < 0:
            raise LLMBertError(
                f"no file in {self.folder} says which token ends a text; write eos_token_id into generation_config.json"
            )
        return self.tokeniser

    # ---- score -----------------------------------------------------------------------------------------------------

    def score(self, texts: str | Sequence[str], sources: str | Sequence[str] | None = None) -> dict[str, Any]:
        """How probable texts are, each a document of its own: the scores of `llmbert evaluate`, and "nats" per text.

        sources: what an encoder-decoder's texts are targets of, as many.
        """
        text, _ = self.token_nats([texts] if isinstance(texts, str) else list(texts), sources)
        scored = text.without_ends() if self.scored_unit == "token" else text
        scores = likelihood_scores(scored, unit=self.scored_unit, **self.signature())
        totals = text.per_document()[:, 0].tolist()
        return scores | {"nats": [total if math.isfinite(total) else None for total in totals]}

    @property
    def scored_unit(self) -> str:
        """What is scored: of a model that is given the end of a text only its tokens."""
        return "token" if self.model.likelihood == "pseudo" else "token+end"

    def token_nats(
        self, documents: Sequence[str], sources: str | Sequence[str] | None, progress: Progress = silent
    ) -> tuple[TokenNats, list[int]]:
        """The nats of every token of some texts, and how many of each one's tokens are unknown."""
        if not documents:
            raise UsageError("there is no text to score; give at least one")
        read = [sources] if isinstance(sources, str) else sources
        self._check_scored(read, len(documents))
        parts = [self.document_ids(text) for text in documents]
        ids = np.concatenate(parts)
        starts = np.concatenate(([0], np.cumsum([len(part) for part in parts])))
        if read is None:
            nats = self.model.token_nats(ids, starts, progress)
        else:
            own, reach = [self._source_ids(source, i) for i, source in enumerate(read)], self.model.max_length
            longest = max(map(len, parts)) - 1
            if reach is not None and longest > reach:
                raise UsageError(f"a text has {longest} tokens, the model writes {reach}; cut or split it")
            nats = np.concatenate(pair_nats(self.model, own, parts, progress))
        unknown = [int((part == self.tokeniser.unknown_id).sum()) for part in parts]
        text = TokenNats(
            nats,
            starts,
            np.array([len(text.encode()) for text in documents]),
            np.array([len(text) for text in documents]),
            sum(unknown),
        )
        return text, unknown

    def _check_scored(self, sources: Sequence[str] | None, count: int) -> None:
        if self.model.likelihood == "none" and hasattr(self.model, "draw"):
            raise UsageError(f"a {self.family} gives no text a probability; score with another family")
        if self.reads_source and sources is None:
            raise UsageError(f"{self.family} scores a text given its source; give sources as well")
        if not self.reads_source and sources is not None:
            raise UsageError(f"{self.family} scores a text alone; leave out sources")
        if sources is not None and len(sources) != count:
            raise UsageError(f"there are {len(sources)} sources and {count} texts; give as many of each")

    def document_ids(self, text: str) -> np.ndarray:
        """A text as a document's ids: begin, tokens, end."""
        t = self._ending()
        if t.begin_id < 0:
            raise LLMBertError(f"no file in {self.folder} says which token begins a text; it cannot score one")
        before, behind = t.target_frame if self.reads_source else ((t.begin_id,), (t.end_id,))
        return np.concatenate((before, t.encode(text), behind)).astype(np.int64)

    def signature(self) -> dict[str, Any]:
        """The parts of a score's signature that are this run's."""
        return {
            "likelihood": self.model.likelihood,
            "tokeniser": f"{self.tokeniser.kind}-{self.tokeniser.fingerprint[:8]}",
            "context": getattr(self.model, "scoring_signature", "source"),
        }

    # ---- files -----------------------------------------------------------------------------------------------------

    def write_gguf(self, path: str | os.PathLike[str], weights: str = "f32") -> None:
        """Write a GPT with a byte-pair tokeniser as a GGUF file, whole or not at all; see `runs.gguf.write_gguf`."""
        from llmbert.runs.gguf import write_gguf

        write_gguf(self, Path(path), weights)

    def write_arpa(self, path: str | os.PathLike[str], progress: Progress = silent) -> None:
        """Write an n-gram model as an ARPA file (gzipped where `path` ends in .gz), whole or not at all.

        Raises UsageError for another family, LLMBertError for smoothing that does not back off or a full disk.
        """
        if self.family != "ngram":
            raise UsageError(f"only an n-gram model can be written as ARPA, and {self.folder} is a {self.family}")
        from llmbert.models.ngram.arpa import write_arpa

        write_arpa(self.model, self.tokeniser.token_texts(), Path(path), progress)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the weights and the tokeniser: what must be shipped."""
        folders = [self.folder, *(self.folder / MEMBERS).glob("*")]
        names = (WEIGHTS, CONFIG, "tokenizer.json")
        return sum((at / name).stat().st_size for at in folders for name in names if (at / name).exists())


def generation_settings(settings: Mapping[str, Any]) -> GenerationSettings:
    """`GenerationSettings(**settings)`. Raises UsageError for a setting there is not."""
    unknown = [name for name in settings if name not in GenerationSettings.__dataclass_fields__]
    if unknown:
        known = ", ".join(GenerationSettings.__dataclass_fields__)
        raise UsageError(f"generation has no setting {unknown[0]!r}; there are {known}")
    return GenerationSettings(**settings)

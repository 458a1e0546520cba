"""A conversation with a run: turns of several speakers, a history that fits the model, replies as they are written."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmbert.decoding import Engine
from llmbert.protocols import UsageError
from llmbert.runs import Run
from llmbert.runs.drafting import find_draft, refuse_draft
from llmbert.runs.run import generation_settings
from llmbert.tasks.chat_log import ChatLog
from llmbert.tasks.requests import prefix_for, text_form
from llmbert.text.dialogue import (
    SPEAKERS,
    SYSTEM,
    ReplyReader,
    Turn,
    check_dialogue_language,
    check_speaker,
    format_dialogue,
    format_prompt,
    stop_marks,
)
from llmbert.text.languages import base_code
from llmbert.text.sentences import is_wide

REPLY_SETTINGS: dict[str, Any] = {"max_tokens": 128, "temperature": 0.8, "top_p": 0.95}
"""How replies are drawn where nothing else is asked for."""


@dataclass(frozen=True)
class Reply:
    """What the run said. seconds: until all of it was there, first_seconds: until its first piece (None: it said
    nothing); dropped: turns of the history that the model was not shown; number: of its turn, from 0."""

    text: str
    seconds: float
    first_seconds: float | None
    dropped: int
    number: int


class Conversation:
    """Turns so far, and the run's next one.

    speakers: the names of all who take part, the run's own the last; system: what holds for all of it, never dropped
    from the history; language: of the dialogue's format; log: where every turn and every thumb is appended; draft: what
    guesses ahead, as in `Run.write`; settings: those of `GenerationSettings`, seed + n being the seed of turn n.

    A decoder writes on after the dialogue and its own mark; an encoder-decoder has them as its source. The oldest
    turns are left out of what it is shown as soon as they and a reply would not fit.
    """

    def __init__(
        self,
        run: Any,
        *,
        speakers: Sequence[str] = (),
        system: str = "",
        language: str | None = None,
        log: ChatLog | None = None,
        draft: Any = None,
        **settings: Any,
    ) -> None:
        facts = run.facts.get("dialogue") or {}
        names = tuple(speakers) or tuple(facts.get("speakers") or ())
        stated = language or facts.get("language") or _stated(run)
        self.language = check_dialogue_language(stated or _script("".join(names) + system))
        self.speakers = _check_speakers(names or SPEAKERS[self.language])
        self.run, self.system, self.log = run, system.strip(), log
        self.settings = REPLY_SETTINGS | _searched(settings)
        self._chosen = generation_settings(self.settings)
        if draft is not None:
            refuse_draft(run, self._chosen.beams)
        self._draft = find_draft(run, draft)
        self.turns: list[Turn] = []
        self.replies: list[Reply] = []
        self._shown_from = 0  # turns before this one no longer fit
        self._prefix, self._form = prefix_for(run, "chat"), text_form(run)
        self._engine: Engine | None = None
        self._count_tokens(self.system)  # a run without a tokeniser says so now
        if log:
            log.begin(
                run=run.folder.name,
                speakers=list(self.speakers),
                system=self.system,
                language=self.language,
                settings=self.settings,
            )

    @property
    def own(self) -> str:
        """The run's name."""
        return self.speakers[-1]

    def say(self, text: str, speaker: str | None = None) -> Turn:
        """Somebody's turn; by default of the first speaker.

        Raises UsageError for an empty text, a stranger, or a text that leaves no room for a reply.
        """
        turn = Turn(speaker or self.speakers[0], text.strip())
        if turn.speaker not in self.speakers:
            raise UsageError(f"{turn.speaker!r} takes no part in this conversation; {', '.join(self.speakers)} do")
        if not turn.text:
            raise UsageError("there is nothing to say; type some text")
        if self._room is not None and self._length([turn]) > self._room:
            raise UsageError(
                f"this turn has {self._count_tokens(turn.text)} tokens and does not fit into the model's "
                f"{self.run.model.max_length} with the system text and a reply; say it in fewer words"
            )
        self._append(turn)
        if self.log:
            self.log.turn(number=len(self.turns) - 1, **asdict(turn))
        return turn

    def heard(self, text: str, speaker: str | None = None) -> Turn:
        """What was said earlier, by default by the run, in a conversation that goes on from a record: no reply of this
        one, and not looked at, since it may be left out."""
        turn = Turn(speaker or self.own, text.strip())
        self._append(turn)
        return turn

    def reply(self) -> Reply:
        """The run's turn. Raises UsageError where nobody has said anything yet."""
        for _ in self.stream():
            pass
        return self.replies[-1]

    def stream(self) -> Iterator[str]:
        """The run's turn, piece by piece; it counts as said, as far as it came, when the iteration ends or is closed.

        Raises UsageError at once where nobody has said anything yet.
        """
        if not self.turns:
            raise UsageError("nobody has said anything yet; say something first")
        return self._stream()

    def _stream(self) -> Iterator[str]:
        began = time.perf_counter()
        first: float | None = None
        text = ""
        reader = ReplyReader(bare=self.run.reads_source)
        pieces = self._write()
        try:
            for piece in pieces:
                if given := reader.push(piece):
                    first = time.perf_counter() - began if first is None else first
                    text += given
                    yield given
                if reader.ended:
                    break
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
            self._replied(text, time.perf_counter() - began, first)

    def _write(self) -> Iterator[str]:
        """What the model writes after the history it is shown."""
        prompt, settings = self.asked()
        if self.run.reads_source:
            ahead = {} if self._draft is None else {"draft": self._draft}
            return self.run.stream(source=prompt, **ahead, **settings)
        if isinstance(self.run, Run) and not self.run.fills_gaps:
            # What was said before stays taken in: a turn costs what is new of it.
            if self._engine is None or not self.run.wrote_with(self._engine):
                self._engine = self.run.engine(max_batch=1, draft=self._draft, prefixes=1)
            settings["engine"] = self._engine
        return self.run.stream(prompt, **settings)

    def asked(self) -> tuple[str, dict[str, Any]]:
        """What the model is asked for its next turn, and how: the prompt (of an encoder-decoder the source) and the
        generation's settings. What it writes goes through a `ReplyReader`."""
        self._drop()
        others = stop_marks((*self.speakers, SYSTEM[self.language]), self.language)
        seed = (self._chosen.seed + len(self.turns)) % 2**63
        stops = (*self._chosen.stop, *map(self._form.before, others))
        return self._prompt(self.turns[self._shown_from :]), self.settings | {"seed": seed, "stop": stops}

    @property
    def dropped(self) -> int:
        """Turns at the beginning that the model is no longer shown."""
        return self._shown_from

    def _prompt(self, turns: Sequence[Turn]) -> str:
        """What the model is shown, as it knows dialogues (lower-cased where it was trained so)."""
        return self._prefix + self._form.before(format_prompt(turns, self.own, self.system, self.language))

    def _replied(self, text: str, seconds: float, first: float | None) -> None:
        reply = Reply(text, seconds, first, self._shown_from, len(self.turns))
        self._append(Turn(self.own, text))
        self.replies.append(reply)
        if self.log:
            self.log.reply(speaker=self.own, **asdict(reply))

    def rate(self, good: bool, note: str = "") -> None:
        """Thumbs up or down for the last reply. Raises UsageError where there is none."""
        if not self.replies:
            raise UsageError("there is no reply to rate yet; say something first")
        if self.log:
            self.log.thumb(number=self.replies[-1].number, good=good, note=note.strip())

    def text(self) -> str:
        """The whole conversation in the format of training text."""
        return format_dialogue(self.turns, self.system, self.language)

    # ---- what fits ---------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int | None:
        """Tokens that a prompt may have: a decoder needs some for its reply, half of its reach at most."""
        reach = self.run.model.max_length
        if reach is None or self.run.reads_source:
            return reach
        return reach - min(self._chosen.max_tokens, reach // 2)

    def _length(self, turns: Sequence[Turn]) -> int:
        return self._count_tokens(self._prompt(turns))

    def _count_tokens(self, text: str) -> int:
        """Tokens of a prompt with the begin token, or of a source with the end token."""
        return len(self.run.encode_source(text)) if self.run.reads_source else len(self.run.tokeniser.encode(text)) + 1

    def _append(self, turn: Turn) -> None:
        self.turns.append(turn)

    def _drop(self) -> None:
        """Leave out the oldest turns until the others fit; the last one stays in any case."""
        room, last = self._room, len(self.turns) - 1
        if room is None or self._shown_from >= last:
            return
        # fewer turns are never longer, so that few of all beginnings need to be looked at
        self._shown_from = bisect_left(
            range(last), True, lo=self._shown_from, key=lambda first: self._length(self.turns[first:]) <= room
        )


def chat(
    run: Any,
    *,
    speakers: Sequence[str] = (),
    system: str = "",
    language: str | None = None,
    log: ChatLog | None = None,
    draft: Any = None,
    **settings: Any,
) -> Conversation:
    """A conversation with a run, a decoder or an encoder-decoder; see `Conversation`.

        talk = chat(run, system="You are a waiter.", speakers=["Guest", "Waiter"])
        talk.say("A table for two, please.")
        print(talk.reply().text)

    Raises UsageError for names or settings that cannot be, before anything is written down.
    """
    return Conversation(run, speakers=speakers, system=system, language=language, log=log, draft=draft, **settings)


def _check_speakers(names: Sequence[str]) -> tuple[str, ...]:
    checked = tuple(map(check_speaker, names))
    if len(checked) < 2 or len(set(checked)) < len(checked) or set(checked) & set(SYSTEM.values()):
        raise UsageError(
            f"a conversation needs two or more names, all different and none {' or '.join(SYSTEM.values())}, the run's "
            f"own the last, not {', '.join(names)}"
        )
    return checked


def _stated(run: Any) -> str | None:
    """ "zh" for a run that writes Chinese."""
    stated = (run.facts.get("languages") or {}).get("target")
    return "zh" if stated and base_code(stated) == "zh" else None


def _script(text: str) -> str:
    return "zh" if any(map(is_wide, text)) else "en"


def _searched(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that go with beams: a search draws nothing, so top_p and temperature are off unless asked for."""
    if settings.get("beams", 1) > 1:
        return {"temperature": 0.0, "top_p": 1.0} | settings
    return settings

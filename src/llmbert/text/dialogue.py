"""A dialogue as text, in English and Chinese: the one format that models are trained on and asked in.

    System: You are a waiter.            系统：你是一名服务员。
    Guest: A table for two, please.      客人：请给我一张两人桌。
    Waiter: Of course.                   服务员：好的。
      This way.                            这边请。

A turn is the speaker's mark and the text; further lines of a text are indented by two spaces, so no text can look like
another turn. What holds for the whole dialogue is the first turn, spoken by "System" (系统).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from llmbert.protocols import UsageError

INDENT = "  "
LONGEST_NAME = 40
SYSTEM = {"en": "System", "zh": "系统"}
SPEAKERS = {"en": ("A", "B"), "zh": ("甲", "乙")}
"""Names for the two sides of a dialogue whose speakers are not named."""
_COLON = {"en": ":", "zh": "："}
_NO_NAME = re.compile(r"[:：\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
_MARK = re.compile(rf"(?P<speaker>[^\s:：](?:[^:：\n]{{0,{LONGEST_NAME - 2}}}[^\s:：])?)[ \u3000]?(?::(?: |$)|：)")


@dataclass(frozen=True)
class Turn:
    """What one speaker says, once. Raises UsageError where the name cannot be one."""

    speaker: str
    text: str

    def __post_init__(self) -> None:
        check_speaker(self.speaker)


def check_speaker(name: str) -> str:
    """The name, if it can stand before a colon: not empty, one line, at most 40 characters, no colon inside."""
    if (
        not name
        or name != name.strip()
        or len(name) > LONGEST_NAME
        or re.search(r"[:：\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", name)
    ):
        raise UsageError(
            f"a speaker's name is one to {LONGEST_NAME} characters in one line, without a colon or outer spaces, "
            f"unlike {name!r}"
        )
    return name


def check_dialogue_language(language: str) -> str:
    if language not in SYSTEM:
        raise UsageError(f"dialogues are written in {' or '.join(SYSTEM)}, not {language!r}")
    return language


def turn_mark(speaker: str, language: str = "en") -> str:
    """What begins a turn, without the space that follows it in English: "Anna:", "安娜："."""
    return check_speaker(speaker) + _COLON[check_dialogue_language(language)]


def format_said(text: str) -> str:
    """What is said, as it stands behind its mark: further lines indented, outer white space dropped, line ends \\n."""
    return re.sub(r"\r\n?", "\n", text).strip().replace("\n", f"\n{INDENT}")


def format_turn(turn: Turn, language: str = "en") -> str:
    """A turn as its lines, the last one ended too; its text as `format_said` gives it."""
    text = format_said(turn.text)
    space = " " if language == "en" and text else ""
    return f"{turn_mark(turn.speaker, language)}{space}{text}\n"


def format_dialogue(turns: Iterable[Turn], system: str = "", language: str = "en") -> str:
    """A whole dialogue: what a decoder is trained on, one document each."""
    opening = [Turn(SYSTEM[check_dialogue_language(language)], system)] if system.strip() else []
    return "".join(format_turn(turn, language) for turn in [*opening, *turns])


def format_prompt(turns: Iterable[Turn], speaker: str, system: str = "", language: str = "en") -> str:
    """A dialogue up to the mark of who speaks next, where a decoder writes on (and an encoder-decoder's source)."""
    return format_dialogue(turns, system, language) + turn_mark(speaker, language)


def reply_pairs(turns: Sequence[Turn], system: str = "", language: str = "en") -> Iterator[tuple[str, str]]:
    """(source, target) for every turn but the first: what an encoder-decoder is trained on.

    source: the dialogue before the turn and its speaker's mark; target: what is said, as `format_said` gives it, so
    that a `ReplyReader` reads all of its lines.
    """
    for at in range(1, len(turns)):
        yield format_prompt(turns[:at], turns[at].speaker, system, language), format_said(turns[at].text)


def parse_dialogue(text: str) -> tuple[str, list[Turn]]:
    """(system, turns) of a text in this format, in either language; "" for no system text.

    A line that begins no turn and is not indented goes on with the turn before it. Raises UsageError where the text
    begins with no turn.
    """
    turns: list[Turn] = []
    for number, line in enumerate(text.split("\n"), 1):
        mark = _MARK.match(line)
        if mark and not line.startswith(INDENT):
            turns.append(Turn(mark["speaker"], line[mark.end() :]))
        elif turns:
            turns[-1] = Turn(turns[-1].speaker, f"{turns[-1].text}\n{line.removeprefix(INDENT)}")
        elif line.strip():
            raise UsageError(f'line {number} of the dialogue begins no turn ("{line[:40]}"); write Speaker: text')
    turns = [Turn(turn.speaker, turn.text.strip()) for turn in turns]
    if turns and turns[0].speaker in SYSTEM.values():
        return turns[0].text, turns[1:]
    return "", turns


def alternate(texts: Iterable[str], speakers: Sequence[str] = (), language: str = "en") -> list[Turn]:
    """Turns of texts that are spoken in turn, by the speakers named or by A and B (甲 and 乙)."""
    names = tuple(speakers) or SPEAKERS[check_dialogue_language(language)]
    return [Turn(names[at % len(names)], text) for at, text in enumerate(texts)]


def stop_marks(speakers: Iterable[str], language: str = "en") -> tuple[str, ...]:
    """Strings before which a reply ends: the marks of all who may speak next, each on a new line."""
    return tuple(f"\n{turn_mark(speaker, language)}" for speaker in speakers)


class ReplyReader:
    """Text of a reply as it comes, up to the end of its turn.

    A reply ends where a line begins that is not indented; the indentation of further lines is taken off. `ended`:
    whether that came. What was given joined is the reply, without white space at its ends.

    bare: lines that are not indented belong to the reply too: of whoever says nothing but the reply, such as an
    encoder-decoder, whose targets may have been learned as they were typed.
    """

    def __init__(self, bare: bool = False) -> None:
        self.ended = False
        self._bare = bare
        self._held = ""  # a line end and what may become its indentation, or spaces that may be the end
        self._begun = False

    def push(self, piece: str) -> str:
        """Take in more text; return what belongs to the reply for certain."""
        if self.ended:
            return ""
        text = self._held + piece
        given: list[str] = []
        self._held = ""
        at = 0
        while at < len(text):
            character = text[at]
            if not character.isspace():
                given.append(character)
                self._begun = True
                at += 1
                continue
            end = at
            while end < len(text) and text[end].isspace():
                end += 1
            if end == len(text):
                self._held = text[at:]
                break
            space, self.ended = _within(text[at:end], self._bare)
            if self.ended:
                break
            if self._begun:
                given.append(space)
            at = end
        return "".join(given)


def _within(space: str, bare: bool) -> tuple[str, bool]:
    """White space inside a reply as it was typed, and whether the turn ends there instead."""
    lines = space.split("\n")
    if len(lines) > 1 and not bare and not lines[-1].startswith(INDENT):
        return "", True
    return "\n".join([lines[0], *(line.removeprefix(INDENT) for line in lines[1:])]), False

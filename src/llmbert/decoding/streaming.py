"""Ids to text as they come: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids to text; special tokens are dropped."""

REPLACEMENT = "\ufffd"
BEHIND = 16  # ids more than a quarter that a window may keep: three characters held back and one, of four bytes each


class TextStream:
    """Text of a growing list of ids, in deltas whose concatenation is `decode` of all of them.

    Held back until more is known: replacement characters at the end (a character whose last bytes are still to come)
    and a text whose end `decode` takes back, until it is longer than what was given. Decodes a window of at most
    `window` ids, with at least a quarter of them behind what was already given, so the cost of a token does not grow
    with the text; what a token looks like may depend on the `window // 4` before it.
    """

    def __init__(self, decode: Decode, window: int = 128):
        self._decode = decode
        self._window = max(window, 4)
        self._ids: list[int] = []  # the window only
        self._given = ""  # the part of the window's text that was given away

    def push(self, ids: Iterable[int]) -> str:
        """Take in new ids; return the text that is now certain, often but not always one token's."""
        ids = list(ids)
        stride = self._window // 2
        return "".join(self._push(ids[start : start + stride]) for start in range(0, len(ids), stride))

    def _push(self, ids: list[int]) -> str:
        self._ids += ids
        text = self._decode(self._ids)
        certain = text.rstrip(REPLACEMENT)
        # at most three bytes can still become a character: older replacement characters are there to stay
        certain = text[: max(len(certain), len(text) - 3)]
        # what was given stays given, even where it now reads otherwise: the text goes on behind as many characters
        if len(certain) <= len(self._given):
            return ""
        delta = certain[len(self._given) :]
        self._given = certain
        if len(self._ids) > self._window:
            self._slide(text, len(text) - len(certain))
        return delta

    def _slide(self, whole: str, held: int) -> None:
        """Forget old ids, all but a quarter window or a few more: what is kept begins with a whole character, so that
        it reads as the end of the window's text did, and holds what is still held back."""
        keep = self._window // 4
        for more in range(BEHIND):
            text = self._decode(self._ids[-keep - more :])
            if len(text) > held and whole.endswith(text):
                self._ids, self._given = self._ids[-keep - more :], text[: len(text) - held]
                return

    def finish(self) -> str:
        """What was held back, given that nothing follows."""
        text = self._decode(self._ids)
        delta = text[len(self._given) :]
        self._given += delta
        return delta


class StopFinder:
    """Passes text on until one of the stop strings is complete, and cuts it before that one.

    Text that may be the beginning of a stop string is held back. The stop string that is complete first wins; of two
    complete at the same place, the longer. The result does not depend on how the text was cut into deltas.
    """

    def __init__(self, stop: Sequence[str]):
        self.stop = tuple(stop)
        self.found: str | None = None
        self._held = ""

    def push(self, delta: str) -> str:
        """Take in more text; return what may be shown. After a stop string was found, nothing more comes."""
        if self.found is not None:
            return ""
        text = self._held + delta
        cut = first_stop(text, self.stop)
        if cut is not None:
            start, self.found = cut
            self._held = ""
            return text[:start]
        hold = max((_overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def finish(self) -> str:
        """What was held back, given that nothing follows."""
        held, self._held = self._held, ""
        return held


def first_stop(text: str, stop: Sequence[str]) -> tuple[int, str] | None:
    """Where the stop string begins that is complete first in `text`, and which it is; None: there is none."""
    found = [(start + len(each), start, each) for each in stop if (start := text.find(each)) >= 0]
    if not found:
        return None
    _, start, each = min(found)
    return start, each


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the stop string that is complete first; all of it where there is none."""
    cut = first_stop(text, stop)
    return text if cut is None else text[: cut[0]]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0

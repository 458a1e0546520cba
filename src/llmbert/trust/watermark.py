"""Text and key → whether the text carries the key's watermark; the model is not needed."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.read import read_documents
from llmbert.decoding.watermark import GAMMA, SHORTEST_KEY, WIDTH, GreenLists, number_rows
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs.loading import open_tokeniser
from llmbert.text.tokenisers import Tokeniser

THRESHOLD = 4.0  # standard deviations; by the normal distribution one text in 31,574 without a mark reaches it
LONGEST_KEY = 4096  # bytes of a key file: what is longer is another file
LONGEST = 1 << 22  # tokens of a document that are looked at
NORMAL = 10_000  # pairs from which on z and p say the same


# ---- keys ----------------------------------------------------------------------------------------------------------


def write_key(path: str | os.PathLike[str]) -> None:
    """Write a new random key of 256 bits, in hexadecimal, into a file that only its owner may read.

    Raises LLMBertError where the file exists (a key that is lost cannot be found again) or cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise LLMBertError(f"{path} exists, and texts may be marked with it; give another name") from error
    except OSError as error:
        raise LLMBertError(f"the key cannot be written to {path} ({error.strerror}); give another name") from error
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(path).unlink()
        raise LLMBertError(f"the key cannot be written to {path} ({error.strerror}); free some space there") from error


def read_key(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a key file, without white space around them.

    Raises LLMBertError where it cannot be read, is shorter than 16 bytes, repeats a few letters or is too long for one.
    """
    try:
        with Path(path).open("rb") as file:
            key = file.read(LONGEST_KEY + 1)
    except OSError as error:
        raise LLMBertError(
            f"the key in {path} cannot be read ({error.strerror}); make one: llmbert watermark key FILE"
        ) from error
    if len(key) > LONGEST_KEY:
        raise LLMBertError(
            f"{path} has more than {LONGEST_KEY} bytes and is no key; make one: llmbert watermark key FILE"
        )
    key = key.strip()
    if len(key) < SHORTEST_KEY or len(set(key)) < SHORTEST_KEY // 2:
        raise LLMBertError(
            f"the key in {path} has {len(key)} bytes, {len(set(key))} of them different, and could be guessed; "
            "make one: llmbert watermark key FILE"
        )
    return key


# ---- detection -----------------------------------------------------------------------------------------------------


def detect_watermark(
    text: str,
    tokeniser: Any,
    key: bytes | str | os.PathLike[str],
    *,
    gamma: float = GAMMA,
    width: int = WIDTH,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """Whether a text carries the watermark of a key.

    tokeniser: of the run that may have written it: a `Tokeniser`, a run, or the folder of either; key: its bytes, or
    the file; gamma, width: as when it was written. Found are

    z: how far the share of green tokens lies above gamma, in standard deviations (Kirchenbauer et al. 2023, equation
        3), over the `counted` distinct (context, token) pairs: what is repeated counts once (Fernandez et al. 2023,
        section 4), or a text that says the same again and again would look marked by chance;
    p: the exact chance of so many green ones in a text without the mark (a binomial tail);
    marked: z reaches `threshold` and p is no larger than a normal distribution's chance of that; a short text, whose z
        is far from normal, is judged by p;
    needed: pairs that a text with this share of green ones must have to be found, None where no length would do;
    tokens: [text, green] of each token, green None where it was not counted; share, green, counted: what z is made of.

    Raises LLMBertError for a key or a tokeniser that cannot be read, UsageError for a setting out of range.
    """
    lists = GreenLists(key if isinstance(key, bytes) else read_key(key), gamma, width)
    t = tokeniser_of(tokeniser)
    ids = t.encode(text)
    green, counted = green_marks(ids, lists, t.reserved_ids)
    texts = t.token_texts()
    marks = [
        [texts[token], bool(is_green) if is_counted else None]
        for token, is_green, is_counted in zip(ids.tolist(), green.tolist(), counted.tolist(), strict=True)
    ]
    return judge(int(green.sum()), int(counted.sum()), gamma, threshold) | {"tokens": marks}


def detect_in_documents(
    data: Sequence[str],
    tokeniser: Any,
    key: bytes | str | os.PathLike[str],
    *,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    gamma: float = GAMMA,
    width: int = WIDTH,
    threshold: float = THRESHOLD,
    progress: Progress = silent,
) -> Iterator[dict[str, Any]]:
    """Of each document of some paths (see `read_documents`) its id and what `detect_watermark` finds but the tokens.

    One document is held at a time, and of a longer one its first LONGEST tokens. Errors as from both.
    """
    lists = GreenLists(key if isinstance(key, bytes) else read_key(key), gamma, width)
    t = tokeniser_of(tokeniser)
    documents = read_documents(data, lines=lines, split_on=split_on, fields=fields, progress=progress)
    for document in documents:
        parts, length = [], 0
        for part in t.encode_pieces(document.pieces):
            parts.append(part)
            length += len(part)
            if length >= LONGEST:
                break
        green, counted = green_marks(np.concatenate(parts)[:LONGEST], lists, t.reserved_ids)
        yield {"id": document.id} | judge(int(green.sum()), int(counted.sum()), gamma, threshold)


def tokeniser_of(given: Any) -> Tokeniser:
    """A tokeniser, that of a run, or that of a folder."""
    if isinstance(given, Tokeniser):
        return given
    found = getattr(given, "tokeniser", None)
    return found if isinstance(found, Tokeniser) else open_tokeniser(Path(given))


def green_marks(
    ids: NDArray[Any], lists: GreenLists, reserved: Iterable[int] = ()
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each token of a text (n,): whether it is green, and whether it counts: has a context and stands behind it for
    the first time. `reserved` ids are no text and never count, nor does what has one in its context."""
    green, counted = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    if len(ids) > lists.width:
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, dtype=np.int64), lists.width + 1)
        is_text = ~np.isin(ids, np.fromiter(reserved, np.int64))
        usable = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(is_text, lists.width + 1).all(1))
        firsts = usable[np.unique(number_rows(windows[usable]), return_index=True)[1]]
        counted[firsts + lists.width] = True
        green[firsts + lists.width] = lists.greens(windows[firsts, :-1], windows[firsts, -1])
    return green, counted


def judge(green: int, counted: int, gamma: float, threshold: float = THRESHOLD) -> dict[str, Any]:
    """What so many green tokens among so many say: z, p, marked, share, needed (see `detect_watermark`)."""
    if not 0 < threshold < 38:
        raise UsageError(f"threshold counts standard deviations, above 0 and below 38, not {threshold}")
    z = (green - gamma * counted) / math.sqrt(counted * gamma * (1 - gamma)) if counted else 0.0
    p = binomial_tail(green, counted, gamma)
    level = 0.5 * math.erfc(threshold / math.sqrt(2))
    share = green / counted if counted else None
    return {
        "marked": z >= threshold and p <= level,
        "z": z,
        "p": p,
        "green": green,
        "counted": counted,
        "share": share,
        "gamma": gamma,
        "threshold": threshold,
        "needed": _needed(share, gamma, threshold, level) if share is not None else None,
    }


def binomial_tail(least: int, count: int, chance: float) -> float:
    """P(X >= least) for a binomial X: `count` draws of `chance` each. Exact but for rounding; O(count) time, memory."""
    if least <= 0:
        return 1.0
    if least > count:
        return 0.0
    # from the first term on each is the one before times a ratio
    first = (
        math.lgamma(count + 1)
        - math.lgamma(least + 1)
        - math.lgamma(count - least + 1)
        + least * math.log(chance)
        + (count - least) * math.log1p(-chance)
    )
    above = np.arange(least + 1, count + 1, dtype=np.float64)
    logs = np.concatenate(([0.0], np.cumsum(np.log((count + 1 - above) / above) + math.log(chance / (1 - chance)))))
    largest = float(logs.max())
    return min(1.0, math.exp(first + largest) * float(np.exp(logs - largest).sum()))


def _needed(share: float, gamma: float, threshold: float, level: float) -> int | None:
    """The fewest counted tokens at which this share of green ones is beyond chance."""
    if share <= gamma:
        return None
    count = math.ceil(threshold**2 * gamma * (1 - gamma) / (share - gamma) ** 2)
    while count < NORMAL and binomial_tail(math.floor(share * count), count, gamma) > level:
        count += 1
    return count

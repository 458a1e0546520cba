"""What a server is told when it starts: its limits, and who may ask."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from llmbert.protocols import LLMBertError, UsageError

KEYS_VARIABLE = "LLMBERT_API_KEYS"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Key:
    """One who may ask. name: what the log calls them; digest: SHA-256 of the key, which is kept nowhere; rate: requests
    a minute, None for the server's."""

    name: str
    digest: bytes = field(repr=False)
    rate: float | None = None


@dataclass(frozen=True)
class ServeSettings:
    """The limits of a server, each checked when it is built; what is beyond one is refused in one sentence.

    keys: who may ask, () for everybody; hosts: names that the server answers to, () for any; origins: web pages of
    other hosts that may ask; rate: requests a minute of a key (without keys of an address), 0 for any number;
    body_bytes, prompt_tokens, max_tokens, texts: most of one request; batch: texts of a run written at a time; queue:
    requests of a run that may wait; seconds: of one request, its time in the queue included; drain_seconds: that
    requests under way get when the server is to stop; header_seconds: that a request's head, and its body, may take;
    connections: open at a time; keep_text: whether the log holds prompts and answers; feedback: the database of thumbs
    and response times, None for none.

    Raises UsageError where a value is out of range.
    """

    keys: tuple[Key, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    rate: float = 0
    body_bytes: int = 1 << 20
    prompt_tokens: int = 16_384
    max_tokens: int = 4_096
    texts: int = 256
    batch: int = 32
    queue: int = 256
    seconds: float = 300
    drain_seconds: float = 30
    header_seconds: float = 10
    connections: int = 1024
    keep_text: bool = False
    feedback: Path | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0 if each.name in ("rate", "queue") else 1
            if isinstance(value, int | float) and not isinstance(value, bool) and not value >= least:
                raise UsageError(f"{each.name.replace('_', ' ')} must be at least {least}, not {value}")
        if not math.isfinite(self.drain_seconds):
            raise UsageError("drain seconds must be a number of seconds, not without end; give --drain 30")


def read_keys(path: str | Path | None = None) -> tuple[Key, ...]:
    """The keys of a file, or of the environment variable LLMBERT_API_KEYS (keys apart by commas); () for none.

    A line of the file is KEY, or NAME KEY, or NAME KEY REQUESTS_A_MINUTE; # begins a remark.
    Raises LLMBertError for a file that cannot be read or holds no key, UsageError for a line of another form.
    """
    if path is None:
        given = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",")]
        return _distinct([_key(f"key-{number}", key) for number, key in enumerate(given, 1) if key])
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LLMBertError(f"the keys in {path} cannot be read ({error}); give a text file, one key a line") from error
    keys = list(_keys_of(lines, str(path)))
    if not keys:
        raise LLMBertError(f"{path} holds no key; write one a line, or leave out the option")
    return _distinct(keys)


def _keys_of(lines: Sequence[str], path: str) -> Iterator[Key]:
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            rate = float(words[2]) if len(words) == 3 else None
        except ValueError:
            rate = -1.0
        if len(words) > 3 or (rate is not None and not rate > 0):
            raise UsageError(f"{path}, line {number}: write KEY, NAME KEY, or NAME KEY REQUESTS_A_MINUTE")
        yield _key(words[0], words[1], rate) if len(words) > 1 else _key(f"key-{number}", words[0])


def _key(name: str, key: str, rate: float | None = None) -> Key:
    if len(key) < 16:
        raise UsageError(
            f"the key {name!r} is shorter than 16 characters and could be guessed; make one: openssl rand -hex 24"
        )
    return Key(name, digest_of(key), rate)


def _distinct(keys: Sequence[Key]) -> tuple[Key, ...]:
    if len({key.name for key in keys}) < len(keys) or len({key.digest for key in keys}) < len(keys):
        raise UsageError("two keys are equal or have the same name; give each its own")
    return tuple(keys)


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def find_key(keys: Sequence[Key], given: str) -> Key | None:
    """Whose key this is. It takes equally long whichever it is: every key is compared, each in constant time."""
    digest, found = digest_of(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found

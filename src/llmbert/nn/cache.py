"""The key-value cache: what a Transformer remembers of the tokens before."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from llmbert.protocols import LLMBertError


class KeyValueCache:
    """Keys and values of every layer for B texts, each of its own length.

    keys, values: a list over layers of (B, H, capacity, D); only the first `lengths[b]` places of row b count. The
    lengths lie on the processor, whatever the keys do: every layer asks for them, and a GPU would be waited for.
    scattered: whoever reads it follows `places`, so that texts which change places (a beam's, at every step) leave
    their keys where they are. places: (B, some) the row in which each of the first tokens of a text lies, or None: in
    its own, as all behind them.
    Satisfies `State`: whatever is done to it consumes it.
    """

    def __init__(
        self, layers: int, batch: int, heads: int, head_width: int, like: Tensor, scattered: bool = False
    ) -> None:
        self.device, self.scattered = like.device, scattered
        self.places: Tensor | None = None
        self.lengths = torch.zeros(batch, dtype=torch.int64)
        self.keys = [like.new_empty(batch, heads, 0, head_width) for _ in range(layers)]
        self.values = [like.new_empty(batch, heads, 0, head_width) for _ in range(layers)]
        self._left: list[Tensor | None] = [
            None,
            None,
        ] * layers  # what the last `select` left behind, for the next to write to

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (B,) on the processor."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: Tensor) -> None:
        self._lengths = lengths
        shortest, self.longest = (int(end) for end in torch.aminmax(lengths)) if len(lengths) else (0, 0)
        self.even = shortest == self.longest  # all rows are as long as each other

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]

    def positions(self, tokens: int) -> Tensor:
        """Positions (B, T) of the next `tokens` tokens of each row."""
        return (self.lengths[:, None] + torch.arange(tokens)).to(self.device)

    def mask(self, tokens: int) -> Tensor | None:
        """(B, 1, T, S) true where a query may look; None where that is all of an even batch's past."""
        if self.longest == 0 or (tokens == 1 and self.even):
            return None
        places = torch.arange(self.even_end(tokens), device=self.device)
        return (places <= self.positions(tokens)[..., None])[:, None]

    def even_end(self, tokens: int) -> int:
        """How many places the longest row fills once `tokens` more are in."""
        return self.longest + tokens

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more in every row; grows by doubling so that a long text copies little."""
        need = self.even_end(tokens)
        if need <= self.capacity:
            return
        room = max(need, 2 * self.capacity, 32) if self.capacity else need + 32
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                new = old.new_zeros(old.shape[0], old.shape[1], room, old.shape[3])
                new[:, :, : old.shape[2]] = old
                store[layer] = new
        self._left = [None] * len(self._left)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values (B, H, T, D) behind each row; return all of the layer's, (B, H, longest, D)."""
        tokens = keys.shape[2]
        end = self.even_end(tokens)
        if self.even:
            self.keys[layer][:, :, self.longest : end] = keys
            self.values[layer][:, :, self.longest : end] = values
        else:
            rows = torch.arange(len(self.lengths), device=self.device)[:, None]
            places = self.positions(tokens)
            self.keys[layer][rows, :, places] = keys.transpose(1, 2)
            self.values[layer][rows, :, places] = values.transpose(1, 2)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, tokens: int) -> None:
        self.lengths = self.lengths + tokens

    def select(self, rows: Tensor) -> KeyValueCache:
        # New tokens go behind the longest text, where no other looks, only if there is no shorter one.
        if self.scattered and self.even and self.longest and len(rows) == len(self.lengths):
            self.places = self._all_places()[rows]
            return self
        self._gather()
        end = self.longest
        self.lengths = self.lengths[rows.cpu()]
        for number, (store, layer) in enumerate(product((self.keys, self.values), range(len(self.keys)))):
            old, new = store[layer], self._left[number]
            shape = (len(rows), *old.shape[1:])
            if new is None or new.shape != shape:
                # What no row has filled is not worth copying, but must be numbers: a masked place still counts 0 times.
                new = old.new_empty(shape)
                new[:, :, end:] = 0
            torch.index_select(old[:, :, :end], 0, rows, out=new[:, :, :end])
            # A beam's rows change places at every step, and to ask for fresh memory takes longer than to copy.
            store[layer], self._left[number] = new, old if old.shape == shape else None
        return self

    def _all_places(self) -> Tensor:
        """`places` of all tokens."""
        own = torch.arange(len(self.lengths))[:, None]
        if self.places is None:
            return own.expand(-1, self.longest)
        return torch.cat((self.places, own.expand(-1, self.longest - self.places.shape[1])), dim=1)

    def _gather(self) -> None:
        """Bring the keys and values of each text into its own row."""
        if self.places is None:
            return
        rows, at = self._all_places(), torch.arange(self.longest)
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                store[layer] = torch.zeros_like(old)
                store[layer][:, :, : self.longest] = old[rows, :, at].transpose(1, 2)
        self.places = None

    def extend(self, other: KeyValueCache) -> KeyValueCache:
        self._gather()
        other._gather()
        room = max(self.capacity, other.capacity)
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                mine[layer] = torch.cat((_padded(a, room), _padded(b, room)))
        self._left = [None] * len(self._left)
        self.lengths = torch.cat((self.lengths, other.lengths))
        return self

    def rewind(self, tokens: int | Tensor) -> KeyValueCache:
        shorter = self.lengths - (tokens.cpu() if isinstance(tokens, Tensor) else tokens)
        if bool((shorter < 0).any()):
            raise LLMBertError(f"cannot rewind {tokens} tokens of a text that has only {int(self.lengths.min())}")
        self._gather()  # or what is written next would be written over what others look at
        self.lengths = shorter
        return self


def _padded(x: Tensor, room: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, room - x.shape[2]))


class DecoderState:
    """A decoder's own cache, and what it looks at: keys and values of the encoded sources, layer by layer.

    cross: a list over layers of (keys, values), each (sources, H, S, D), and behind them what a pointer looks at;
    source_mask: (sources, S) true where there is a token; sources: (B,) which of them each row looks at.
    Satisfies `State`: whatever is done to it consumes it.
    """

    def __init__(self, cache: KeyValueCache, cross: list[tuple[Tensor, Tensor]], source_mask: Tensor) -> None:
        self.cache, self.cross, self.source_mask = cache, cross, source_mask
        self.sources = torch.arange(len(source_mask), device=source_mask.device)
        self._for_rows: list[tuple[Tensor, Tensor]] | None = cross

    @property
    def lengths(self) -> Tensor:
        return self.cache.lengths

    def for_texts(self, count: int) -> DecoderState:
        """The state of so many texts: one for each source, or all for the one there is."""
        sources = len(self.source_mask)
        if sources not in (1, count):
            raise LLMBertError(f"{count} texts cannot be written from {sources} sources; give as many, or one")
        rows = torch.zeros(count, dtype=torch.int64, device=self.source_mask.device)
        return self if sources == count else self.select(rows)

    @property
    def cross_of_rows(self) -> list[tuple[Tensor, Tensor]]:
        """`cross` with what each row looks at, (B, H, S, D) each."""
        if self._for_rows is None:
            own = torch.equal(self.sources.cpu(), torch.arange(len(self.source_mask)))
            self._for_rows = (
                self.cross if own else [(keys[self.sources], values[self.sources]) for keys, values in self.cross]
            )
        return self._for_rows

    @property
    def mask(self) -> Tensor | None:
        """(B, 1, 1, S) for cross-attention; None where no source is padded."""
        return None if bool(self.source_mask.all()) else self.source_mask[self.sources][:, None, None]

    def select(self, rows: Tensor) -> DecoderState:
        self.cache = self.cache.select(rows)
        sources = self.sources[rows]
        # Hypotheses of a source that change places among themselves (a beam's) look at the same as before.
        if torch.equal(sources, self.sources):
            return self
        self.sources, self._for_rows = sources, None
        used = sources.unique()
        if 2 * len(used) <= len(self.source_mask):  # the others are not worth their memory
            self.cross = [(keys[used], values[used]) for keys, values in self.cross]
            self.source_mask, self.sources = self.source_mask[used], torch.searchsorted(used, sources)
        return self

    def extend(self, other: DecoderState) -> DecoderState:
        room = max(self.source_mask.shape[1], other.source_mask.shape[1])
        self.cache = self.cache.extend(other.cache)
        self.sources = torch.cat((self.sources, other.sources + len(self.source_mask)))
        self.cross = [
            (torch.cat((_padded(a, room), _padded(c, room))), torch.cat((_padded(b, room), _padded(d, room))))
            for (a, b), (c, d) in zip(self.cross, other.cross, strict=True)
        ]
        self.source_mask = torch.cat(
            [torch.nn.functional.pad(mask, (0, room - mask.shape[1])) for mask in (self.source_mask, other.source_mask)]
        )
        self._for_rows = None
        return self

    def rewind(self, tokens: int | Tensor) -> DecoderState:
        self.cache = self.cache.rewind(tokens)
        return self

"""One thread computes for all who ask: texts step together in each run's engine, other work goes between the steps."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from llmbert.decoding import Delta, Engine, Handle, Request
from llmbert.protocols import LLMBertError, Progress, UsageError
from llmbert.runs import Run

log = logging.getLogger("llmbert.serving")

Watch = Callable[[str, str, float], None]
"""Told of a run (name), what was measured ("first", "between", "queued") and seconds."""

TOGETHER, CHARACTERS = 64, 4096  # pieces of like work of several requests, and their text, that are done in one go
WRITTEN = 1 << 15  # tokens that these may write, those of all beams
GRACE = 5.0  # seconds that the computing thread has to notice a deadline


class Busy(LLMBertError):
    """The queue is full, or the answer did not come in time; seconds: after which to ask again."""

    def __init__(self, sentence: str, seconds: float = 1) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class Stopping(Busy):
    """The server takes no more requests, because it is to stop."""


class _GivenUp(Exception):
    """Nobody waits any more for any of what is being done."""


Do = Callable[[list[Any], Progress], list[Any]]
"""Other work: some items to as many results. It tells its progress now and then, which raises once nobody waits."""


class Ticket:
    """A request's place: what comes of it is read here, on the event loop that asked.

    A reader that leaves withdraws it, and its row leaves with the engine's next step. Seconds from asking until it
    began, until its first token and until its end: `queued`, `first`, `whole`.
    """

    def __init__(self, name: str, deadline: float, whole: bool) -> None:
        self.name, self.whole_only = name, whole
        self.asked = time.perf_counter()
        self.deadline = self.asked + deadline
        self.queued: float | None = None
        self.first: float | None = None
        self.whole: float | None = None
        self.withdrawn = False
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Any] = asyncio.Queue()

    async def deltas(self) -> AsyncGenerator[Delta]:
        """What comes of a text, the last one with why it ended; a text that takes too long ends as at its length.

        Raises Busy where it did not even begin in time, and whatever went wrong while it was written.
        """
        try:
            while True:
                delta = await self._next()
                if isinstance(delta, list):  # other work that gave a text, all at once
                    delta = delta[0]
                if delta is None:
                    if self.queued is None:
                        raise Busy("the server is busy and did not come to this request in time; ask again later", 5)
                    delta = Delta(finish="length")
                yield delta
                if delta.finish is not None:
                    return
        finally:
            self.withdraw()

    async def result(self) -> list[Any]:
        """What comes of other work. Raises Busy where it did not come in time, and whatever went wrong."""
        try:
            found = await self._next()
            if found is None:
                raise Busy("the answer took longer than the server allows; ask for less, or later", 5)
            return list(found)
        finally:
            self.withdraw()

    async def _next(self) -> Any:
        """The next piece of news; None where none came in time, not even of what had begun by then."""
        news = await self._within(self.deadline - time.perf_counter())
        if news is None and self.queued is not None:
            news = await self._within(self.deadline + GRACE - time.perf_counter())
        if news is None:
            return None
        if isinstance(news, BaseException):
            raise news
        return news

    async def _within(self, seconds: float) -> Any:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await self._news.get()
        except TimeoutError:
            return None

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more, or it took too long: what there is of it is to be given."""
        return self.withdrawn or time.perf_counter() > self.deadline

    def withdraw(self) -> None:
        self.withdrawn = True

    def give(self, news: Any) -> None:
        """On the event loop: hand over what came."""
        self._news.put_nowait(news)


@dataclass
class _Writing:
    """A text that is asked for. prepare: makes the request (encodes prompt and source) on the computing thread."""

    ticket: Ticket
    prepare: Callable[[], Request]


@dataclass
class _Work:
    """Other work. key: what may be done together; items, what is done with some of them, tokens that one may write, and
    what was found so far."""

    ticket: Ticket
    key: Any
    items: list[Any]
    do: Do
    writes: Callable[[Any], int]
    found: list[Any] = field(default_factory=list)


@dataclass
class _Place:
    """Where a text that is being written stands: who asked, which engine writes it, when its last token came."""

    ticket: Ticket
    engine: Engine
    last: float | None = None


@dataclass
class Lane:
    """A run and what is asked of it."""

    name: str
    run: Run
    batch: int
    writing: deque[_Writing] = field(default_factory=deque)
    work: deque[_Work] = field(default_factory=deque)
    newest: Engine | None = None
    rows: dict[Handle, _Place] = field(default_factory=dict)
    computing: bool = False  # a step of it is under way, which may have taken work out of the queues

    @property
    def waiting(self) -> int:
        return len(self.writing) + len(self.work)

    @property
    def idle(self) -> bool:
        return not self.computing and not self.writing and not self.work and not self.rows

    def engine(self) -> Engine:
        if self.newest is None or not self.run.wrote_with(self.newest):
            self.newest = self.run.engine(self.batch)
        return self.newest


class Scheduler:
    """Runs and their queues, and the thread that computes for them; one thread, since all share the same cores.

    batch: texts of a run that are written at a time; queue: requests of a run that may wait; seconds: of a request.
    watch: told what is measured, on the computing thread.
    """

    def __init__(self, runs: dict[str, Run], *, batch: int, queue: int, seconds: float, watch: Watch) -> None:
        self.lanes = {name: Lane(name, run, batch) for name, run in runs.items()}
        self.queue, self.seconds, self.watch = queue, seconds, watch
        self._changed = threading.Condition()
        self._stopping = self._closed = False
        self._thread = threading.Thread(target=self._compute, name="computing", daemon=True)
        self._news: list[tuple[Ticket, Any]] = []

    # ---- for the event loop ----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    def write(self, name: str, prepares: Sequence[Callable[[], Request]], whole: bool = False) -> list[Ticket]:
        """Places for texts of one request; whole: nothing is told of them before they end. Raises Busy."""
        tickets = [Ticket(name, self.seconds, whole) for _ in prepares]
        jobs = [_Writing(ticket, prepare) for ticket, prepare in zip(tickets, prepares, strict=True)]
        self._join(name, jobs, self.lanes[name].writing)
        return tickets

    def work(
        self, name: str, key: Any, items: Sequence[Any], do: Do, writes: Callable[[Any], int] = lambda item: 0
    ) -> Ticket:
        """A place for other work: `do` maps items, at most TOGETHER of them, to as many results; with equal keys
        those of several requests go together. writes: tokens that an item may take. Raises Busy."""
        ticket = Ticket(name, self.seconds, True)
        self._join(name, [_Work(ticket, key, list(items), do, writes)], self.lanes[name].work)
        return ticket

    def _join(self, name: str, jobs: Sequence[Any], queue: deque[Any]) -> None:
        with self._changed:
            if self._stopping:
                raise Stopping("the server is about to stop; ask again later", 5)
            lane = self.lanes[name]
            if lane.waiting and lane.waiting + len(jobs) > self.queue + max(0, lane.batch - len(lane.rows)):
                raise Busy(f"{lane.waiting} requests are waiting for {name}; ask again later", 1 + lane.waiting // 20)
            queue.extend(jobs)
            self._changed.notify()

    def refuse_more(self) -> None:
        """Take no more requests; those there are go on."""
        self._stopping = True

    def close(self, seconds: float) -> None:
        """Finish what there is, for so long; then end the thread."""
        self.refuse_more()
        until = time.monotonic() + seconds
        while time.monotonic() < until and not all(lane.idle for lane in self.lanes.values()):
            time.sleep(0.02)
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    # ---- on the computing thread -----------------------------------------------------------------------------------

    def _compute(self) -> None:
        while True:
            with self._changed:
                while not self._closed and all(lane.idle for lane in self.lanes.values()):
                    self._changed.wait()
                if self._closed:
                    return
            for lane in self.lanes.values():
                lane.computing = True
                try:
                    self._advance(lane)
                except Exception as error:  # whatever it is, the other runs go on
                    for engine in {place.engine for place in lane.rows.values()}:
                        self._failed(lane, engine, error)
            self._tell()
            for lane in self.lanes.values():
                lane.computing = False

    def _advance(self, lane: Lane) -> None:
        """A step of a run's texts, and a piece of its other work."""
        self._forget_withdrawn(lane)
        self._begin(lane)
        for engine in {place.engine for place in lane.rows.values()}:
            try:
                engine.step()
            except Exception as error:
                self._failed(lane, engine, error)
        self._report(lane)
        self._do_some(lane)

    def _forget_withdrawn(self, lane: Lane) -> None:
        for handle, place in lane.rows.items():
            if place.ticket.over:
                handle.cancel()
        with self._changed:
            for queue in (lane.writing, lane.work):
                if any(job.ticket.withdrawn for job in queue):
                    kept = [job for job in queue if not job.ticket.withdrawn]
                    queue.clear()
                    queue.extend(kept)  # type: ignore[arg-type]

    def _begin(self, lane: Lane) -> None:
        """Let those who wait join, as many as there are places."""
        while lane.writing and len(lane.rows) < lane.batch:
            with self._changed:
                job = lane.writing.popleft()
            self._began(job.ticket)
            try:
                request, engine = job.prepare(), lane.engine()
                handle = engine.add(request)
            except Exception as error:
                self._give_error(job.ticket, error)
                continue
            lane.rows[handle] = _Place(job.ticket, engine)

    def _began(self, ticket: Ticket) -> None:
        ticket.queued = time.perf_counter() - ticket.asked
        self.watch(ticket.name, "queued", ticket.queued)

    def _report(self, lane: Lane) -> None:
        """Pass on what is new of each text."""
        now = time.perf_counter()
        for handle, place in list(lane.rows.items()):
            ticket = place.ticket
            if handle.tokens and ticket.first is None:
                ticket.first = now - ticket.asked
                self.watch(lane.name, "first", ticket.first)
            elif place.last is not None:
                self.watch(lane.name, "between", now - place.last)
            if handle.tokens:
                place.last = now
            if handle.finish is not None:
                del lane.rows[handle]
                ticket.whole = now - ticket.asked
            if handle.finish is not None or not ticket.whole_only:
                delta = handle.take()
                if delta != Delta() and not ticket.withdrawn:
                    self._news.append((ticket, delta))

    def _failed(self, lane: Lane, engine: Engine, error: Exception) -> None:
        """An engine that failed is given up with all its texts; the next request gets a new one."""
        if lane.newest is engine:
            lane.newest = None
        for handle, place in list(lane.rows.items()):
            if place.engine is engine:
                del lane.rows[handle]
                self._give_error(place.ticket, error)

    def _do_some(self, lane: Lane) -> None:
        """Other work of one kind, of all who ask for it, at most TOGETHER items; who asked for more goes to the end."""
        some = self._next_work(lane)
        for job, _ in some:
            if job.ticket.queued is None:
                self._began(job.ticket)
        try:
            found = self._done(some) if some else []
        except Exception as error:
            self._one_by_one(some, error)
        else:
            for job, part in some:
                job.found += found[: len(part)]
                found = found[len(part) :]
                self._settle(lane, job)

    def _done(self, some: Sequence[tuple[_Work, list[Any]]]) -> list[Any]:
        """What comes of some items. Raises Busy where all who asked have left, or their time is over, by then."""

        def look_up(stage: str, done: float, total: float | None = None, **figures: float | str) -> None:
            if self._closed or all(job.ticket.over for job, _ in some):
                raise _GivenUp

        try:
            return some[0][0].do([item for _, part in some for item in part], look_up)
        except _GivenUp:
            raise Busy("the answer took longer than the server allows; ask for less, or later", 5) from None

    def _next_work(self, lane: Lane) -> list[tuple[_Work, list[Any]]]:
        """What comes first and all that can be done with it: each job with its next items, taken out of the queue."""
        with self._changed:
            some: list[tuple[_Work, list[Any]]] = []
            count = letters = tokens = 0
            for job in list(lane.work):
                if some and (job.key != some[0][0].key or count >= TOGETHER or letters >= CHARACTERS):
                    continue
                part: list[Any] = []
                for item in job.items[len(job.found) :]:
                    longer, more = letters + _letters(item), tokens + job.writes(item)
                    if (some or part) and (count >= TOGETHER or longer > CHARACTERS or more > WRITTEN):
                        break
                    part.append(item)
                    count, letters, tokens = count + 1, longer, more
                if part:
                    some.append((job, part))
                    lane.work.remove(job)
            return some

    def _one_by_one(self, some: Sequence[tuple[_Work, list[Any]]], error: Exception) -> None:
        """What failed together may have failed for one of them: the others are not to suffer from it."""
        if len(some) == 1:
            self._give_error(some[0][0].ticket, error)
            return
        for job, part in some:
            try:
                job.found += self._done([(job, part)])
            except Exception as own:
                self._give_error(job.ticket, own)
            else:
                self._settle(self.lanes[job.ticket.name], job)

    def _settle(self, lane: Lane, job: _Work) -> None:
        """Give what was found, or let the job wait for the rest of it."""
        if len(job.found) < len(job.items):
            with self._changed:
                lane.work.append(job)
            return
        job.ticket.whole = time.perf_counter() - job.ticket.asked
        self._news.append((job.ticket, job.found))

    def _give_error(self, ticket: Ticket, error: Exception) -> None:
        _log_unforeseen(error)
        ticket.whole = time.perf_counter() - ticket.asked
        self._news.append((ticket, error))

    def _tell(self) -> None:
        """Hand all news over at once: to wake the event loop for each of many texts would cost more than a step."""
        news, self._news = self._news, []
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Any]]] = {}
        for ticket, item in news:
            loops.setdefault(ticket._loop, []).append((ticket, item))
        for loop, items in loops.items():
            with suppress(RuntimeError):  # a loop that was closed has nobody left to read
                loop.call_soon_threadsafe(_hand_over, items)


def _hand_over(items: Sequence[tuple[Ticket, Any]]) -> None:
    for ticket, item in items:
        ticket.give(item)


def _letters(item: Any) -> int:
    """The text of a piece of work."""
    return len(item) if isinstance(item, str) else sum(map(_letters, item)) if isinstance(item, tuple) else 0


def _log_unforeseen(error: Exception) -> None:
    if not isinstance(error, UsageError | LLMBertError):
        log.error("a request failed", exc_info=error)


def waiting_figures(scheduler: Scheduler) -> Iterator[tuple[str, int, int]]:
    """(run, texts being written, requests waiting)"""
    for name, lane in scheduler.lanes.items():
        yield name, len(lane.rows), lane.waiting

"""Learning-rate schedules: the factor on the learning rate at a step, after a linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float], float]


def constant(progress: float, floor: float) -> float:
    return 1.0


def linear(progress: float, floor: float) -> float:
    """From 1 down to `floor` in a straight line."""
    return 1.0 - (1.0 - floor) * progress


def exponential(progress: float, floor: float) -> float:
    """From 1 down to `floor` by the same factor each step; a floor of 0 is taken as 0.001."""
    return max(floor, 1e-3) ** progress


def cosine(progress: float, floor: float) -> float:
    """Half a cosine from 1 to `floor` (Loshchilov & Hutter 2017, eq. 5, one period)."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


DECAY = 0.5  # the part of a training over which warm-up, stable, decay falls


def warmup_stable_decay(progress: float, floor: float, decay: float = DECAY) -> float:
    """1, then over the last `decay` part linearly down to `floor` (Hu et al. 2024; Hägele et al. 2024)."""
    return 1.0 if progress < 1 - decay else floor + (1.0 - floor) * (1.0 - progress) / decay


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
    "wsd": warmup_stable_decay,
}


def factor(schedule: str, step: int, steps: int, warmup: int, floor: float, hold: int = 0) -> float:
    """The factor on the learning rate at `step` (from 0) of `steps`: linear warm-up over `warmup` steps, the full rate
    for `hold` steps, then the schedule.

    The last step still learns: progress reaches 1 only after it.
    """
    if step < warmup:
        return (step + 1) / warmup
    begins = warmup + hold
    return 1.0 if step < begins else SCHEDULES[schedule]((step - begins) / max(1, steps - begins), floor)


def fewest_steps(schedule: str, step: int, warmup: int, hold: int = 0) -> int | None:
    """The fewest steps that a training at `step` may still be given without another rate at any step behind it; None
    where its rate has been a matter of its length already."""
    if schedule == "constant":
        return step
    if schedule != "wsd" or step < warmup:
        return None
    begins = warmup + hold
    return begins + math.ceil(max(0, step - begins) / (1 - DECAY))

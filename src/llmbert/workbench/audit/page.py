"""An audit's figures → the content of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmbert.metrics.bootstrap import percentile_interval, resampled_sums
from llmbert.report.sheet import Sheet
from llmbert.trust.provenance.spans import IDEOGRAPH
from llmbert.workbench.audit.measuring import RESAMPLES, SPAN
from llmbert.workbench.audit.wording import say
from llmbert.workbench.wording import say as fact

Row = Mapping[str, Any]
ATTACKS = ("loss", "compression", "reference", "neighbourhood", "blind")


def dossier(found: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What `write_report` shows of what `audit` found."""
    runs, asked = found["runs"], found["asked"]
    plain = [row for row in runs if row["mitigation"] == "none"]
    secrets = len(asked["repeats"]) * asked["each"]
    names = {row["run"]: _name(row, language) for row in runs}
    return {
        "title": say("title", language, data=", ".join(asked["data"])),
        "subtitle": say(
            "subtitle",
            language,
            documents=found["documents"],
            planted=sum(asked["repeats"]) * asked["each"],
            secrets=secrets,
        ),
        "summary": Sheet(language).joined(*_summary(found, plain, language)),
        "figures": [
            *_exposure_figures(found, names, language),
            *_helped(runs, language),
            _trade(runs, language),
            _exposure_table(found, names, language),
            *_membership_figures(found, names, language),
        ],
        "facts": [
            *([fact(name, language), found[name]] for name in ("command", "machine")),
            [fact("seed", language), asked["seed"]],
            [fact("fingerprint", language), found["fingerprint"]],
        ],
    }


def _name(row: Row, language: str) -> str:
    kind = say(f"likelihood_{row['likelihood']}", language)
    return f"{row['family']}{kind}, {say(row['mitigation'], language)}"


def _most(row: Row) -> Row:
    """What was planted most often."""
    return row["canaries"]["planted"][-1]


def _leak(row: Row) -> float:
    """The mean exposure of what was planted, however often, bits."""
    return float(np.mean([each["exposure"]["mean"] for each in row["canaries"]["planted"]]))


def _leaks_less(row: Row, other: Row) -> bool:
    """Whether the same secrets are less exposed in one run than in another: a paired bootstrap over them."""
    of_one, of_other = (
        np.concatenate([each["exposure"]["values"] for each in run["canaries"]["planted"]]) for run in (row, other)
    )
    means = resampled_sums((of_one - of_other)[:, None], RESAMPLES, seed=0)[:, 0] / len(of_one)
    return percentile_interval(means, 0.95)[1] < 0


def _quality(rows: Sequence[Row]) -> tuple[str, str]:
    """By which score runs are compared: bits/byte where all that have a likelihood have it, else nats/token."""
    whole = all(row["quality"]["bits_per_byte"] is not None for row in rows if row["likelihood"] != "none")
    return ("bits_per_byte", "bits/byte") if whole else ("nats_per_token", "nats/token")


def _are_comparable(row: Row, other: Row, key: str) -> bool:
    """Whether both have the score and it means the same of both: likelihoods of one kind, and where it counts tokens
    the same tokens."""
    have = row["quality"][key] is not None and other["quality"][key] is not None
    same_tokens = key == "bits_per_byte" or row["tokeniser"] == other["tokeniser"]
    return have and row["likelihood"] == other["likelihood"] and same_tokens


def _with_score(rows: Sequence[Row], key: str) -> list[Row]:
    """Those whose score can stand beside the others' of their kind of likelihood: beside that of the first of it."""
    first: dict[str, Row] = {}
    for row in rows:
        if row["quality"][key] is not None:
            first.setdefault(row["likelihood"], row)
    return [row for row in rows if _are_comparable(row, first.get(row["likelihood"], row), key)]


def _scored(rows: Sequence[Row]) -> list[Row]:
    """Those whose quality can be compared: exact likelihoods."""
    key, _ = _quality(rows)
    return [row for row in _with_score(rows, key) if row["likelihood"] == "exact"]


def _summary(found: Mapping[str, Any], plain: Sequence[Row], language: str) -> list[str]:
    ordered = sorted(plain, key=_leak)
    told = []
    if len(ordered) > 1:
        least, second, worst = ordered[0], ordered[1], ordered[-1]
        told.append(
            say(
                "least" if _leaks_less(least, second) else "least_chance",
                language,
                **{"least": least["family"], "second": second["family"], "worst": worst["family"]},
                **{"low": _leak(least), "next": _leak(second), "high": _leak(worst)},
                most=least["canaries"]["most"],
            )
        )
    scored = _scored(plain)
    if scored:
        key, unit = _quality(plain)
        best = min(scored, key=lambda row: row["quality"][key])
        told.append(
            say(
                "best",
                language,
                **{"best": best["family"], "quality": best["quality"][key], "unit": unit},
                **{"repeats": _most(best)["repeats"], "bits": _most(best)["exposure"]["mean"]},
                share=_most(best)["extracted"] or 0.0,
            )
        )
    values = np.concatenate([row["canaries"]["control"]["values"] for row in found["runs"]])
    means = [row["canaries"]["control"]["mean"] for row in found["runs"]]
    # The same controls stand in every run, so runs are no independent draws: the width is that of one run's.
    width = 1.96 * float(np.std(values)) / np.sqrt(found["controls"])
    mean = float(np.mean(means))
    told.append(say("control", language, mean=mean, low=mean - width, high=mean + width))
    return told


def _helped(runs: Sequence[Row], language: str) -> list[dict[str, Any]]:
    """What each mitigation brought and cost, as a table; none where there is no mitigation."""
    key, unit = _quality(runs)
    before = {row["family"]: row for row in runs if row["mitigation"] == "none"}
    rows = []
    for row in runs:
        old, privacy = before[row["family"]], row.get("privacy")
        if row is old:
            continue
        rows.append(
            [
                _name(row, language),
                f"{_most(old)['exposure']['mean']:.1f} → {_most(row)['exposure']['mean']:.1f}",
                f"{row['quality'][key] - old['quality'][key]:+.3f}" if _are_comparable(row, old, key) else "–",
                f"{privacy['epsilon']:.2f} ({privacy['epsilon_tight']:.2f})" if privacy else "–",
                f"{privacy['delta']:.1e}" if privacy else "–",
            ]
        )
    if not rows:
        return []
    repeats = say("times", language, n=_most(runs[0])["repeats"])
    head = [say("run", language), f"{say('bits', language)}, {repeats}", say("cost", language, unit=unit), "ε", "δ"]
    note = say("not_private", language) if any(row.get("privacy") for row in runs) else ""
    return [{"title": say("helps", language), "group": say("helps", language), "table": [head, *rows], "note": note}]


def _exposure_figures(found: Mapping[str, Any], names: Mapping[str, str], language: str) -> list[dict[str, Any]]:
    """A chart for each family: exposure by repeats, a line for each mitigation."""
    runs = found["runs"]
    figures = []
    for family in dict.fromkeys(row["family"] for row in runs):
        some = [row for row in runs if row["family"] == family]
        planted = some[0]["canaries"]["planted"]
        ends = [planted[0]["repeats"], planted[-1]["repeats"]]
        series = [
            {
                "name": names[row["run"]],
                "points": [[each["repeats"], each["exposure"]["mean"]] for each in row["canaries"]["planted"]],
                "band": [[each["repeats"], *each["exposure"]["interval"]] for each in row["canaries"]["planted"]],
            }
            for row in some
        ]
        chance: dict[str, Any] = {"name": say("chance", language), "style": "dashed", "muted": True}
        series.append({**chance, "points": [[end, 1 / np.log(2)] for end in ends]})
        figures.append(
            {
                "title": family,
                "group": say("exposure", language),
                "kind": "lines",
                "x_label": say("repeats", language),
                "y_label": say("bits", language),
                "x_log": len(planted) > 1,
                "series": series,
                "note": say(
                    "exposure_note",
                    language,
                    candidates=found["candidates"],
                    most=some[0]["canaries"]["most"],
                    space=some[0]["canaries"]["space"],
                ),
            }
        )
    return figures


def _trade(runs: Sequence[Row], language: str) -> dict[str, Any]:
    """Exposure over quality, a point for each run."""
    key, unit = _quality(runs)
    return {
        "title": say("trade", language),
        "group": say("trade", language),
        "kind": "points",
        "x_label": say("quality_label", language, unit=unit),
        "y_label": say("bits", language),
        "series": [
            {"name": _name(row, language), "points": [[row["quality"][key], _most(row)["exposure"]["mean"]]]}
            for row in _scored(runs)
        ],
    }


def _exposure_table(found: Mapping[str, Any], names: Mapping[str, str], language: str) -> dict[str, Any]:
    runs = found["runs"]
    key, unit = _quality(runs)
    repeats = [each["repeats"] for each in runs[0]["canaries"]["planted"]]
    times = [say("times", language, n=n) for n in repeats]
    head = [
        say("run", language),
        unit,
        say("control_column", language),
        *times,
        say("said", language),
        say("copied", language),
        "ε",
    ]
    rows, scored = [], [row["run"] for row in _with_score(runs, key)]
    for row in runs:
        planted, quality = row["canaries"]["planted"], row["quality"][key]
        said = planted[-1]["extracted"]
        rows.append(
            [
                names[row["run"]],
                f"{quality:.3f}" if row["run"] in scored else "–",
                f"{row['canaries']['control']['mean']:.2f}",
                *(f"{each['exposure']['mean']:.1f}" for each in planted),
                "–" if said is None else f"{said:.0%}",
                "–" if row["verbatim"] is None else f"{row['verbatim']['share']:.1%}",
                "–" if not row.get("privacy") else f"{row['privacy']['epsilon']:.2f}",
            ]
        )
    people = found["copied_by_people"]["share"]
    told = {"samples": found["samples"], "span": SPAN, "ideograph": IDEOGRAPH, "people": people}
    note = say("copied_note", language, **told)
    return {"title": say("figures", language), "group": say("trade", language), "table": [head, *rows], "note": note}


def _membership_figures(found: Mapping[str, Any], names: Mapping[str, str], language: str) -> list[dict[str, Any]]:
    """The ROC curve of each run by the loss and against the reference, and all figures as a table."""
    runs, note = found["runs"], say("roc_note", language, texts=found["texts"])
    figures = []
    for attack in ("loss", "reference"):
        some = [row for row in runs if attack in row["roc"]]
        if not some:
            continue
        guess = {"name": say("chance", language), "style": "dashed", "muted": True, "points": [[0, 0], [1, 1]]}
        figures.append(
            {
                "title": say("roc", language, attack=say(f"attack_{attack}", language)),
                "group": say("membership", language),
                "kind": "lines",
                "x_label": say("false", language),
                "y_label": say("true", language),
                "series": [*({"name": names[row["run"]], "points": row["roc"][attack]} for row in some), guess],
                "note": note,
            }
        )
    head = [say("run", language), *(say(f"attack_{attack}", language) for attack in ATTACKS), say("tpr", language)]
    rows = []
    for row in runs:
        known = [row["membership"].get(attack) for attack in ATTACKS]
        # The blind rule comes last and is no attack.
        best = max(filter(None, known[:-1]), key=lambda figure: figure["auc"]["score"])["tpr"]
        rows.append(
            [
                names[row["run"]],
                *("–" if figure is None else _with_interval(figure["auc"]) for figure in known),
                _with_interval(best),
            ]
        )
    group, note = say("membership", language), note + say("auc_note", language)
    return [*figures, {"title": say("auc", language), "group": group, "table": [head, *rows], "note": note}]


def _with_interval(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['score']:.1f} ({low:.1f}–{high:.1f})"

"""The figures of a text → what its page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmbert.metrics.corpus.families import Prior
from llmbert.metrics.corpus.growth import LEAST
from llmbert.metrics.corpus.lengths import fitted_shares
from llmbert.report.numbers import significant
from llmbert.runs import command_line, machine
from llmbert.workbench.curation.statistics.wording import WORDS, say
from llmbert.workbench.wording import say as fact

Found = Mapping[str, Any]
DRAWN_FAMILIES = 3  # of the best, in a chart of lengths
SHOWN_MASS = 0.995  # of the lengths, beyond which the axis ends
BINS = 60


def page_content(found: Found, language: str) -> dict[str, Any]:
    """Content for `write_report`."""
    names = ", ".join(found["data"])
    against = found.get("against")
    title = (
        say("against_title", language, names=names, others=", ".join(against["data"]))
        if against
        else say("title", language, names=names)
    )
    figures = [
        *([] if not against else _against(found, language)),
        *_words(found, language),
        *_lengths(found, language),
        *_entropy(found, language),
        *_pairs(found, language),
    ]
    return {
        **{"title": title, "summary": summary(found, language), "figures": figures},
        "data": {"rows": _sizes(found, language)},
        "facts": [[fact("command", language), command_line()], [fact("machine", language), machine()]],
    }


def summary(found: Found, language: str) -> str:
    """The text in two sentences."""
    laws = found["frequencies"]["zipf"], found["growth"]["heaps"]
    zipf, heaps = ("–" if law is None else f"{law['exponent']:.2f}" for law in laws)
    sizes = {key: found[key] for key in ("documents", "words", "vocabulary")}
    bits = found["entropy"]["packed"]["xz -6"]["bits_per_character"]
    sentences = [say("summary", language, zipf=zipf, heaps=heaps, bits=bits, **sizes)]
    if "against" in found:
        apart = found["against"]["divergence"]["words"]
        chance = apart["chance"]
        ends = {} if chance is None else {"low": chance["interval"][0], "high": chance["interval"][1], "p": chance["p"]}
        said = say("by_chance", language, mean=chance["mean"], **ends) if chance else ""
        sentences.append(say("apart", language, js=apart["js"], chance=said))
    return _joined(sentences, language)


def _joined(sentences: list[str], language: str) -> str:
    return ("" if language == "zh" else " ").join(sentences)


def _sizes(found: Found, language: str) -> list[list[str]]:
    """The table of sizes; with another text, of both."""
    sides = [found, *([found["against"]] if "against" in found else [])]
    rows = [
        [say(key, language), " / ".join(f"{side[key]:,}" for side in sides)]
        for key in ("documents", "characters", "bytes", "words", "vocabulary")
    ]
    if found["frequencies"]["once"] is not None:
        rows.append([say("met_once", language), f"{found['frequencies']['once']:,}"])
    way = f"way_{found['tokenizer']}"
    rows.append([say("tokenizer", language), say(way, language) if way in WORDS else found["tokenizer"]])
    rows.append([say("sample", language), say("sampled", language, **found["sample"])])
    prior = Prior()
    rows.append([say("prior_row", language), say("prior_value", language, weight=prior.weight, guess=prior.guess)])
    if found["lacking"]:
        rows.append([say("lacking", language), f"{found['lacking']:,}"])
    return rows


def _words(found: Found, language: str) -> list[dict[str, Any]]:
    used, grown = found["frequencies"], found["growth"]
    group = {"group": say("group_words", language)}
    series = [{"name": say("words", language), "points": used["ranks"], "style": "points"}]
    ranks = [rank for rank, _ in used["ranks"]]
    for name in ("zipf", "mandelbrot"):
        if law := used[name]:
            points = [[r, law["top"] * (r + law["shift"]) ** -law["exponent"]] for r in ranks]
            label = say(f"law_{name}", language, s=law["exponent"], q=law["shift"])
            series.append({"name": label, "points": points, "style": "dashed" if name == "zipf" else "line"})
    notes = []
    if used["zipf"]:
        notes.append(say("ranks_note", language, zipf=used["zipf"]["ks"], mandelbrot=used["mandelbrot"]["ks"]))
    if tail := used["power_law"]:
        ends = {"alpha": tail["exponent"], "low": tail["interval"][0], "high": tail["interval"][1]}
        notes.append(
            say("power_note", language, **ends, **{key: tail[key] for key in ("least", "words", "ks", "zipf")})
        )
    labels = {"x_label": say("rank", language), "y_label": say("times", language), "x_log": True, "y_log": True}
    figures = [
        {
            "title": say("ranks", language),
            "kind": "points",
            "series": series,
            "note": _joined(notes, language),
            **labels,
            **group,
        },
        _growth(grown, language) | group,
    ]
    head = [say(key, language) for key in ("word", "times", "share")]
    rows = [[word, count, f"{count / found['words']:.2%}"] for word, count in used["most"]]
    return [*figures, {"title": say("most", language), "table": [head, *rows], **group}]


def _growth(grown: Found, language: str) -> dict[str, Any]:
    series = [{"name": say("measured", language), "points": grown["points"], "style": "points"}]
    note, law = "", grown["heaps"]
    if law:
        points = [[n, law["factor"] * n ** law["exponent"]] for n, _ in grown["points"] if n >= LEAST]
        label = say("law_heaps", language, beta=law["exponent"])
        series.append({"name": label, "points": points, "style": "line"})
        note = say("growth_note", language, low=law["interval"][0], high=law["interval"][1])
    labels = {"x_label": say("growth_x", language), "y_label": say("growth_y", language)}
    return {"title": say("growth", language), "series": series, "note": note, "x_log": True, "y_log": True} | labels


def _lengths(found: Found, language: str) -> list[dict[str, Any]]:
    group = {"group": say("group_lengths", language)}
    figures = [_length_figure(name, each, language) | group for name, each in found["lengths"].items()]
    bars = [
        {
            **{"name": say(name, language), "value": 100 * each["mle"]},
            "interval": [100 * end for end in each["interval"]],
        }
        for name, each in found["facts"].items()
    ]
    prior = next(iter(found["facts"].values()))["prior"]
    facts = {"title": say("facts", language), "kind": "bars", "y_label": say("facts_y", language), "bars": bars}
    head = ["", say("facts_y", language), say("mle", language), say("map", language)]
    rows = [
        [say(name, language), f"{100 * each['mle']:.2f}", each["mle"], each["map"]]
        for name, each in found["facts"].items()
    ]
    note = say("facts_note", language, prior=prior)
    return [*figures, facts | {"note": note, "table": [head, *rows]} | group]


def _length_figure(name: str, each: Found, language: str) -> dict[str, Any]:
    """A histogram with the best families over it, and all families as the table."""
    values, counts = np.array(each["histogram"]).T
    reach = int(values[np.searchsorted(np.cumsum(counts), SHOWN_MASS * counts.sum())])
    width = max(1, -(-(reach - int(values[0]) + 1) // BINS))
    edges = np.arange(int(values[0]), reach + width + 1, width)
    binned = np.histogram(values, bins=edges - 0.5, weights=counts)[0] * 100 / counts.sum() / width
    steps = [[float(edge) - 0.5, float(share)] for edge, share in zip(edges, [*binned, binned[-1]], strict=True)]
    series: list[dict[str, Any]] = [{"name": say("measured", language), "points": steps, "style": "steps"}]
    grid = np.unique(np.linspace(edges[0], reach, 200).astype(int))
    for row in each["families"][:DRAWN_FAMILIES]:
        shares = 100 * fitted_shares(row["name"], tuple(row["mle"].values()), grid)
        points = [[int(x), float(y)] for x, y in zip(grid, shares, strict=True)]
        series.append({"name": say(row["name"], language), "points": points, "style": "line"})
    note, table = say("few", language), None
    if each["families"]:
        best = each["families"][0]
        sizes = {"count": each["count"], "mean": each["mean"], "q": each["quartiles"]}
        note = say("best", language, best=say(best["name"], language), ks=best["ks"], **sizes)
        table = _family_table(each["families"], language)
    labels = {"x_label": say("length", language), "y_label": say("length_y", language)}
    return {"title": say(name, language), "kind": "steps", "series": series, "note": note, "table": table} | labels


def _family_table(families: list[Found], language: str) -> list[list[Any]]:
    keys = ("family", "mle", "map", "prior", "log_likelihood")
    head = [*(say(key, language) for key in keys), "AIC", "BIC", "KS", "p", say("chi_square", language), "p"]
    rows = []
    for row in families:
        name = say(row["name"], language) + (f" ({say('limit', language)})" if row["limit"] else "")
        fits = [", ".join(f"{key} {significant(value)}" for key, value in row[kind].items()) for kind in ("mle", "map")]
        scores = [f"{row[key]:,.0f}" for key in ("log_likelihood", "aic", "bic")]
        test = row["chi_square"]
        shares = ["–" if p is None else f"{p:.2f}" for p in (row["ks_p"], test["p"])]
        judged = [f"{row['ks']:.4f}", shares[0], f"{significant(test['statistic'])} ({test['cells']})", shares[1]]
        rows.append([name, *fits, row["prior"], *scores, *judged])
    return [head, *rows]


def _entropy(found: Found, language: str) -> list[dict[str, Any]]:
    group = {"group": say("group_entropy", language)}
    known = found["entropy"]
    bars = [
        {"name": say("one_by_one", language), "value": known["characters"]["corrected"], "muted": True},
        *(
            {
                "name": say("given_before", language, n=row["n"] - 1),
                **{"value": row["conditional_corrected"], "muted": True},
            }
            for row in known["characters"]["blocks"]
            if row["n"] > 1 and not row["undersampled"]
        ),
        *({"name": name, "value": known["packed"][name]["bits_per_character"]} for name in ("zlib -9", "xz -6")),
    ]
    note = say("packed_note", language, characters=known["packed"]["characters"])
    costs = {"title": say("packed", language), "kind": "bars", "y_label": say("bits", language), "bars": bars}
    blocks = [_blocks(name, known[name]["blocks"], language) | group for name in ("characters", "words")]
    drawn = [
        _information(name, found["information"][name], language) | group
        for name in ("characters", "words")
        if found["information"][name]
    ]
    return [costs | {"note": note} | group, *blocks, *drawn]


def _blocks(name: str, rows: list[Found], language: str) -> dict[str, Any]:
    series = [
        {"name": say(label, language), "points": [[row["n"], row[key]] for row in rows], "style": style, "of": name}
        for label, key, style in (
            ("corrected", "conditional_corrected", "line"),
            ("plug_in", "conditional", "dashed"),
        )
    ]
    short = next((row["n"] for row in rows if row["undersampled"]), None)
    note = say("undersampled", language, n=short) if short else say("blocks_note", language)
    head = ["n", *(say(key, language) for key in ("blocks", "kinds", "once")), f"H ({say('plug_in', language)})"]
    head += [f"H ({say('corrected', language)})", say("conditional", language)]
    table = [
        [str(row["n"]), row["blocks"], row["kinds"], f"{100 * row['seen_once']:.1f}"]
        + [f"{row[key]:.3f}" for key in ("entropy", "corrected", "conditional_corrected")]
        for row in rows
    ]
    labels = {"x_label": say("block_x", language), "y_label": say("bits", language)}
    return {"title": say(f"blocks_{name}", language), "series": series, "note": note, "table": [head, *table]} | labels


def _information(name: str, rows: list[Found], language: str) -> dict[str, Any]:
    series = [
        {"name": say("measured", language), "points": [[row["distance"], row["bits"]] for row in rows]},
        {
            "name": say("shuffled", language),
            "points": [[row["distance"], row["shuffled"]] for row in rows],
            **{"style": "dashed", "muted": True},
        },
    ]
    head = [say(key, language) for key in ("distance", "pairs", "measured", "shuffled", "above")]
    table = [
        [str(row["distance"]), row["pairs"], *(f"{row[key]:.5f}" for key in ("bits", "shuffled", "above"))]
        for row in rows
    ]
    note = say("information_note", language, what=say(f"of_{name}", language), most=rows[0]["alphabet"] - 1)
    labels = {"x_label": say("distance", language), "y_label": say("bits", language), "x_log": True, "y_log": True}
    figure = {"title": say(f"information_{name}", language), "series": series, "note": note}
    return figure | labels | {"table": [head, *table]}


def _pairs(found: Found, language: str) -> list[dict[str, Any]]:
    known = found["collocations"]
    heads = [say(key, language) for key in ("pair", "times", "pmi_head", "npmi_head", "ratio_head")]
    figures = []
    for name in ("pmi", "npmi", "ratio"):
        rows = [
            [
                " ".join(each["pair"]),
                each["count"],
                f"{each['pmi']:.2f}",
                f"{each['npmi']:.3f}",
                f"{each['ratio']:,.0f}",
            ]
            for each in known[name]
        ]
        note = say(f"{name}_note", language, least=known["least"])
        if rows:
            figures.append({"title": say(name, language), "note": note, "table": [heads, *rows]})
    return [figure | {"group": say("group_pairs", language)} for figure in figures]


def _against(found: Found, language: str) -> list[dict[str, Any]]:
    known = found["against"]["divergence"]
    names = [", ".join(side["data"]) for side in (found, found["against"])]
    bars = []
    for what in ("words", "characters"):
        said, each = say(f"of_{what}", language), known[what]
        bars.append({"name": say("js_of", language, what=said), "value": each["js"], "interval": None})
        if each["chance"]:
            by_chance = {"value": each["chance"]["mean"], "interval": each["chance"]["interval"], "muted": True}
            bars.append({"name": say("chance_of", language, what=said), **by_chance})
    kl = [*known["words"]["kl"], *known["characters"]["kl"]]
    chances = [known[what]["chance"] for what in ("words", "characters")]
    p = say("p_values", language, p=[each["p"] for each in chances]) if all(chances) else ""
    head = [say("word", language), *names, say("thousandths", language)]
    rows = [
        [each["word"], *(significant(value, 3) for value in each["per_million"]), f"{1000 * each['bits']:.3f}"]
        for each in known["differing"]
    ]
    group = {"group": say("group_against", language)}
    apart = {"title": say("divergence", language), "kind": "bars", "y_label": say("bits", language), "bars": bars}
    differing = {"title": say("differing", language), "table": [head, *rows], "note": say("differing_note", language)}
    return [apart | {"note": say("divergence_note", language, kl=kl, p=p)} | group, differing | group]

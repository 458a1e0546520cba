"""What a page says of runs, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.report.measures import metric_figures, metric_name, task_name
from llmbert.report.numbers import duration
from llmbert.report.sheet import Sheet

WORDS: dict[str, tuple[str, str]] = {
    "compare_title": ("Which language generator to ship", "该用哪个语言生成模型"),
    "compare_subtitle": (
        "{time} in all for {models} models on the same text, on this machine",
        "在本机共用 {time}，在同一文本上比较 {models} 个模型",
    ),
    "compare_subtitle_seeds": (
        "{time} in all for {models} families with {seeds} seeds each on the same text, on this machine. Figures are "
        "means over the seeds, intervals in the table those of the means (95 %, Student's t); who is ahead is judged "
        "on each document's mean; curves, texts and the weights of mixtures are the first's.",
        "在本机共用 {time}，在同一文本上比较 {models} 个家族，每个用 {seeds} 个种子。数值为各种子的均值，"
        "表中区间为均值的 95% 区间（学生氏 t），先后依各文档的均值判断；曲线、文本与混合权重取自第一个种子。",
    ),
    "seeds_mean": ("mean of {seeds} seeds", "{seeds} 个种子的均值"),
    "seeds_each": ("mean of {seeds} seeds: {each}", "{seeds} 个种子的均值：{each}"),
    "run_subtitle": ("{parameters:,} parameters, trained on this machine", "{parameters:,} 个参数，在本机训练"),
    "run_bits": (
        "This {family} reaches {bits:.3f} bits/byte on held-out text (95 % interval {low:.3f} to {high:.3f}), after "
        "{time} of training.",
        "该 {family} 模型在留出文本上达到 {bits:.3f} 比特/字节（95% 区间 {low:.3f} 至 {high:.3f}），训练用时 {time}。",
    ),
    "run_perplexity": (
        "This {family} reaches a perplexity of {perplexity:.2f} a token on held-out text, after {time} of "
        "training; bits/byte are not stated, since some of that text is unknown to its tokeniser.",
        "该 {family} 模型在留出文本上的困惑度为每词元 {perplexity:.2f}，训练用时 {time}；"
        "留出文本含有分词器未知的字符，故不给出比特/字节。",
    ),
    "run_infinite": (
        "This {family} gives some held-out tokens no probability at all: its perplexity is infinite.",
        "该 {family} 模型对部分留出词元给出零概率：其困惑度为无穷大。",
    ),
    "ship": ("Ship {name}: {bits:.3f} bits/byte on held-out text", "推荐 {name}：留出文本上 {bits:.3f} 比特/字节"),
    "ahead": (", {ahead:.3f} below {second}", "，比 {second} 低 {ahead:.3f}"),
    "end": (".", "。"),
    "apart": (
        "; on the same documents the difference lies between {low:.3f} and {high:.3f} (95 %).",
        "；在同样的文档上，两者之差介于 {low:.3f} 与 {high:.3f} 之间（95%）。",
    ),
    "chance": (
        "; on the same documents the difference lies between {low:.3f} and {high:.3f} (95 %), so the order may be "
        "chance.",
        "；在同样的文档上，两者之差介于 {low:.3f} 与 {high:.3f} 之间（95%），名次可能出于偶然。",
    ),
    "no_bits": (
        "No model has a figure in bits/byte on this text.",
        "没有模型在该文本上得到比特/字节的数值。",
    ),
    "behind": (
        " What needs no training does better than every model here: {name} ({bits:.3f}).",
        "无需训练的“{name}”（{bits:.3f}）胜过这里的所有模型。",
    ),
    "collapsed": ("latent variable collapsed", "隐变量坍缩"),
    "likelihood_steps_only": (
        "The training line of {name} ends where its adversarial steps begin, whose losses have another unit.",
        "{name} 的训练曲线止于对抗训练开始处，其后的损失单位不同。",
    ),
    "mixed_linear": (
        "The members' probabilities are added by weight ({way}), as weighed on {tokens:,} tokens that none of them "
        "learned from.",
        "各成员的概率按权重相加（{way}），权重得自 {tokens:,} 个均未参与训练的词元。",
    ),
    "mixed_log-linear": (
        "The members' probabilities are multiplied, each to the power of its weight ({way}), as weighed on {tokens:,} "
        "tokens that none of them learned from. Such weights need not add up to 1, and one near 0 means that its "
        "member adds next to nothing.",
        "各成员的概率以权重为指数相乘（{way}），权重得自 {tokens:,} 个均未参与训练的词元。这种权重之和不必为 1，"
        "接近 0 者表示该成员几乎没有贡献。",
    ),
    "mixed_gate": (
        "The members' probabilities are added by weights that change from token to token ({way}), as learned on "
        "{tokens:,} tokens that none of them learned from; shown are their means.",
        "各成员的概率按逐词元变化的权重相加（{way}），权重得自 {tokens:,} 个均未参与训练的词元；所示为其均值。",
    ),
    "stopped_early": ("stopped early", "提前停止"),
    "documents": ("documents (train / valid)", "文档（训练 / 验证）"),
    "bytes": ("bytes", "字节"),
    "tokens": ("tokens", "词元"),
    "bytes_per_token": ("bytes per token", "每词元字节数"),
    "unknown": ("unknown tokens in valid", "验证集未知词元"),
    "fingerprint": ("fingerprint", "指纹"),
    "pairs": ("pairs (train / valid)", "句对（训练 / 验证）"),
    "source_tokens": ("source tokens (train / valid)", "源端词元（训练 / 验证）"),
    "target_tokens": ("target tokens (train / valid)", "目标端词元（训练 / 验证）"),
    "cut_pairs": ("training sources / targets cut to the context", "训练中被截断的源 / 目标"),
    "pairs_overlap": (
        "Of {pairs} held-out pairs {both} stand in the training pairs too; {sources} of their sources do, and "
        "{targets} of their targets.",
        "{pairs} 个留出句对中有 {both} 个也在训练句对之中；"
        "其源端有 {sources} 个、目标端有 {targets} 个在训练中出现过。",
    ),
    "examples_note": (
        "The first of the held-out pairs that were answered, which lie evenly over all of them; none was picked.",
        "以下是用于作答的留出句对中最前面的几个，这些句对均匀取自全部留出句对，未经挑选。",
    ),
    "run_metrics": (
        "This {family} reaches {figures} on held-out pairs, after {time} of training.",
        "该 {family} 模型在留出句对上达到 {figures}，训练用时 {time}。",
    ),
    "run_unscored": (
        "This {family} learned to mend damaged text in {time}; it gives no text a probability of its own.",
        "该 {family} 模型用 {time}学会修复残缺文本；它不给出文本本身的概率。",
    ),
    "run_drawn": (
        "This {family} learned to write in {time}; it gives no text a probability of its own. Of its texts "
        "distinct-2 is {distinct:.3f} and self-BLEU-4 {alike:.3f}; of held-out texts they are {real_distinct:.3f} and "
        "{real_alike:.3f}.",
        "该 {family} 模型用 {time}学会写作；它不给出文本本身的概率。其文本的 distinct-2 为 {distinct:.3f}，"
        "self-BLEU-4 为 {alike:.3f}；留出文本则为 {real_distinct:.3f} 与 {real_alike:.3f}。",
    ),
    "drawn_varied": (
        " They are more varied than real texts, which noise is too.",
        "其文本比真实文本更多样，而噪声亦然。",
    ),
    "drawn_alike": (
        " They are less varied than real texts: it may have settled on a few.",
        "其文本不如真实文本多样：它可能只会写少数几种。",
    ),
    "drawn_chance": (
        " An interval of theirs holds the figure of real texts, so a difference may be chance.",
        "其区间包含真实文本的数值，故差异可能出于偶然。",
    ),
    "run_restored": (
        "This {family} restores what was taken out of held-out text at a perplexity of {perplexity:.2f} a token, after "
        "{time} of training; it is given the rest of the text, so this is no code length.",
        "该 {family} 模型恢复留出文本中被删片段的困惑度为每词元 {perplexity:.2f}，训练用时 {time}；"
        "其余文本是给定的，故此值不是编码长度。",
    ),
    "run_pseudo": (
        "This {family} finds a hidden token of held-out text with a pseudo-perplexity of {perplexity:.2f}, after "
        "{time} of training; it sees both sides of the token, so this is no code length.",
        "该 {family} 模型猜测留出文本中被遮盖词元的伪困惑度为 {perplexity:.2f}，训练用时 {time}；"
        "它能看到词元两侧，故此值不是编码长度。",
    ),
    "run_bound": (
        "This {family} needs at most {bits}{nats:.2f} nats for a held-out text, {kl:.2f} of them for its latent "
        "variable, after {time} of training. {verdict}",
        "该 {family} 模型对每个留出文本至多需要 {bits}{nats:.2f} 纳特，其中隐变量占 {kl:.2f}，"
        "训练用时 {time}。{verdict}",
    ),
    "bound_bits": ("{bits:.3f} bits/byte, or ", "{bits:.3f} 比特/字节，即 "),
    "latent_used": (
        "The latent variable is in use: {active_units} of its {units} dimensions vary over texts, and it tells "
        "{mutual_information:.2f} nats about each.",
        "隐变量得到使用：{units} 个维度中有 {active_units} 个随文本变化，"
        "它提供每个文本 {mutual_information:.2f} 纳特的信息。",
    ),
    "latent_collapsed": (
        "The latent variable has collapsed: it tells {mutual_information:.2f} nats about a text, and the decoder does "
        "without it.",
        "隐变量已坍缩：它只提供每个文本 {mutual_information:.2f} 纳特的信息，解码器不依赖它。",
    ),
    "latent_remedy": (
        " Let the KL term rise later (--set kl_steps=…), train the encoder more (--set aggressive=…), leave some of "
        "the term free (--set free_bits=0.1) or hide words from the decoder (--set word_dropout=0.3).",
        "可让 KL 项更晚上升（--set kl_steps=…）、多训练编码器（--set aggressive=…）、为该项保留免费额度"
        "（--set free_bits=0.1），或向解码器遮住部分词（--set word_dropout=0.3）。",
    ),
    "latent_bound": ("bound, nats a text", "每个文本的界（纳特）"),
    "latent_reconstruction": ("of it reconstruction", "其中重建"),
    "latent_kl": ("of it KL to the prior", "其中对先验的 KL"),
    "latent_information": ("mutual information with the text, nats", "与文本的互信息（纳特）"),
    "latent_active": ("active dimensions", "活跃维度"),
    "latent_weighted": (
        "bound → importance-weighted, {draws} draws, {texts} texts",
        "界 → 重要性加权界（{draws} 次抽样，{texts} 个文本）",
    ),
    "overlap_private": (
        "How much of the held-out text stands in the training text too is not told: it would tell of that text.",
        "不说明留出文本有多少也见于训练文本：那会透露训练文本。",
    ),
    "overlap_sentence": (
        "{shared:.1%} of the held-out tokens lie in a stretch of {window} tokens (about 50 bytes) that stands in the "
        "training text too; {duplicates:,} of {documents:,} held-out documents stand there whole.",
        "留出词元中有 {shared:.1%} 位于训练文本也出现的连续 {window} 个词元（约 50 字节）之内；"
        "{documents:,} 篇留出文档中有 {duplicates:,} 篇整篇出现在训练文本中。",
    ),
    "mixture_way": ("how the members are combined", "成员的组合方式"),
    "mixture_shares": ("their weights", "成员权重"),
    "mixture_alone": ("nats/token of each on {tokens:,} kept tokens", "各成员在 {tokens:,} 个保留词元上的纳特/词元"),
    "mixture_ways": ("of each way, on half of them", "各组合方式（在其中一半上）"),
    "command": ("command", "命令"),
    "seed": ("seed", "随机种子"),
    "machine": ("machine", "机器"),
    "versions": ("versions", "版本"),
    "signature": ("signature", "签名"),
    "signature_of": ("signature of {name}", "{name} 的签名"),
    "uniform": ("uniform over bytes", "字节均匀分布"),
    "frequencies": ("token frequencies", "词元频率"),
    "compressor": ("xz + training text", "xz（读过训练文本）"),
    "sample_settings": ("temperature {temperature} · seed {seed}", "温度 {temperature} · 种子 {seed}"),
    "axis_tokens": ("tokens", "词元"),
    "axis_nats": ("nats/token", "纳特/词元"),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)


def run_summary(facts: Mapping[str, Any], scores: Mapping[str, Any], language: str) -> str:
    """One sentence on a run: its figure on held-out text."""
    known = {"family": facts["family"], "time": duration(facts["train_seconds"], language)}
    if facts.get("metrics"):
        return say("run_metrics", language, figures=_figures(facts["metrics"], language), **known)
    if facts.get("draws"):
        distinct, alike = facts["draws"]["distinct2"], facts["draws"]["self-bleu4"]
        found = {"distinct": distinct["score"], "real_distinct": distinct["baseline"]["value"]}
        found |= {"alike": alike["score"], "real_alike": alike["baseline"]["value"]}
        more = [_beside_real(distinct), -_beside_real(alike)]
        unlike = {2: "drawn_varied", -2: "drawn_alike"}.get(sum(more), "")
        verdict = unlike if all(more) else "drawn_chance"
        return say("run_drawn", language, **found, **known) + (say(verdict, language) if verdict else "")
    if scores["likelihood"] == "none":
        return say("run_unscored", language, **known)
    if scores["likelihood"] == "pseudo" and scores["perplexity"] is not None:
        return say("run_pseudo", language, perplexity=scores["perplexity"], **known)
    if facts.get("latent"):
        found = facts["latent"]
        verdict = say("latent_collapsed" if found["collapsed"] else "latent_used", language, **found)
        bits = "" if scores["bits_per_byte"] is None else say("bound_bits", language, bits=scores["bits_per_byte"])
        told = {"nats": found["bound"], "kl": found["kl"], "verdict": verdict, "bits": bits}
        return say("run_bound", language, **told, **known)
    if scores["bits_per_byte"] is not None:
        interval = (scores["interval"] or {}).get("bits_per_byte") or [scores["bits_per_byte"]] * 2
        return say("run_bits", language, bits=scores["bits_per_byte"], low=interval[0], high=interval[1], **known)
    if scores["likelihood"] == "conditional" and scores["perplexity"] is not None:
        return say("run_restored", language, perplexity=scores["perplexity"], **known)
    if scores["perplexity"] is not None:
        return say("run_perplexity", language, perplexity=scores["perplexity"], **known)
    return say("run_infinite", language, family=facts["family"])


def _figures(metrics: Mapping[str, Mapping[str, Any]], language: str) -> str:
    """The scores of each task as readers know them: "BLEU 23.41, chrF 50.20"; of several tasks each with its name."""
    sheet = Sheet(language)
    comma, colon, apart = ("，", "：", "；") if language == "zh" else (", ", ": ", "; ")
    tasks = []
    for task, scores in metrics.items():
        shown = {name: metric_figures({"value": score["score"]}, language)[0] for name, score in scores.items()}
        named = f"{task_name(task, sheet)}{colon}" if len(metrics) > 1 else ""
        tasks.append(named + comma.join(f"{metric_name(name, sheet)} {value}" for name, value in shown.items()))
    return apart.join(tasks)


def _beside_real(score: Mapping[str, Any]) -> int:
    """Whether a figure of drawn texts lies above (1) or below (-1) that of real ones; 0 where its interval holds it."""
    low, high = score["interval"] or (-float("inf"), float("inf"))
    return int(low > score["baseline"]["value"]) - int(high < score["baseline"]["value"])


def compare_summary(
    table: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]],
    lead: Mapping[str, Any] | None,
    language: str,
) -> str:
    """The best in bits/byte, by how much, whether chance could do it, and whether a baseline beats it.

    table: best first; lead: the `paired_difference` of its first two.
    """
    ranked = [row for row in table if row["bits_per_byte"] is not None and row.get("likelihood", "exact") == "exact"]
    if not ranked:
        return say("no_bits", language)
    best = ranked[0]
    text = say("ship", language, name=best["name"], bits=best["bits_per_byte"])
    if lead is not None:
        second = ranked[1]
        ahead = second["bits_per_byte"] - best["bits_per_byte"]
        text += say("ahead", language, ahead=ahead, second=second["name"])
    if lead is not None and lead["interval"]["difference"]:
        low, high = (-bound for bound in reversed(lead["interval"]["difference"]))
        text += say("apart" if lead["better"] == "a" else "chance", language, low=low, high=high)
    else:
        text += say("end", language)
    cheapest = min(baselines, key=lambda row: float(row["bits_per_byte"]), default=None)
    if cheapest is not None and cheapest["bits_per_byte"] < best["bits_per_byte"]:
        text += say("behind", language, name=cheapest["name"], bits=cheapest["bits_per_byte"])
    return text

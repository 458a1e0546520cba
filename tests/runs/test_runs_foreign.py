"""What others made is loaded, writes and scores as it does elsewhere; nothing in it is run, what is wrong is said."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_folders import MODELS, VOCABULARY, tokenizer_for, write, write_bert
from safetensors.torch import load_file, save_file

import llmbert
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import FORMAT, load, save_model, write_json
from llmbert.text.foreign import ForeignTokeniser

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=list(MODELS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(kind)
    write(kind, folder)
    return folder


@pytest.fixture(scope="module")
def theirs(folder: Path, kind: str) -> Any:
    side = transformers.AutoModelForSeq2SeqLM if kind in ("bart", "t5") else transformers.AutoModelForCausalLM
    return side.from_pretrained(folder, dtype=torch.float32).eval()


PROMPTS = ["the river", "a", "hills and runs to the sea. the river", "海上明月"]


def test_it_writes_what_transformers_writes(kind: str, folder: Path, theirs: Any) -> None:
    run = llmbert.load(folder)
    spelling = transformers.AutoTokenizer.from_pretrained(folder)
    assert isinstance(run.tokeniser, ForeignTokeniser)
    quiet = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 1, "suppress_tokens": _never(kind)}
    expected = []
    for text in PROMPTS:
        ids = torch.tensor([spelling(text)["input_ids"]])
        made = theirs.generate(ids, **quiet)[0, 1 if run.reads_source else ids.shape[1] :]
        expected.append(spelling.decode(made, skip_special_tokens=True))
    asked = {"sources": PROMPTS} if run.reads_source else {"prompts": PROMPTS}
    assert run.generate_many(**asked, temperature=0, max_tokens=20) == expected
    single = {"source": PROMPTS[2]} if run.reads_source else {"prompt": PROMPTS[2]}
    assert run.generate(**single, temperature=0, max_tokens=20) == expected[2]
    assert len(set(expected)) > 1 and max(map(len, expected)) > 5


def _never(kind: str) -> list[int]:
    """What our decoders never write: begin and padding, unless they end texts, and rows without a token."""
    run_never = {"gpt2": [1], "llama": [0, 1], "qwen3": [], "bart": [1], "t5": [1]}[kind]
    return [*run_never, *range(310, VOCABULARY)]


def test_logits_and_scores_are_transformers_own(kind: str, folder: Path, theirs: Any) -> None:
    run = llmbert.load(folder)
    tokeniser = run.tokeniser
    target = torch.tensor(run.document_ids("the hills 海"))
    if not run.reads_source:
        with torch.inference_mode():
            expected = theirs(target[None, :-1]).logits
        torch.testing.assert_close(run.logits(target[:-1]), expected, rtol=1e-4, atol=1e-4)
        nats = run.score("the hills 海")["nats"][0]
    else:
        sources = [run.encode_source(text) for text in PROMPTS[:2]]
        size = max(map(len, sources))
        block = torch.tensor([ids + [1] * (size - len(ids)) for ids in sources])
        mask = torch.arange(size) < torch.tensor([len(ids) for ids in sources])[:, None]
        targets = target[None, :-1].expand(2, -1)
        with torch.inference_mode():
            expected = theirs(input_ids=block, attention_mask=mask.long(), decoder_input_ids=targets).logits
        torch.testing.assert_close(run.logits(block, targets, mask), expected, rtol=1e-4, atol=1e-4)
        nats = run.score("the hills 海", PROMPTS[0])["nats"][0]
    own = -expected[0].log_softmax(-1)[range(len(target) - 1), target[1:]].sum()
    assert nats == pytest.approx(float(own), rel=1e-4)
    assert int(target[-1]) == tokeniser.end_id == 2


def test_what_stands_before_a_text_is_the_models_own(kind: str, folder: Path) -> None:
    run = llmbert.load(folder)
    tokeniser = run.tokeniser
    begins = {"gpt2": 2, "llama": 0, "qwen3": 2, "bart": 2, "t5": 1}
    assert tokeniser.begin_id == begins[kind]
    assert tokeniser.end_ids == ((2, 3) if kind == "llama" else (2,))
    ids = tokeniser.encode("the sea").tolist()
    frames = {"llama": [0, *ids], "bart": [0, *ids, 2], "t5": [*ids, 2]}
    assert run.encode_source("the sea") == frames.get(kind, ids)
    if not run.reads_source:
        assert run._begin == (0 if kind == "llama" else None)
        # From nothing it goes on from its begin token.
        first = int(run.logits([begins[kind]])[0, -1, 3:310].argmax()) + 3
        found = [token.id for delta in run.write(temperature=0, max_tokens=1) for token in delta.tokens]
        assert found == ([] if first in tokeniser.end_ids else [first])


def test_beams_are_transformers_own(tmp_path: Path) -> None:
    theirs = write("bart", tmp_path)
    spelling = transformers.AutoTokenizer.from_pretrained(tmp_path)
    run = llmbert.load(tmp_path)
    expected = []
    for text in PROMPTS:
        ids = torch.tensor([spelling(text)["input_ids"]])
        made = theirs.generate(
            ids, num_beams=4, early_stopping="never", do_sample=False, max_new_tokens=12, suppress_tokens=_never("bart")
        )
        expected.append(spelling.decode(made[0, 1:], skip_special_tokens=True))
    assert run.generate_many(sources=PROMPTS, beams=4, temperature=0, max_tokens=12) == expected


def test_a_forced_first_token_is_what_a_target_begins_with(tmp_path: Path) -> None:
    theirs = write("bart", tmp_path)
    config = json.loads((tmp_path / "generation_config.json").read_text())
    write_json(tmp_path / "generation_config.json", config | {"forced_bos_token_id": 0})
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    spelling = transformers.AutoTokenizer.from_pretrained(tmp_path)
    run = llmbert.load(tmp_path)
    ids = torch.tensor([spelling("the river")["input_ids"]])
    made = theirs.generate(ids, do_sample=False, max_new_tokens=13, suppress_tokens=_never("bart"))
    assert made[0, :2].tolist() == [2, 0]
    found = run.generate(source="the river", temperature=0, max_tokens=12)
    assert found == spelling.decode(made[0, 2:], skip_special_tokens=True)


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_in_several_files_and_of_half_width_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = MODELS["llama"]().to(dtype)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    run = llmbert.load(tmp_path)
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}
    ids = torch.randint(0, VOCABULARY, (2, 7))
    with torch.inference_mode():
        torch.testing.assert_close(run.logits(ids), theirs.float()(ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(LLMBertError, match="no tokeniser"):
        run.generate("the")


def test_what_is_wrong_with_an_index_is_named(tmp_path: Path) -> None:
    MODELS["llama"]().save_pretrained(tmp_path, max_shard_size="20KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name, place = next(iter(index["weight_map"].items()))

    def refused(change: Any, *words: str) -> None:
        path.write_text(json.dumps(change))
        with pytest.raises(LLMBertError) as error:
            load(tmp_path)
        assert all(word in str(error.value) for word in words), str(error.value)
        assert "\n" not in str(error.value)

    refused({}, "index.json", "damaged")
    refused({"weight_map": {name: 5}}, "damaged")
    for outside in ("../model.safetensors", "/etc/passwd", "sub/model.safetensors", "evil.bin"):
        refused({"weight_map": {name: outside}}, "damaged")
    refused({"weight_map": index["weight_map"] | {"more": place}}, place, "'more'")
    refused({"weight_map": index["weight_map"] | {name: "model-9.safetensors"}}, "model-9.safetensors", "missing")
    del index["weight_map"]["model.norm.weight"]
    tensors = load_file(tmp_path / place)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, tmp_path / place)
    refused(index, place, name)


class _Trap:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["LLMBERT_TRAP"],)


def test_a_pickle_is_never_read_and_code_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "sprung"
    monkeypatch.setenv("LLMBERT_TRAP", str(trap))
    folder = tmp_path / "model"
    write("gpt2", folder)
    code = f"import os\nos.mkdir({str(trap)!r})\n"
    for name in ("modeling_trap.py", "tokenization_trap.py"):
        (folder / name).write_text(code)
    config = json.loads((folder / "config.json").read_text())
    maps = {"auto_map": {"AutoModelForCausalLM": "modeling_trap.Trap", "AutoTokenizer": ["tokenization_trap.T", None]}}
    write_json(folder / "config.json", config | maps)
    write_json(folder / "tokenizer_config.json", maps)
    assert load(folder).generate("the", temperature=0, max_tokens=3) is not None
    write_json(folder / "config.json", config | maps | {"model_type": "trap"})
    with pytest.raises(LLMBertError, match=r"'trap'.*its code is never run here"):
        load(folder)
    write_json(folder / "config.json", config)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap()))
    for name in (folder, folder / "pytorch_model.bin"):
        with pytest.raises(LLMBertError, match=r"pytorch_model\.bin.*pickle.*save_pretrained") as refused:
            load(name)
        assert "\n" not in str(refused.value)
    assert not trap.exists()


def test_missing_and_left_over_weights_are_named(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    part = {name: tensor for name, tensor in tensors.items() if "h.1.mlp.c_fc" not in name}
    save_file(part, tmp_path / "model.safetensors")
    with pytest.raises(LLMBertError, match=r"lack 'transformer\.h\.1\.mlp\.c_fc\.bias'"):
        load(tmp_path)
    save_file(tensors | {"extra.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(LLMBertError, match=r"'extra\.weight'"):
        load(tmp_path)


def test_a_tokeniser_of_another_model_is_said_when_it_is_wanted(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    tokenizer = tokenizer_for("gpt2")
    tokenizer.add_tokens([f"word{number}" for number in range(100)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    run = load(tmp_path)
    assert run.logits([5, 6]).shape == (1, 2, VOCABULARY)
    with pytest.raises(LLMBertError, match=r"410 tokens.*330"):
        run.generate("the")


def test_what_no_file_says_is_asked_for(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", config | {"eos_token_id": -1, "bos_token_id": 10**9})
    (tmp_path / "generation_config.json").unlink()
    write_json(tmp_path / "tokenizer_config.json", {})
    for ask in (lambda run: run.generate("the"), lambda run: run.score("the")):
        with pytest.raises(LLMBertError, match="eos_token_id"):
            ask(load(tmp_path))


def test_a_run_of_our_own_may_have_a_tokeniser_from_elsewhere(tmp_path: Path) -> None:
    """As after fine-tuning: its ids stay those of the checkpoint it came from."""
    write("llama", tmp_path / "theirs")
    before = load(tmp_path / "theirs")
    out = tmp_path / "ours"
    before.tokeniser.save(out)
    assert isinstance(before.tokeniser, ForeignTokeniser)
    save_model(out, before.model, before.tokeniser.config_ids())
    known = {"kind": "foreign", "vocabulary_size": before.tokeniser.vocabulary_size}
    write_json(out / "run.json", {"format": FORMAT, "family": "gpt", "status": "done", "tokeniser": known})
    after = load(out)
    assert after.family == "gpt"
    for prompt in PROMPTS:
        assert after.generate(prompt, temperature=0, max_tokens=9) == before.generate(
            prompt, temperature=0, max_tokens=9
        )
    assert after.score(PROMPTS)["nats"] == before.score(PROMPTS)["nats"]
    config = json.loads((out / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (0, [2, 3])
    (out / "tokenizer.json").unlink()
    with pytest.raises(LLMBertError, match="no tokeniser"):
        load(out)


# ---- the hub -------------------------------------------------------------------------------------------------------


def test_a_name_of_the_hub_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    write("gpt2", tmp_path / "snapshot")
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    for name in ("some-org/a.model_1", "hub:some-org/a.model_1"):
        assert load(name).generate("the", temperature=0, max_tokens=2) is not None
    assert asked == [("some-org/a.model_1", ["*.json", "*.safetensors", "*.txt", "*.model"])] * 2
    (tmp_path / "snapshot" / "model.safetensors").unlink()
    with pytest.raises(LLMBertError, match=r"a\.model_1 has no weights as safetensors.*save_pretrained"):
        load("some-org/a.model_1")


def test_without_a_network_or_the_package_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def closed(name: str, **options: Any) -> str:
        raise OSError("Name or service not known\nand much more")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", closed)
    with pytest.raises(LLMBertError, match=r"^org/name is no folder here.*\(Name or service not known\)") as refused:
        load("org/name")
    assert "\n" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LLMBertError, match=r"pip install 'llmbert\[hub\]'"):
        load("org/name")
    with pytest.raises(UsageError, match="org/name"):
        load("hub:name")
    # A mistyped path beside runs, or one that is no name at all, asks nobody.
    (tmp_path / "runs").mkdir()
    for path in ("runs/gtp", "nothing", "./org/name", "a/b/c", tmp_path / "none"):
        with pytest.raises(LLMBertError, match="no run at"):
            load(path)


# ---- models that read both ways --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as Transformers writes it, its tokeniser as vocab.txt alone."""
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


def test_a_bert_is_read_with_its_vocabulary_and_its_mask(bert: Path) -> None:
    run = load(bert)
    theirs = transformers.BertForMaskedLM.from_pretrained(bert).eval()
    ids = [run.encode_source(text) for text in ("the river", "海上明月")]
    assert all(row[0] == 2 and row[-1] == 3 for row in ids)
    size = max(map(len, ids))
    block = torch.tensor([row + [0] * (size - len(row)) for row in ids])
    mask = block != 0
    with torch.inference_mode():
        expected = theirs(block, attention_mask=mask.long()).logits
    torch.testing.assert_close(run.logits(block, source_mask=mask)[mask], expected[mask], rtol=1e-4, atol=1e-4)
    assert run.score("the river")["likelihood"] == "pseudo"
    with pytest.raises(UsageError, match="leave out target_ids"):
        run.logits(block, block)


def test_a_bert_writes_and_fills_in(bert: Path) -> None:
    run = load(bert)
    assert run.model.settings.mask_id == 4
    for settings in ({"temperature": 0}, {"seed": 3, "top_k": 9}):
        deltas = list(run.write("the river", max_tokens=6, **settings))
        tokens = [token.id for delta in deltas for token in delta.tokens]
        assert len(tokens) == 6 and min(tokens) > 4
        text = run.generate("the river", max_tokens=6, **settings)
        assert text == "".join(delta.text for delta in deltas)
        many = run.generate_many(["the river", "海上"], max_tokens=6, **settings)
        assert many[0] == text
        middle = run.infill("the", "runs to the sea", max_tokens=3, **settings)
        assert middle == run.infill("the", "runs to the sea", max_tokens=3, **settings)
    # What is filled in is the most probable where one token is missing.
    first = [*run.encode_source("the")[:-1], 4, *run.encode_source("runs")[1:]]
    best = int(run.logits(first)[0, len(run.encode_source("the")) - 1, 5:].argmax()) + 5
    assert isinstance(run.tokeniser, ForeignTokeniser)
    assert run.infill("the", "runs", max_tokens=1, temperature=0) == run.tokeniser.decode_after([best])
    long = "海上明月" * 30
    assert run.generate(long, max_tokens=500, temperature=0)
    with pytest.raises(UsageError, match="beams"):
        run.generate("the", beams=2, temperature=0)
    with pytest.raises(UsageError, match="source"):
        run.generate("the", source="the")

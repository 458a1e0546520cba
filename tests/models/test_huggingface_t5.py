"""A T5 trained here opens in Transformers and gives the same logits and texts; their checkpoints are read here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.models.huggingface import export_model, import_model
from llmbert.models.t5 import T5, T5Settings
from llmbert.protocols import LLMBertError

BEGIN, END, VOCABULARY = 2, 3, 41
SHAPES: dict[str, dict[str, Any]] = {
    "v1.0": {"style": "v1.0", "layers": 2, "width": 24, "heads": 3},
    "v1.1": {"style": "v1.1", "layers": 2, "width": 24, "heads": 3},
    "v1.0, free head width, more layers in the decoder": {
        "style": "v1.0", "layers": 1, "decoder_layers": 3, "width": 16, "heads": 4, "head_width": 6, "inner": 40},
    "v1.1, free head width, more layers in the encoder": {
        "style": "v1.1", "layers": 3, "decoder_layers": 1, "width": 16, "heads": 2, "head_width": 12, "inner": 24},
    "gated and tied": {"style": "v1.1", "tied": True, "layers": 2, "width": 16, "heads": 2},
    "plain and untied": {"style": "v1.0", "tied": False, "layers": 2, "width": 16, "heads": 2},
    "tied, head not scaled": {"style": "v1.1", "tied": True, "scaled": False, "layers": 1, "width": 16, "heads": 2},
    "untied, head scaled": {"style": "v1.1", "tied": False, "scaled": True, "layers": 1, "width": 16, "heads": 2},
    "few buckets, near horizon": {"layers": 1, "width": 16, "heads": 2, "buckets": 8, "max_distance": 12},
    "gated SiLU": {"layers": 1, "width": 16, "heads": 2, "activation": "silu"},
    "plain GELU, exact": {"style": "v1.0", "layers": 1, "width": 16, "heads": 2, "activation": "gelu"},
    "another epsilon": {"layers": 1, "width": 16, "heads": 2, "norm_epsilon": 1e-3},
}  # fmt: skip


def test_a_gated_one_with_the_exact_gelu_keeps_our_form_and_its_function() -> None:
    """What Hugging Face calls gated-gelu is the approximation by tanh."""
    model = random_model({"style": "v1.1", "layers": 1, "width": 16, "heads": 2, "activation": "gelu"})
    config, tensors = export_model(model)
    again = import_model(config, dict(tensors))
    assert again.settings.activation == "gelu" and config["model_type"] == "llmbert-t5"


def test_a_decoder_without_end_is_refused_before_it_is_built() -> None:
    config, tensors = export_model(random_model(SHAPES["v1.1"]))
    with pytest.raises(LLMBertError, match="too few tensors"):
        import_model(config | {"num_decoder_layers": 10**9}, dict(tensors))


def random_model(shape: dict[str, Any]) -> T5:
    torch.manual_seed(0)
    model = T5(T5Settings(**shape), VOCABULARY).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=1.0 if "table" in name else 0.25)
    return model


def written(model: T5, folder: Path) -> Path:
    config, tensors = export_model(model)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def opened(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    model, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


def read(folder: Path) -> T5:
    model = import_model(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))
    assert isinstance(model, T5)
    return model


def texts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources (3, 150) with their mask, of odd lengths and long enough for the last bucket, and targets (3, 141)."""
    random = torch.Generator().manual_seed(7)
    source = torch.randint(4, VOCABULARY, (3, 150), generator=random)
    mask = torch.arange(150) < torch.tensor([[150], [37], [1]])
    target = torch.randint(4, VOCABULARY, (3, 141), generator=random)
    target[:, 0] = BEGIN
    return source.masked_fill(~mask, 0), mask, target


@torch.inference_mode()
def difference(ours: T5, theirs: Any) -> float:
    """The largest difference of two models' logits, over texts with and without padding."""
    source, mask, target = texts()
    expected = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    padded = ours.logits(target, ours.encode(source, mask)) - expected
    expected = theirs(input_ids=source[:1, :33], decoder_input_ids=target[:1, :7]).logits
    alone = ours.logits(target[:1, :7], ours.encode(source[:1, :33])) - expected
    return max(float(padded.abs().max()), float(alone.abs().max()))


def parity_rows() -> list[tuple[str, float, float]]:
    """For each setting: the largest difference of our export opened there, and of their files read here."""
    rows = []
    for words, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            model = random_model(shape)
            theirs = opened(written(model, Path(folder)))
            out = difference(model, theirs)
            theirs.save_pretrained(Path(folder) / "theirs")
            rows.append((f"T5: {words}", difference(read(Path(folder) / "theirs"), theirs), out))
    return rows


def test_logits_are_the_same_in_both_directions() -> None:
    for words, read_here, opened_there in parity_rows():
        assert read_here <= 1e-4, words
        assert opened_there <= 1e-4, words


@pytest.mark.parametrize("words", ["v1.0", "v1.1", "few buckets, near horizon"])
@torch.inference_mode()
def test_transformers_writes_the_same_texts_from_our_folder(words: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[words])
    theirs = opened(written(model, tmp_path))
    assert theirs.generation_config.decoder_start_token_id == BEGIN
    source, mask, _ = texts()
    expected = theirs.generate(
        input_ids=source, attention_mask=mask.long(), max_new_tokens=40, do_sample=False, num_beams=1
    )
    state = model.start(3, model.encode(source, mask))
    ids, ended = torch.full((3, 1), BEGIN), torch.zeros(3, dtype=torch.bool)
    while ids.shape[1] < expected.shape[1]:
        logits, state = model.step(ids[:, -1:], state)
        chosen = logits[:, -1].argmax(-1).masked_fill(ended, 0)
        ended |= chosen == END
        ids = torch.cat((ids, chosen[:, None]), dim=1)
    assert torch.equal(ids, expected)
    assert len(ids.unique()) > 5


def their_model(**changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    shape = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(**shape, **changes)
    return transformers.T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("projection", ["relu", "gated-gelu"])
def test_a_model_made_there_is_read(stated: bool, projection: str, tmp_path: Path) -> None:
    """Newer Transformers ties every new T5, whatever is asked for, and says so apart from the scale of the head."""
    theirs = their_model(tie_word_embeddings=stated, feed_forward_proj=projection, num_decoder_layers=1)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert difference(ours, theirs) <= 1e-4
    assert ours.settings.scaled == stated
    assert ours.settings.decoder_layers == 1


def test_a_file_with_every_copy_of_the_embedding_is_read() -> None:
    """As older files have it: the embedding three times, a tied head too, and a table of positions nothing reads."""
    model = random_model(SHAPES["v1.0"])
    config, tensors = export_model(model)
    del config["scale_decoder_outputs"]
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(32, 3)
    again = import_model(config, tensors)
    assert again.settings.tied
    assert same_logits(model, again)


def test_an_older_config_of_v1_1_is_read() -> None:
    """It states that the head is another matrix, and nothing of its scale."""
    model = random_model(SHAPES["v1.1"])
    config, tensors = export_model(model)
    del config["scale_decoder_outputs"], config["n_positions"]
    again = import_model(config, tensors)
    assert (again.settings.tied, again.settings.scaled) == (False, False)
    assert same_logits(model, again)


def test_mt5_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    shape = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 2}
    theirs = transformers.MT5ForConditionalGeneration(transformers.MT5Config(**shape)).eval()
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 16))
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert difference(ours, theirs) <= 1e-4
    assert (ours.settings.tied, ours.settings.scaled, ours.settings.gated) == (False, False, True)


def same_logits(first: Any, second: Any) -> bool:
    source, mask, target = texts()
    with torch.inference_mode():
        return torch.equal(
            first.logits(target, first.encode(source, mask)), second.logits(target, second.encode(source, mask))
        )


def test_an_encoder_alone_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.T5EncoderModel(their_model().config).save_pretrained(tmp_path)
    with pytest.raises(LLMBertError, match="without a decoder"):
        read(tmp_path)


def test_a_bare_model_is_read_where_its_head_is_the_embedding(tmp_path: Path) -> None:
    theirs = their_model()
    transformers = pytest.importorskip("transformers")
    bare = transformers.T5Model(theirs.config)
    bare.load_state_dict(theirs.state_dict(), strict=False)
    bare.save_pretrained(tmp_path)
    assert difference(read(tmp_path), theirs) <= 1e-4


def test_a_bare_model_of_v1_1_is_refused() -> None:
    """Its head is another matrix, which the file lacks."""
    config, tensors = export_model(random_model(SHAPES["v1.1"]))
    del tensors["lm_head.weight"]
    with pytest.raises(LLMBertError, match=r"lm_head\.weight"):
        import_model(config, tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"feed_forward_proj": "gated-tanh"},
        {"feed_forward_proj": 3},
        {"d_kv": 7},
        {"num_layers": 3},
        {"num_decoder_layers": 1},
        {"num_heads": None},
        {"relative_attention_num_buckets": 16},
        {"relative_attention_max_distance": 16},
        {"d_ff": 1 << 24},
    ],
)
def test_what_cannot_be_read_is_said(change: dict[str, Any]) -> None:
    config, tensors = export_model(random_model(SHAPES["v1.1"]))
    with pytest.raises(LLMBertError):
        import_model({**config, **change}, tensors)

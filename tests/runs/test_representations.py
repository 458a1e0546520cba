"""A text as a vector: the same whatever it is batched with, and a map that keeps what two dimensions can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.models import find_family
from llmbert.protocols import UsageError
from llmbert.runs import Run, project, represent_texts
from llmbert.text.tokenisers import Tokeniser, train_tokeniser

TEXTS = ["the cat sat on the mat", "a dog", "birds sing in the old tree", "", "the mat"]
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {"width": 12, "context": 16},
    "gpt": {"layers": 2, "width": 16, "heads": 2, "context": 16},
    "bert": {"layers": 2, "width": 16, "heads": 2, "context": 16, "mask_id": 4},
    "transformer": {"layers": 1, "width": 16, "heads": 2, "context": 16},
    "t5": {"layers": 1, "width": 16, "heads": 2},
    "vae": {"width": 12, "latent": 3, "context": 16},
    "gan": {"width": 12, "context": 16},
}


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return train_tokeniser("words", TEXTS)


def run_of(family: str, tokeniser: Tokeniser, **shape: Any) -> Run:
    torch.manual_seed(0)
    known = find_family(family)
    model = known.build(known.settings_class()(**shape), tokeniser.vocabulary_size).eval()
    return Run(Path("run"), model, tokeniser, {"family": family})


@pytest.mark.parametrize("family", SHAPES)
def test_a_text_is_the_same_vector_alone_and_among_others(family: str, tokeniser: Tokeniser) -> None:
    run = run_of(family, tokeniser, **SHAPES[family])
    together = represent_texts(run, TEXTS)
    alone = np.concatenate([represent_texts(run, [text]) for text in TEXTS])
    assert together.dtype == np.float32 and len(together) == len(TEXTS)
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(together, represent_texts(run, TEXTS, batch=2), atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(TEXTS), "different texts are different vectors"


def test_of_a_long_text_the_first_part_counts(tokeniser: Tokeniser) -> None:
    run = run_of("gpt", tokeniser, **SHAPES["gpt"])
    long = " ".join(["the cat sat"] * 30)
    assert np.allclose(represent_texts(run, [long]), represent_texts(run, [long + " birds"]))


def test_a_plane_in_space_is_laid_flat() -> None:
    """Vectors that lie in a plane keep all their distances; the axes hold all the variance, the greater one first."""
    random = np.random.default_rng(0)
    plane = np.linalg.qr(random.normal(size=(20, 2)))[0].T
    points = random.normal(size=(50, 2)) * [3.0, 1.0]
    flat, shares = project((points @ plane + 5).astype(np.float32))
    assert sum(shares) == pytest.approx(1) and shares[0] > shares[1]
    for a, b in [(0, 1), (2, 30), (17, 49)]:
        assert np.linalg.norm(flat[a] - flat[b]) == pytest.approx(np.linalg.norm(points[a] - points[b]), rel=1e-4)


def test_the_same_vectors_give_the_same_map_and_one_dimension_a_line() -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    assert np.array_equal(project(vectors)[0], project(vectors)[0])
    flat, shares = project(vectors[:, :1])
    assert flat.shape == (9, 2) and not flat[:, 1].any() and shares[1] == 0
    with pytest.raises(UsageError, match="two texts or more"):
        project(vectors[:1])


def test_a_run_that_was_taught_to_embed_is_asked_for_that(tokeniser: Tokeniser) -> None:
    from llmbert.models.headed import HeadSettings, put_heads

    plain = run_of("bert", tokeniser, **SHAPES["bert"])
    taught = Run(Path("run"), put_heads(plain.model, {"e": HeadSettings(task="embed")}).eval(), tokeniser, {})
    vectors = represent_texts(taught, TEXTS[:3])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    tagged = put_heads(plain.model, {"c": HeadSettings(task="classify", labels=["a", "b"])}).eval()
    assert np.allclose(
        represent_texts(Run(Path("run"), tagged, tokeniser, {}), TEXTS), represent_texts(plain, TEXTS), atol=1e-5
    )

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_prep.config import PairKind, PairRecipe, PairsConfig
from data_prep.pairing.objectives import make_pairs
from data_prep.seeds import generator
from tests.unit.data_prep.example_documents import documents_of, prose_like_documents
from tests.unit.data_prep.example_shards import build, data_prep_config

NSP = PairsConfig(kind=PairKind.nsp, recipe=PairRecipe.lambert, short_seq_prob=0.1)
SOP = dataclasses.replace(NSP, kind=PairKind.sop)
NONE = dataclasses.replace(NSP, kind=PairKind.none)
REFERENCE = dataclasses.replace(NSP, recipe=PairRecipe.google_research)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (NSP, {"next_pairs", "random_pairs", "sentences_cut", "documents_without_partner"}),
        (SOP, {"swapped_pairs", "sentences_cut"}),
        (NONE, {"documents_joined"}),
        (REFERENCE, {"next_pairs", "random_pairs", "pairs_from_one_document"}),
    ],
    ids=["nsp", "sop", "none", "reference"],
)
def test_each_objective_has_counts_of_its_own(config: PairsConfig, names: set[str]) -> None:
    pairs, counts = make_pairs(prose_like_documents(10), config, max_seq_length=64, rng=generator(0))
    assert names | {"instances", "tokens_truncated"} <= set(counts)
    assert counts["instances"] == len(pairs)
    assert (pairs.labels is None) == (config.kind is PairKind.none)


@pytest.mark.parametrize(("config", "num_split"), [(NSP, 2), (SOP, 2), (NONE, 1)], ids=["nsp", "sop", "none"])
def test_sentences_that_fit_no_instance_are_split(config: PairsConfig, num_split: int) -> None:
    documents = documents_of([[62, 63, 3, 61], [30, 30]], word_start_share=1)
    pairs, counts = make_pairs(documents, config, max_seq_length=64, rng=generator(0))
    assert counts["sentences_split"] == num_split
    assert pairs.a_lengths.max() <= 62


def test_the_reference_recipe_leaves_long_sentences_whole() -> None:
    pairs, counts = make_pairs(documents_of([[500]] * 50), REFERENCE, max_seq_length=64, rng=generator(0))
    assert len(pairs) == 50
    assert "sentences_split" not in counts


@pytest.mark.parametrize("kind", ["sop", "none"])
def test_the_reference_recipe_is_for_next_sentences_only(kind: str) -> None:
    with pytest.raises(ValueError, match=r"pairs\.recipe='google_research' is not valid: .*needs pairs\.kind=nsp"):
        data_prep_config(f"pairs.kind={kind}", "pairs.recipe=google_research")


@pytest.mark.parametrize(
    "overrides",
    [["pairs.kind=sop"], ["pairs.kind=none"], ["pairs.recipe=google_research"]],
    ids=["sop", "none", "reference"],
)
def test_a_build_accounts_for_every_token(tmp_path: Path, overrides: list[str]) -> None:
    documents = documents_of([[1], [30, 200, 1], [5, 5], [70] * 20, [12] * 30], word_start_share=0.3)
    counts = build(documents, tmp_path, *overrides).statistics
    special = 2 * counts["instances"] + counts.get("documents_joined", 0)
    if overrides != ["pairs.kind=none"]:
        special += counts["instances"]
    seen = counts["tokens"] - special - counts.get("tokens_borrowed", 0)
    assert seen + counts["tokens_truncated"] + counts.get("tokens_unused", 0) == counts["tokens_in_documents"]
    assert counts["tokens_in_documents"] == len(documents.token_ids)


@pytest.mark.parametrize("config", [NSP, SOP, NONE, REFERENCE], ids=["nsp", "sop", "none", "reference"])
def test_the_same_seed_gives_the_same_pairs(config: PairsConfig) -> None:
    first, second = (
        make_pairs(prose_like_documents(20), config, max_seq_length=64, rng=generator(1))[0] for _ in range(2)
    )
    for name in ("a_starts", "a_lengths", "b_starts", "b_lengths", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))

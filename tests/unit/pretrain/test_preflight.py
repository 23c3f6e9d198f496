from dataclasses import replace

import pytest

from data_prep.manifest import Manifest
from pretrain.preflight import make_plan
from tests.unit.conf.test_compose import manifest, pretrain


def plan_of(*manifests: Manifest, overrides: tuple[str, ...] = ()):
    config = pretrain("experiment=bert_large_lamb", *overrides)
    return make_plan(
        manifests,
        phases=config.phases,
        model=config.model,
        engine=config.engine,
        evaluation=config.evaluation,
        seed=config.seed,
        world_size=64,
    )


def with_pairs(kind: str, max_seq_length: int) -> Manifest:
    return replace(manifest(max_seq_length), config={"pairs": {"kind": kind}, "masking": {"kind": "static"}})


@pytest.mark.parametrize(
    ("kinds", "wanted"), [(("sop", "sop"), True), (("nsp", "none"), True), (("none", "none"), False)]
)
def test_a_run_has_pairs_where_any_phase_has_them(kinds: tuple[str, str], wanted: bool):
    assert plan_of(with_pairs(kinds[0], 128), with_pairs(kinds[1], 512)).with_pairs is wanted


def test_labels_of_two_meanings_are_refused():
    with pytest.raises(ValueError, match=r"phases \(\w+\) pairs\.kind='sop' is not valid: \w+ has nsp, and one head"):
        plan_of(with_pairs("nsp", 128), with_pairs("sop", 512))


def test_roberta_has_no_head_for_pairs():
    roberta = ("model.architecture=roberta", "model.type_vocab_size=1")
    assert not plan_of(with_pairs("none", 128), with_pairs("none", 512), overrides=roberta).with_pairs
    with pytest.raises(ValueError, match=r"model.architecture='roberta' .* pairs, .* pairs.kind=none, or train bert"):
        plan_of(with_pairs("nsp", 128), with_pairs("none", 512), overrides=roberta)


def test_pairs_need_two_token_types():
    with pytest.raises(ValueError, match=r"model.type_vocab_size=1 is not valid: segments A and B need 2"):
        plan_of(with_pairs("nsp", 128), with_pairs("nsp", 512), overrides=("model.type_vocab_size=1",))


def test_phases_of_two_tokenizers_are_refused():
    other = manifest(512)
    other = replace(other, tokenizer=replace(other.tokenizer, sha256="other"))
    with pytest.raises(ValueError, match="prepare both with the same tokenizer"):
        plan_of(manifest(128), other)

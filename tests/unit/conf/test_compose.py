"""Every YAML composes; every mistake on the command line gets one clear message."""

from pathlib import Path

import pytest

from conf.compose import compose, fingerprint, flatten, to_dict
from data_prep.config import DataPrepConfig
from pretrain.config import PretrainConfig

CONF = Path(__file__).resolve().parents[3] / "conf"
NEEDED = {
    "pretrain": ["shards_dir=SHARDS", "run_dir=RUN"],
    "data_prep": ["output_dir=OUT", "corpus.paths=[TEXT]", "corpus.format=text"],
}
SCHEMAS = {"pretrain": PretrainConfig, "data_prep": DataPrepConfig}
GROUPS = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.glob("*/*.yaml"))


def pretrain(*overrides: str) -> PretrainConfig:
    return compose("pretrain", PretrainConfig, [*NEEDED["pretrain"], *overrides])


@pytest.mark.parametrize("entry", sorted(SCHEMAS))
def test_the_defaults_of_an_entry_compose(entry):
    assert isinstance(compose(entry, SCHEMAS[entry], NEEDED[entry]), SCHEMAS[entry])


@pytest.mark.parametrize("choice", GROUPS, ids=str)
def test_every_choice_of_every_group_composes_and_is_used(choice):
    chosen = pretrain(f"{choice.parent}={choice.name}", "lr_schedule.warmup_steps=1")
    assert isinstance(chosen, PretrainConfig)
    others = [other for other in GROUPS if other.parent == choice.parent and other != choice]
    for other in others:
        assert to_dict(pretrain(f"{other.parent}={other.name}", "lr_schedule.warmup_steps=1")) != to_dict(chosen)


def test_the_default_phase_follows_the_top_level_keys():
    config = pretrain(
        "max_steps=70", "data.global_batch_size=512", "lr_schedule.warmup_steps=7", "optimizer.learning_rate=3"
    )
    (phase,) = config.phases
    assert (phase.max_steps, phase.data.global_batch_size, phase.shards_dir) == (70, 512, "SHARDS")
    assert (phase.lr_schedule.warmup_steps, phase.learning_rate) == (7, 3.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.global_batch=3", "Did you mean data.global_batch_size"),
        ("max_step=3", "Did you mean max_steps"),
        ("+nonsense=3", "nonsense"),
        ("max_steps=many", "max_steps.*many.*Integer"),
        ("optimizer=sgd", "sgd.*adamw.*lamb"),
        ("engine.precision=int8", r"engine.precision: Invalid value 'int8', expected one of \[fp32, bf16, fp16\]"),
        ("engine.zero_stage=4", "engine.zero_stage=4 is not valid: 0, 1, 2 or 3"),
        ("max_steps=0", "max_steps=0 is not valid: at least 1"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1.0 is not valid: above 0"),
        ("lr_schedule.warmup_steps=200000", "lr_schedule.warmup_steps=200000.*at most max_steps=100000"),
        ("data.global_batch_size=100", "data.global_batch_size=100.*8 streams.*nearest: 96 or 104"),
        ("data.micro_batch_size=24", "data.micro_batch_size=24.*divide the 32 sequences.*nearest: (16|32)"),
        ("model.hidden_size=100", "model.hidden_size=100 is not valid: a multiple of 12 heads"),
        ("seed=-1", "seed=-1 is not valid"),
        ("phases=[]", "at least one phase"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_wrong_override_is_named_with_its_remedy(override, message):
    with pytest.raises(ValueError, match=message) as caught:
        pretrain(override)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_required_key_is_named():
    with pytest.raises(ValueError, match="shards_dir"):
        compose("pretrain", PretrainConfig, ["run_dir=RUN"])


def test_flatten_names_leaves_as_the_command_line_does():
    nested = {"a": {"b": [1, {"c": None}]}, "d": {}, "e": []}
    assert flatten(nested) == {"a.b.0": 1, "a.b.1.c": None, "d": {}, "e": []}


def test_the_fingerprint_depends_on_values_and_not_on_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    assert fingerprint(pretrain()) == fingerprint(to_dict(pretrain())) != fingerprint(pretrain("seed=1"))

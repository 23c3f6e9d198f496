"""Every YAML composes; every mistake on the command line gets one clear message."""

from pathlib import Path

import pytest

from conf.compose import compose, differing, fingerprint, flatten, quoted, to_dict
from data_prep.config import DataPrepConfig, MaskingKind, PairKind
from data_prep.manifest import HELD_OUT, TRAIN, Manifest, ShardInfo, TokenizerInfo
from pretrain.config import OptimizerState, PretrainConfig
from pretrain.engine_config import OptimizerKind
from pretrain.phases import total_steps
from pretrain.preflight import make_plan

CONF = Path(__file__).resolve().parents[3] / "conf"
NEEDED = {
    "pretrain": ["shards_dir=SHARDS", "run_dir=RUN"],
    "data_prep": ["output_dir=OUT", "corpus.paths=[TEXT]", "corpus.format=text"],
}
SCHEMAS = {"pretrain": PretrainConfig, "data_prep": DataPrepConfig}
DISTILLATIONS = ("distillation/soft_targets", "distillation/hidden_states")  # they need a teacher
# conf/finetune has entries and groups of its own: tests/unit/finetune/test_config.py
FOLDERS = sorted(path for path in CONF.iterdir() if path.is_dir() and path.name != "finetune")
GROUPS = sorted(path.relative_to(CONF).with_suffix("") for folder in FOLDERS for path in folder.glob("*.yaml"))


def pretrain(*overrides: str) -> PretrainConfig:
    return compose("pretrain", PretrainConfig, [*NEEDED["pretrain"], *overrides])


@pytest.mark.parametrize("entry", sorted(SCHEMAS))
def test_the_defaults_of_an_entry_compose(entry):
    assert isinstance(compose(entry, SCHEMAS[entry], NEEDED[entry]), SCHEMAS[entry])


def choose(choice: Path) -> PretrainConfig | DataPrepConfig:
    """Return the config with one choice of a group: recipes are data_prep's, the other groups the trainer's."""
    if choice.parent == Path("recipe"):
        sources = "corpus.sources=[{name: en, paths: [EN], language: en}, {name: zh, paths: [ZH], language: zh}]"
        needed = ["output_dir=OUT", "corpus.format=text", sources]
        return compose("data_prep", DataPrepConfig, [*needed, f"recipe={choice.name}"])
    teacher = ["distillation.teacher=TEACHER"] if str(choice) in DISTILLATIONS else []
    return pretrain(f"{choice.parent}={choice.name}", "lr_schedule.warmup_steps=1", *teacher)


def test_recipes_are_those_of_the_papers():
    recipes = {path.name: choose(path) for path in GROUPS if path.parent == Path("recipe")}
    sizes = {name: config.tokenizer.vocab_size for name, config in recipes.items()}
    assert sizes == {
        "albert": 30000,
        "bert_cased": 28996,
        "bert_chinese": 21128,
        "bert_multilingual": 119547,
        "roberta": 50265,
    }
    assert [name for name, config in recipes.items() if config.tokenizer.lowercase] == ["albert", "bert_chinese"]
    assert {name for name, config in recipes.items() if config.masking.whole_word} == {"albert", "bert_chinese"}
    assert (recipes["albert"].pairs.kind, recipes["albert"].masking.max_ngram) == (PairKind.sop, 3)
    assert (recipes["roberta"].pairs.kind, recipes["roberta"].masking.kind) == (PairKind.none, MaskingKind.dynamic)
    assert recipes["bert_multilingual"].corpus.exponent == 0.7
    assert recipes["bert_chinese"].sentences.language == "zh"


@pytest.mark.parametrize("choice", GROUPS, ids=str)
def test_every_choice_of_every_group_composes_and_is_used(choice):
    chosen = to_dict(choose(choice))
    others = [other for other in GROUPS if other.parent == choice.parent and other != choice]
    for other in others:
        assert to_dict(choose(other)) != chosen


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
        ("model.architecture=gpt", r"model.architecture.*gpt.*\[bert, roberta, albert\]"),
        ("model.embedding_size=128", "model.embedding_size=128 is not valid: BERT's embeddings are hidden_size wide"),
        ("model.architecture=albert", "model.embedding_size=None is not valid: ALBERT needs a width"),
        ("model.hidden_size=100", "model.hidden_size=100 is not valid: a multiple of 12 heads"),
        ("distillation=soft_targets", "distillation.teacher.*missing|[Mm]issing.*distillation.teacher"),
        ("distillation.weight=0.5", "distillation.teacher=None is not valid: name a model directory"),
        ("distillation.teacher=DIR", "distillation.weight=0.0 is not valid.*choose distillation=soft_targets"),
        ("distillation.temperature=0", "distillation.temperature=0.0 is not valid: above 0"),
        ("distillation.weight=1.5", "distillation.weight=1.5 is not valid: 0 to 1"),
        ("distillation.layers=[[1,2]]", "distillation.layers=.*hidden_weight above 0"),
        ("seed=-1", "seed=-1 is not valid"),
        ("max_minutes=0", "max_minutes=0.0 is not valid: null or above 0"),
        ("stop_exit_code=126", "stop_exit_code=126 is not valid: 0 to 125"),
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


def manifest(max_seq_length: int) -> Manifest:
    shard = ShardInfo(
        name="train-000-00000-000.tar",
        blocks=1000,
        sequences=1_000_000,
        instances=1_000_000,
        tokens=100_000_000,
        masked_tokens=15_000_000,
        bytes=1,
        sha256="",
        index_bytes=1,
        index_sha256="",
    )
    tokenizer = TokenizerInfo(directory="t", sha256="t", vocab_size=30522, pad_id=0, cls_id=1, sep_id=2, mask_id=3)
    return Manifest(
        format_version=1,
        tokenizer=tokenizer,
        max_seq_length=max_seq_length,
        block_size=1000,
        column_dtypes={},
        config={"pairs": {"kind": "nsp"}, "masking": {"kind": "static"}},
        statistics={},
        splits={TRAIN: [shard], HELD_OUT: [shard]},
    )


def test_bert_large_lamb_is_the_published_recipe_and_can_be_planned():
    config = pretrain("experiment=bert_large_lamb")
    first, second = config.phases
    assert (first.shards_dir, second.shards_dir) == ("SHARDS/seq128", "SHARDS/seq512")
    assert [(p.max_steps, p.data.global_batch_size, p.learning_rate) for p in config.phases] == [
        (7038, 65536, 6e-3),
        (1563, 32768, 4e-3),
    ]
    warmups = [phase.lr_schedule.warmup_steps for phase in config.phases]
    assert warmups == [round(0.2843 * 7038), round(0.128 * 1563)] == [2001, 200]
    assert [(p.lr_schedule.power, p.lr_schedule.end_learning_rate) for p in config.phases] == [(0.5, 0.0)] * 2
    assert [p.optimizer_state for p in config.phases] == [OptimizerState.carry] * 2
    lamb = config.optimizer
    assert (lamb.kind, lamb.beta1, lamb.beta2, lamb.eps) == (OptimizerKind.lamb, 0.9, 0.999, 1e-6)
    assert (lamb.weight_decay, lamb.bias_correction, config.engine.gradient_clipping) == (0.01, True, 1.0)
    assert (config.model.hidden_size, config.model.num_hidden_layers) == (1024, 24)
    assert config.max_steps == total_steps(config.phases)
    plan = make_plan(
        [manifest(128), manifest(512)],
        phases=config.phases,
        model=config.model,
        engine=config.engine,
        evaluation=config.evaluation,
        seed=config.seed,
        world_size=1024,
    )
    assert [order.sequences_per_step for order in plan.orders] == [64, 32]
    assert plan.model.vocab_size == 30522


def test_bert_base_decays_in_one_line_over_both_phases():
    first, second = pretrain("experiment=bert_base").phases
    assert (first.max_steps, second.max_steps) == (900_000, 100_000)
    assert first.lr_schedule.end_learning_rate == second.learning_rate == pytest.approx(first.learning_rate / 10)
    assert (first.data.global_batch_size, second.lr_schedule.end_learning_rate) == (256, 0.0)


@pytest.mark.parametrize(("size", "rate", "warmup"), [("base", 6e-4, 24_000), ("large", 4e-4, 30_000)])
def test_roberta_is_the_published_recipe(size, rate, warmup):
    config = pretrain(f"experiment=roberta_{size}")
    (phase,) = config.phases
    assert (phase.learning_rate, phase.lr_schedule.warmup_steps, phase.max_steps) == (rate, warmup, 500_000)
    assert (phase.lr_schedule.power, phase.data.global_batch_size) == (1.0, 8192)
    adam = config.optimizer
    assert (adam.kind, adam.beta1, adam.beta2, adam.eps) == (OptimizerKind.adamw, 0.9, 0.98, 1e-6)
    assert (adam.weight_decay, config.engine.gradient_clipping) == (0.01, 0.0)


def test_the_command_line_chooses_another_size_than_the_experiment():
    assert pretrain("experiment=albert", "model=albert_xlarge").model.hidden_size == 2048


def test_one_phase_of_a_list_can_be_changed_on_the_command_line():
    first, second = pretrain(
        "experiment=bert_large_lamb",
        "phases.1.shards_dir=LONG",
        "phases.1.data.micro_batch_size=8",
        "phases.0.max_steps=9000",
        "data.num_streams=64",
    ).phases
    assert (first.shards_dir, first.max_steps, first.data.num_streams) == ("SHARDS/seq128", 9000, 64)
    assert (second.shards_dir, second.data.micro_batch_size, second.data.num_streams) == ("LONG", 8, 64)


@pytest.mark.parametrize("path", ["runs/a b", "it's", "a\\", "a\\'b", "x=[1,2]"])
def test_a_quoted_value_reaches_the_config_as_it_is(path):
    assert pretrain(f"run_dir={quoted(path)}").run_dir == path


def test_configs_differ_in_the_keys_that_only_one_has_or_both_have_otherwise():
    assert differing({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": None}) == ["b", "c", "d"]

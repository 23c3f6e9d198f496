"""What may change between a checkpoint and the command that resumes it, and what the user is told otherwise."""

import pytest

from conf.compose import compose, to_dict
from pretrain.config import PretrainConfig
from pretrain.resume import require_resumable


def described(*overrides: str, manifests=("abc",)) -> dict:
    arguments = ["shards_dir=S", "run_dir=R", "lr_schedule.warmup_steps=10", *overrides]
    return to_dict(compose("pretrain", PretrainConfig, arguments)) | {"manifests": list(manifests)}


def check(current: dict, allow: list[str] | None = None, step: int = 50, saved: dict | None = None) -> None:
    require_resumable(saved or described(), current, step=step, allow=allow or [], where="R")


PHASE = (
    "{{name: {name}, shards_dir: S, max_steps: {steps}, learning_rate: 0.1, optimizer_state: carry, "
    "data: ${{data}}, lr_schedule: ${{lr_schedule}}}}"
)


def of_phases(*steps: int) -> dict:
    listed = ",".join(PHASE.format(name=f"p{index}", steps=count) for index, count in enumerate(steps))
    return described(f"phases=[{listed}]", manifests=["abc"] * len(steps))


@pytest.mark.parametrize(
    "override",
    [
        "max_steps=7000",
        "data.micro_batch_size=8",
        "engine.zero_stage=2",
        "engine.precision=fp32",
        "tracking=none",
        "profile.steps=[10,12]",
        "checkpoint.save_every=5",
        "evaluation.every=5",
        "shards_dir=elsewhere",
        "run_dir=moved",
        "stop_after=5",
        "max_minutes=5",
        "stop_exit_code=75",
        "engine.activation_checkpointing=true",
        "resume.allow=[seed]",
    ],
)
def test_what_decides_nothing_may_change(override):
    check(described(override))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=3", "seed was 0, now 3"),
        ("data.global_batch_size=512", r"phases\.0\.data\.global_batch_size was 256, now 512"),
        ("data.num_streams=4", r"phases\.0\.data\.num_streams was 8, now 4"),
        ("model=large", r"model\.hidden_size was 768, now 1024"),
    ],
)
def test_what_decides_the_data_or_the_shapes_cannot_change_even_if_allowed(override, said):
    with pytest.raises(ValueError, match=f"R is a run of another kind: .*{said}"):
        check(described(override), allow=["seed", "phases.0.data.global_batch_size"])


def test_other_shards_are_refused():
    with pytest.raises(ValueError, match=r"manifests\.0 was 'abc', now 'xyz'"):
        check(described(manifests=["xyz"]))


def test_a_changed_recipe_is_named_with_the_way_to_permit_it():
    changed = described("optimizer.weight_decay=0.1", "engine.gradient_clipping=2.0")
    with pytest.raises(ValueError, match=r"resume\.allow=\[engine\.gradient_clipping,optimizer\.weight_decay\]"):
        check(changed)
    check(changed, allow=["engine.gradient_clipping", "optimizer.weight_decay"])


def test_dropout_may_change_when_it_is_allowed():
    changed = described("model.hidden_dropout_prob=0.0")
    with pytest.raises(ValueError, match=r"resume\.allow=\[model\.hidden_dropout_prob\]"):
        check(changed)
    check(changed, allow=["model.hidden_dropout_prob"])


def test_a_phase_may_be_appended_when_it_is_allowed_and_never_removed():
    check(of_phases(90, 60), saved=of_phases(90), step=90, allow=["phases.1.*", "manifests.1"])
    with pytest.raises(ValueError, match=r"resume\.allow"):
        check(of_phases(90, 60), saved=of_phases(90), step=90)
    with pytest.raises(ValueError, match=r"another kind: phases\.1"):
        check(of_phases(90), saved=of_phases(90, 60), step=95, allow=["*"])


def test_a_phase_that_is_over_keeps_its_steps_and_the_last_one_may_be_extended():
    check(of_phases(90, 80), saved=of_phases(90, 60), step=95)
    check(of_phases(100, 60), saved=of_phases(90, 60), step=80)
    with pytest.raises(ValueError, match=r"phases\.0\.max_steps was 90, now 50"):
        check(of_phases(50, 60), saved=of_phases(90, 60), step=95)
    with pytest.raises(ValueError, match="max_steps=70 is not valid: R has done 80 steps already"):
        check(of_phases(70), saved=of_phases(90), step=80)


def test_a_run_of_an_older_release_goes_on_by_the_same_command():
    saved = described()
    for key in ("architecture", "embedding_size", "init_from", "extend_vocabulary"):
        del saved["model"][key]
    del saved["distillation"]
    check(described(), saved=saved)
    with pytest.raises(ValueError, match=r"distillation\.temperature was 1\.0, now 2\.0"):
        check(described("distillation=soft_targets", "distillation.teacher=T"), saved=saved)

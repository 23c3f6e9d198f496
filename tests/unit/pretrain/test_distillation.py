"""What a student learns from its teacher is what the papers say, and a directory that is no teacher is refused."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining

from data_prep.manifest import read_manifest
from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.data.feed import StepCounts
from pretrain.data.reader import ShardDirectory
from pretrain.distillation.directory import TeacherDirectory, find_teacher
from pretrain.distillation.losses import hidden_state_loss, soft_target_loss
from pretrain.distillation.student import Student, build_student, projection_elements, without_projections
from pretrain.distillation.teacher import Teacher, load_teacher
from pretrain.distillation_config import DistillationConfig
from pretrain.engine_config import Precision
from pretrain.model.bert import BertForPretraining
from pretrain.objective import loss_sums
from pretrain.preflight import Plan
from tests.models import ALBERT, ROBERTA, build_model, pad, random_batch, tiny_config
from tests.shards import write_shards
from tests.teachers import write_teacher

STUDENT = tiny_config(vocab_size=64, hidden_size=24, num_hidden_layers=2, max_position_embeddings=32)
PLAN = Plan(model=STUDENT, with_pairs=True, orders=[], notes=[])


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards", shards=1, blocks=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, shards) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teachers") / "teacher", shards)


def config_of(teacher: Path | None, **changes) -> DistillationConfig:
    settings = {"temperature": 2.0, "weight": 0.7, "hidden_weight": 0.5, "layers": [[1, 1], [2, 3]]}
    return DistillationConfig(**({"teacher": None if teacher is None else str(teacher)} | settings | changes))


def find(config: DistillationConfig, shards: Path, plan: Plan = PLAN) -> TeacherDirectory:
    found = find_teacher(config, plan, ShardDirectory(str(shards)), read_manifest(shards), max_seq_length=24)
    assert found is not None
    return found


def load(config: DistillationConfig, shards: Path, precision: Precision = Precision.fp32) -> Teacher:
    teacher = load_teacher(find(config, shards), config, Kernels.torch, precision, torch.device("cpu"))
    assert teacher is not None
    return teacher


def student_of(found: TeacherDirectory | None, *, seed: int = 0) -> BertForPretraining:
    torch.manual_seed(seed)
    return build_student(STUDENT, Kernels.torch, found, with_pairs=True, activation_checkpointing=False)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_soft_targets_are_the_divergence_of_two_softened_distributions_and_pull_towards_the_teachers(temperature):
    generator = torch.Generator().manual_seed(1)
    ours, theirs = (2 * torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = 0.0
    for own, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        q, p = ([math.exp(logit / temperature) for logit in row] for row in (own, other))
        for first, second in zip(p, q, strict=True):
            first, second = first / sum(p), second / sum(q)
            expected += temperature**2 * first * math.log(first / second)
    logits = ours.float().requires_grad_()
    loss = soft_target_loss(logits, theirs.float(), temperature)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    softened = (torch.softmax(logits / temperature, -1) for logits in (ours, theirs))
    q, p = softened
    torch.testing.assert_close(logits.grad, (temperature * (q - p)).float(), atol=1e-6, rtol=1e-5)
    assert float(soft_target_loss(theirs.float(), theirs.float(), temperature)) == pytest.approx(0, abs=1e-5)


def test_hidden_states_differ_by_their_direction_alone():
    generator = torch.Generator().manual_seed(2)
    layers = [[torch.randn(4, 6, generator=generator) for _ in range(2)] for _ in range(2)]
    distances = [
        1 - sum(a * b for a, b in zip(own, other, strict=True)) / math.hypot(*own) / math.hypot(*other)
        for student, teacher in zip(*layers, strict=True)
        for own, other in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert float(hidden_state_loss(*layers)) == pytest.approx(sum(distances) / 2, rel=1e-5)
    longer = [3 * tensor for tensor in layers[1]]
    assert float(hidden_state_loss(layers[0], longer)) == pytest.approx(sum(distances) / 2, rel=1e-5)
    assert float(hidden_state_loss(longer, layers[1])) == pytest.approx(0, abs=1e-5)


def counts_of(batches: list[MicroBatch]) -> StepCounts:
    return StepCounts(
        masked_tokens=sum(len(batch.masked_lm_ids) for batch in batches),
        pairs=sum(len(batch.instance_lengths) for batch in batches),
        tokens=sum(len(batch.input_ids) for batch in batches),
    )


def test_the_loss_is_that_of_a_reference_with_transformers_teacher(directory, shards):
    """Every term by hand: the teacher is transformers' model, run on padded rows."""
    batch = random_batch([9, 5, 12], STUDENT)
    counts = counts_of([batch])
    teacher = load(config_of(directory), shards)
    student = student_of(find(config_of(directory), shards))
    assert isinstance(student, Student)
    with torch.no_grad():
        output = student(batch)
        hard = loss_sums(output, batch)
        imitation = teacher.loss_sums(output, batch)
        rows = pad(batch)
        theirs = AutoModelForPreTraining.from_pretrained(directory)(**rows, output_hidden_states=True)
        plain = student_of(None).eval()(batch)
    torch.testing.assert_close(output.mlm_logits, plain.mlm_logits)
    real = rows["attention_mask"].bool()
    logits = theirs.prediction_logits[real][batch.masked_positions].double() / 2
    ours = torch.log_softmax(output.mlm_logits.double() / 2, -1)
    soft = 4 * (torch.softmax(logits, -1) * (torch.log_softmax(logits, -1) - ours)).sum() / counts.masked_tokens
    assert output.hidden_states is not None
    cosines = [
        torch.cosine_similarity(own, theirs.hidden_states[layer][real], dim=-1).mean()
        for own, layer in zip(output.hidden_states, (1, 3), strict=True)
    ]
    hidden = 1 - sum(map(float, cosines)) / 2
    mlm = torch.nn.functional.cross_entropy(output.mlm_logits, batch.masked_lm_ids)
    pairs = torch.nn.functional.cross_entropy(output.nsp_logits, batch.next_sentence_labels)
    expected = 0.3 * float(mlm) + 0.7 * float(soft) + float(pairs) + 0.5 * hidden
    assert float(teacher.loss(hard, imitation, counts)) == pytest.approx(expected, rel=1e-5)
    metrics = teacher.metrics(float(imitation.soft_loss), float(imitation.hidden_loss), counts)
    assert metrics == pytest.approx({"distillation_loss": float(soft), "hidden_loss": hidden}, rel=1e-5)


def test_losses_of_micro_batches_add_up_to_that_of_the_whole_batch(directory, shards):
    teacher, student = load(config_of(directory), shards), student_of(find(config_of(directory), shards))
    parts = [random_batch(lengths, STUDENT, seed=seed) for seed, lengths in enumerate([[9], [4, 11, 6], [3, 3]])]
    counts = counts_of(parts)
    starts = [sum(len(part.input_ids) for part in parts[:number]) for number in range(len(parts))]
    lengths = [length for part in parts for length in part.instance_lengths]
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("input_ids", "token_type_ids")}
    joined |= {name: torch.cat([getattr(part, name) for part in parts]) for name in ("position_ids", "masked_lm_ids")}
    whole = parts[0]._replace(
        **joined,
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
        instance_lengths=tuple(lengths),
        masked_positions=torch.cat([part.masked_positions + at for part, at in zip(parts, starts, strict=True)]),
        next_sentence_labels=torch.cat([part.next_sentence_labels for part in parts]),
    )

    def gradients(batches: list[MicroBatch]) -> list[torch.Tensor]:
        losses = [(student(batch), batch) for batch in batches]
        loss = sum(
            teacher.loss(loss_sums(output, batch), teacher.loss_sums(output, batch), counts) for output, batch in losses
        )
        return [loss.detach(), *torch.autograd.grad(loss, list(student.parameters()))]

    for cut, uncut in zip(gradients(parts), gradients([whole]), strict=True):
        torch.testing.assert_close(cut, uncut, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_teacher_is_frozen_draws_nothing_and_computes_in_the_runs_precision(directory, shards, precision):
    teacher, batch = load(config_of(directory), shards, precision), random_batch([9, 5], STUDENT)
    before = torch.get_rng_state()
    targets = teacher.targets(batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert not targets.mlm_logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    (dtype,) = {parameter.dtype for parameter in teacher.model.parameters()}
    assert str(dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}[precision]
    assert targets.hidden_states is not None
    assert [tuple(states.shape) for states in targets.hidden_states] == [(14, 16), (14, 16)]


@pytest.mark.parametrize("changes", [ROBERTA, ALBERT], ids=["roberta", "albert"])
def test_teachers_of_other_architectures_teach_the_same_ids(shards, tmp_path, changes):
    write_teacher(tmp_path / "other", shards, with_pairs=False, **changes)
    config = config_of(tmp_path / "other", layers=None)
    found = find(config, shards, replace(PLAN, with_pairs=False))
    assert found.layers == [(2, 3)]
    teacher = load_teacher(found, config, Kernels.torch, Precision.fp32, torch.device("cpu"))
    batch = random_batch([7, 4], STUDENT)._replace(token_type_ids=torch.zeros(11, dtype=torch.int64))
    assert teacher.targets(batch).mlm_logits.shape == (len(batch.masked_positions), 64)


def test_a_student_begins_with_the_weights_of_a_run_without_teacher_and_leaves_its_projections_behind(
    directory, shards
):
    found = find(config_of(directory), shards)
    plain, student = student_of(None).state_dict(), student_of(found).state_dict()
    extra = {name: tensor for name, tensor in student.items() if name not in plain}
    assert {name: tuple(tensor.shape) for name, tensor in extra.items() if "weight" in name} == {
        "hidden_projections.0.weight": (16, 24),
        "hidden_projections.1.weight": (16, 24),
    }
    assert sum(tensor.numel() for tensor in extra.values()) == projection_elements(STUDENT, found)
    exported = without_projections(student)
    assert exported.keys() == plain.keys()
    assert all(torch.equal(exported[name], plain[name]) for name in plain)


def test_equal_widths_need_no_projection_and_soft_targets_no_student_of_their_own(directory, shards):
    alike = replace(STUDENT, hidden_size=16)
    found = find(config_of(directory), shards, replace(PLAN, model=alike))
    student = build_student(alike, Kernels.torch, found, with_pairs=True, activation_checkpointing=False)
    assert not student.hidden_projections
    assert projection_elements(alike, found) == 0
    assert student(random_batch([5], alike)).hidden_states[1].shape == (5, 16)
    soft = find(config_of(directory, hidden_weight=0.0, layers=None), shards)
    assert soft.layers == []
    assert type(student_of(soft)) is BertForPretraining
    assert "hidden_loss" not in load(config_of(directory, hidden_weight=0.0, layers=None), shards).metrics(
        1.0, 0.0, StepCounts(masked_tokens=1)
    )


def other_token(directory: Path) -> None:
    path = directory / "tokenizer.json"
    path.write_text(path.read_text().replace('"w7"', '"stranger"'))


def become_a_run(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.yaml").touch()
    (directory / "checkpoints").mkdir()


def become_a_checkpoint(directory: Path) -> None:
    (directory / "COMPLETE.json").touch()


def lose_the_head(directory: Path) -> None:
    path = directory / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("cls.")}
    save_file(weights, path, {"format": "pt"})


def add_a_layer(directory: Path) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    save_file(weights | {name.replace("r.0", "r.7"): weights[name].clone()}, path, {"format": "pt"})


def break_a_weight(directory: Path) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    weights["bert.embeddings.LayerNorm.weight"][3] = math.nan
    save_file(weights, path, {"format": "pt"})


def change_config(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (other_token, r"1 mean something else in the shards: id 7 is 'stranger' there and 'w7' in .*shards; prepare"),
    (become_a_run, r"folder of a run.*python -m pretrain.export run_dir=\S+ output_dir=DIR"),
    (become_a_checkpoint, r"checkpoint of a run.*python -m pretrain.export run_dir=\S+ tag=teacher output_dir=DIR"),
    (lose_the_head, r"model.safetensors lacks mlm_head\S+, .*: a teacher needs its masked-token head"),
    (break_a_weight, r"model.safetensors holds NaN or infinity in embeddings.layer_norm.weight"),
    (lambda path: change_config(path, hidden_size=32), r"config.json is of another model: size mismatch for"),
    (lambda path: change_config(path, model_type="gpt2"), r"model_type='gpt2' is not supported"),
    (lambda path: change_config(path, max_position_embeddings=20), r"20 positions, .* sequences of up to 24 tokens"),
    (add_a_layer, r"model\.safetensors has 1 parameters that the model of config\.json has not, layers\.7\."),
    (lambda path: change_config(path, type_vocab_size=1), r"one token type, and the shards have pairs"),
    (
        lambda path: change_config(path, vocab_size=65),
        r"its model has 65 ids, its tokenizer and the shards have 64: save",
    ),
    (lambda path: shutil.rmtree(path), r"is not a directory"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=[re.sub(r"\W+", " ", message) for _, message in BROKEN])
def test_a_directory_that_is_no_teacher_is_named_with_its_remedy(directory, shards, tmp_path, damage, message):
    broken = shutil.copytree(directory, tmp_path / "teacher")
    damage(broken)
    with pytest.raises(ValueError, match=rf"^distillation\.teacher\b.*{message}"):
        find(config_of(broken), shards)


def test_weights_that_change_between_check_and_start_are_refused(directory, shards, tmp_path):
    config = config_of(shutil.copytree(directory, tmp_path / "teacher"))
    found = find(config, shards)
    break_a_weight(found.path)
    with pytest.raises(ValueError, match="not the one that rank 0 has found"):
        load_teacher(found, config, Kernels.torch, Precision.fp32, torch.device("cpu"))


@pytest.mark.parametrize("layers", [[[3, 1]], [[1, 1], [2, 4]]])
def test_layers_that_there_are_not_are_refused(directory, shards, layers):
    with pytest.raises(ValueError, match=r"layers=.*student has 2 layers, the teacher 3; the last two are \[2,3\]"):
        find(config_of(directory, layers=layers), shards)


@pytest.mark.parametrize("layers", [[], [[1]], [[0, 1]], [[2, 1], [1, 2]], [[1, 2], [2, 2]], [[1, 2, 3]]])
def test_layers_are_pairs_in_ascending_order(layers):
    with pytest.raises(ValueError, match=r"distillation.layers=.* both ascending, as \[\[2,6\],\[4,12\]\]"):
        config_of(Path("teacher"), layers=layers)


def test_without_a_teacher_there_is_nothing_to_find_or_load(shards):
    config = config_of(None, weight=0.0, hidden_weight=0.0, layers=None)
    shard_directory, manifest = ShardDirectory(str(shards)), read_manifest(shards)
    assert find_teacher(config, PLAN, shard_directory, manifest, max_seq_length=24) is None
    assert load_teacher(None, config, Kernels.torch, Precision.fp32, torch.device("cpu")) is None
    assert type(build_model(STUDENT)) is type(student_of(None))

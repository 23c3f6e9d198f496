"""The command line with `model.init_from`: what the model's config.json says, unless the user has a say."""

import json
import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import AutoModelForMaskedLM

from conf.compose import to_dict
from pretrain.check import main as check_command
from pretrain.init_from import compose_run
from tests.continued import model_config, write_model, write_shards_of
from tests.distributed.runs import TINY, engine_overrides
from tests.models import ALBERT, ROBERTA


def command(directory: Path, *overrides: str) -> list[str]:
    return ["shards_dir=S", f"run_dir={directory.parent / 'run'}", f"model.init_from={directory}", *overrides]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    write_model(directory, AutoModelForMaskedLM, model_config(layer_norm_eps=1e-7))
    return directory


@pytest.mark.parametrize("changes", [{}, ROBERTA, ALBERT], ids=["bert", "roberta", "albert"])
def test_architecture_and_sizes_are_those_of_the_model(changes: dict[str, object], tmp_path: Path) -> None:
    config = model_config(layer_norm_eps=1e-7, **changes)
    write_model(tmp_path / "model", AutoModelForMaskedLM, config)
    composed = compose_run(command(tmp_path / "model")).model
    for name in type(config).__dataclass_fields__:
        wanted = None if name == "vocab_size" else getattr(config, name)
        assert getattr(composed, name) == wanted, name
    assert (composed.init_from, composed.extend_vocabulary) == (str(tmp_path / "model"), False)


def test_an_experiments_model_gives_way_and_its_recipe_stays(directory: Path) -> None:
    config = compose_run(command(directory, "experiment=quickstart"))
    assert (config.model.hidden_size, config.model.max_position_embeddings) == (16, 24)
    assert (config.max_steps, config.data.global_batch_size) == (1200, 32)


def test_what_the_weights_do_not_depend_on_may_be_given(directory: Path) -> None:
    given = ("model.hidden_dropout_prob=0.3", "model.initializer_range=0.1", "model.hidden_size=16")
    model = compose_run(
        command(directory, *given, "model.layer_norm_eps=1e-7", "model.max_position_embeddings=48")
    ).model
    assert (model.hidden_dropout_prob, model.initializer_range, model.max_position_embeddings) == (0.3, 0.1, 48)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.hidden_size=32",
            r"model\.hidden_size=32 is not valid: \S+model/config\.json has 16, .*leave the key out",
        ),
        ("model.architecture=roberta", r"model\.architecture='roberta' is not valid: .* has 'bert'"),
        ("model.embedding_size=8", r"model\.embedding_size=8 is not valid: .* has None"),
        ("model.layer_norm_eps=1e-12", r"model\.layer_norm_eps=1e-12 is not valid: .* has 1e-07"),
        ("model.max_position_embeddings=16", r"max_position_embeddings=16 .* has 24 positions: .* or give more"),
        ("model=large", r"model='large' is not valid: leave it out"),
        ("model.hiden_size=3", r"Did you mean model\.hidden_size"),
        ("model.hidden_size=[", r"model\.hidden_size=\[ is not valid: "),
        ("model.hidden_size=${x}", r"model\.hidden_size=\$\{x\} is not valid: .*'x' not found"),
    ],
)
def test_a_key_that_the_model_has_otherwise_is_refused(directory: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_run(command(directory, override))


def test_a_vocabulary_is_extended_of_a_model_that_has_one() -> None:
    with pytest.raises(ValueError, match=r"model\.extend_vocabulary=True is not valid: false without model\.init_from"):
        compose_run(["shards_dir=S", "run_dir=R", "model.extend_vocabulary=true"])


def test_without_a_model_to_begin_with_the_keys_are_as_given() -> None:
    model = compose_run(["shards_dir=S", "run_dir=R", "model=tiny", "model.hidden_size=32"]).model
    assert (model.hidden_size, model.num_hidden_layers, model.init_from) == (32, 2, None)


def test_a_missing_config_is_named_before_anything_starts(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.init_from=\S+none is not a directory"):
        compose_run(command(tmp_path / "none"))
    (tmp_path / "model").mkdir()
    for name in ("vocab.txt", "model.safetensors"):
        (tmp_path / "model" / name).touch()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 16}))
    with pytest.raises(ValueError, match=r"model\.init_from=\S+model: config\.json lacks vocab_size"):
        compose_run(command(tmp_path / "model"))


def test_a_command_is_checked_before_the_queue_with_the_model_and_its_tokenizer(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [*(key for key in TINY if not key.startswith("model")), *engine_overrides(1, "fp32")]
    keys += ["world_size=2", f"run_dir={tmp_path / 'run'}", f"model.init_from={directory}"]
    shards = write_shards_of(tmp_path / "shards")
    assert check_command([*keys, f"shards_dir={shards}"]) == 0
    wanted = f"weights of {directory}: not in it, so drawn from the seed: pooler, pair head\n"
    assert wanted in capsys.readouterr().out
    more = write_shards_of(tmp_path / "more", new_words=["photovoltaik"])
    assert check_command([*keys, f"shards_dir={more}"]) == 2
    said = capsys.readouterr().err
    assert re.match(
        r"error: model\.extend_vocabulary=False is not valid: \S+more has 1 tokens .*, first 'photovoltaik'", said
    )
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("latest", [None, "step-00000003", "step-00000009"])
def test_a_run_with_a_checkpoint_needs_the_directory_no_more(
    directory: Path, tmp_path: Path, latest: str | None
) -> None:
    """`latest` may be missing, or name a tag that is gone, where a kill came between."""
    copy, run_dir = tmp_path / "model", tmp_path / "run"
    shutil.copytree(directory, copy)
    begun = compose_run(command(copy, "model.max_position_embeddings=48"))
    checkpoint = run_dir / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(begun)), run_dir / "config.yaml")
    shutil.rmtree(copy)
    with pytest.raises(ValueError, match="is not a directory"):
        compose_run(command(copy))
    (checkpoint / "COMPLETE.json").touch()
    if latest is not None:
        (run_dir / "checkpoints" / "latest").write_text(f"{latest}\n")
    assert compose_run(command(copy)).model == begun.model

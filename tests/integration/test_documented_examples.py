"""The one example on each page of docs/models and docs/tasks, run as it stands; what the page promises comes out.

The commands of docs/finetune_more.md too, over small files and with a few keys more, and the Python of docs/models.md.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from data_prep.tokenizer import save_tokenizer, wordpiece_tokenizer
from launch.quickstart import EXPORT
from pretrain.config import Kernels
from pretrain.model.bert import BertForPretraining
from tests.finetuned import finetuned, write_files
from tests.finetuning import sentiment_rows, write_csv, write_model
from tests.models import tiny_config
from tests.unit.pretrain.test_export import SPECIAL, WORDS, write_run

ROOT = Path(__file__).resolve().parents[2]


class Made(NamedTuple):
    """What `config.json` of the model that a page makes has, and how its tokenizer cuts a text."""

    config: dict[str, Any]
    text: str
    tokens: list[str]


SMALL = {"model_type": "bert", "vocab_size": 2000, "hidden_size": 64, "num_hidden_layers": 2}
MODELS = {
    "albert": Made(SMALL | {"model_type": "albert", "embedding_size": 128}, "the Run", ["the", "run"]),
    "bert": Made(SMALL, "the Run", ["the", "run"]),
    "bert_chinese": Made({"num_hidden_layers": 2}, "训练 the", ["训", "练", "the"]),
    "bert_multilingual": Made({"num_hidden_layers": 2}, "The 训练", ["The", "训", "练"]),
    "continued_pretraining": Made(
        SMALL | {"vocab_size": 2002, "max_position_embeddings": 1024}, "the Perovskite", ["the", "perovskite"]
    ),
    "distillation": Made(SMALL | {"num_hidden_layers": 6}, "the Run", ["the", "run"]),
    "roberta": Made(SMALL | {"model_type": "roberta"}, "the run", ["the", "Ġrun"]),
}
TASKS = ("classification", "question_answering", "tagging")
ALWAYS = {"bert", "classification"}
"""The pages whose examples the default run has; the others are slow."""


def pages(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((ROOT / "docs" / folder).glob("*.md"))}


def examples(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def run_example(page: Path, folder: Path) -> str:
    """Run the example of a page in a folder; return its standard output."""
    (example,) = examples(page)
    return run_script(example, folder)


def run_script(script: str, folder: Path) -> str:
    """Run a script in a folder by the commands of this Python; return its standard output."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        ["timeout", "--kill-after=20", "500", "bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def english_texts() -> list[str]:
    """Return the sections of the documents of this project: real text that every checkout has."""
    return sections(ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))


def chinese_texts() -> list[str]:
    return sections(ROOT / "README.zh.md")


def sections(*documents: Path) -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(documents)]
    return [section for text in texts for section in re.split(r"^(?=## )", text, flags=re.MULTILINE)]


def write_corpus(name: str, folder: Path) -> None:
    """Write the text files that a page speaks of."""
    corpora = {
        "bert_chinese": {"": chinese_texts()},
        "bert_multilingual": {"en": english_texts(), "zh": chinese_texts()},
    }
    for language, texts in corpora.get(name, {"": english_texts()}).items():
        (folder / language).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / language / f"{number}.txt").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", [*pages("models").values(), *pages("tasks").values()], ids=lambda page: page.stem)
def test_a_page_has_one_example(page):
    assert len(examples(page)) == 1


def test_every_model_and_every_task_has_a_page_and_every_page_is_checked():
    assert pages("models").keys() == MODELS.keys()
    tasks = {path.stem for path in (ROOT / "conf" / "finetune" / "task").glob("*.yaml")}
    assert pages("tasks").keys() == tasks == set(TASKS)


def slow_unless_always(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow_unless_always(MODELS))
def test_the_model_of_a_page_is_what_it_says_and_loads_in_transformers(name, tmp_path):
    if name == "bert_chinese" and find_spec("jieba") is None:
        pytest.skip("pip install 'lambert-pretraining[chinese]'")
    page = pages("models")[name]
    write_corpus(name, tmp_path / "corpus")
    run_example(page, tmp_path)
    (example,) = examples(page)
    exported = tmp_path / re.findall(r"pretrain\.export .*output_dir=(\S+)", example)[-1]
    config = AutoConfig.from_pretrained(exported)
    made = MODELS[name]
    assert {key: getattr(config, key) for key in made.config} == made.config
    (exports_to,) = re.findall(r"^\| exports to \|(.*)\|$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", exports_to)[0] == config.architectures[0]
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.tokenize(made.text) == made.tokens
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(exported).eval()(**tokenizer(made.text, return_tensors="pt"))[0]
    assert hidden.shape == (1, len(made.tokens) + 2, config.hidden_size)
    assert hidden.isfinite().all()


@pytest.mark.parametrize("name", slow_unless_always(TASKS))
def test_the_task_of_a_page_learns_from_the_quick_starts_model_and_predicts(name, tmp_path):
    write_model(tmp_path / EXPORT, max_position_embeddings=128)  # as many as that model has
    printed = run_example(pages("tasks")[name], tmp_path)
    (results,) = tmp_path.rglob("results.json")
    assert json.loads(results.read_text(encoding="utf-8"))["seeds"][0]["scores"]["eval"]
    check_prediction(name, json.loads(printed.splitlines()[-1]))


def check_prediction(task: str, record: dict[str, Any]) -> None:
    """Fail unless a record has what the page of its task shows of it."""
    if task == "classification":
        assert record["predicted"] in record["probabilities"]
        assert sum(record["probabilities"].values()) == pytest.approx(1.0)
    elif task == "tagging":
        assert len(record["predicted"]) == len(record["words"]) > 1
        assert isinstance(record["entities"], list)
    else:
        assert record["predicted"]
        assert record["end"] - record["start"] == len(record["predicted"])


def commands(section: str) -> str:
    """Return the first indented lines of a section of docs/finetune_more.md, but for what they install."""
    text = (ROOT / "docs" / "finetune_more.md").read_text(encoding="utf-8").split(f"\n## {section}", 1)[1]
    found = re.search(r"^(?: {4}.*\n)+", text, flags=re.MULTILINE)
    assert found is not None
    return "".join(line for line in found[0].splitlines(keepends=True) if not line.startswith("    pip install "))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the commands of docs/finetune_more.md name."""
    write_model(tmp_path / "models" / "base")
    for name in ("train", "dev", "test"):
        write_csv(tmp_path / f"{name}.csv", sentiment_rows(8))
    return tmp_path


SHORT = "training.max_steps=2 training.global_batch_size=4 training.micro_batch_size=4 evaluation.every=2"


@pytest.mark.slow
def test_the_commands_of_prediction_predict(tmp_path):
    write_files(tmp_path)
    write_csv(tmp_path / "texts.csv", [(text,) for text, _ in sentiment_rows(5)], header="text")
    for task, name in (("classification", "topics"), ("tagging", "entities")):
        model = finetuned(tmp_path, task)
        shutil.copytree(model, tmp_path / "runs" / name / "seed-0" / "model")
    printed = run_script(commands("Prediction"), tmp_path)
    assert len((tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    record = json.loads(printed.splitlines()[-1])
    assert record["words"] == ["Anna", "saw", "the", "harbour", "."]
    check_prediction("tagging", record)


@pytest.mark.slow
def test_the_command_of_adapters_writes_a_plain_model_and_an_adapter(checkout):
    run_script(f"{commands('Adapters').rstrip()} {SHORT}", checkout)
    made = checkout / "runs" / "lora" / "seed-0"
    assert json.loads((made / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))["r"] == 8
    assert AutoConfig.from_pretrained(made / "model").architectures == ["BertForSequenceClassification"]


@pytest.mark.slow
def test_the_command_of_search_tries_values(checkout):
    run_script(f"{commands('Search').rstrip()} hydra.sweeper.n_trials=2 {SHORT}", checkout)
    found = json.loads((checkout / "runs" / "search" / "search.json").read_text(encoding="utf-8"))
    assert len(found["trials"]) == 2


@pytest.mark.slow
def test_the_command_of_comparison_compares_checkpoints_with_random_weights(checkout):
    save_tokenizer(wordpiece_tokenizer(SPECIAL + WORDS, lowercase=True, source="the test"), checkout / "tokenizer")
    config = tiny_config(vocab_size=len(SPECIAL + WORDS), num_hidden_layers=2)
    write_run(checkout / "runs" / "base", config, checkout / "tokenizer", steps=(10_000, 50_000, 100_000))
    run_script(f"{commands('Comparison').rstrip()} {SHORT}", checkout)
    found = json.loads((checkout / "runs" / "compare" / "compare.json").read_text(encoding="utf-8"))
    assert (checkout / "runs" / "compare" / "compare.png").is_file()
    assert {"10000", "50000", "100000"} <= set(re.findall(r"\d+", json.dumps(found)))


def test_the_python_of_the_models_page_reads_a_model_of_transformers(tmp_path):
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), re.M | re.S
    )
    folder = write_model(tmp_path / "model")
    names: dict[str, Any] = {
        "values": json.loads((folder / "config.json").read_text(encoding="utf-8")),
        "tensors": load_file(folder / "model.safetensors"),
    }
    exec(example, names)
    model = BertForPretraining(names["config"], Kernels.torch, with_pairs=True)
    model.load_state_dict(names["weights"])

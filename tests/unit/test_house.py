"""The rules of the house that a reviewer would otherwise have to remember."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("conf", "data_prep", "pretrain", "finetune")
ALL_OURS = (*PACKAGES, "launch", "benchmarks")
CONTRACT = {
    "data_prep.atomic_file",
    "data_prep.manifest",
    "data_prep.masking",
    "data_prep.seeds",
    "data_prep.shard_format",
}
MAX_LINES, MAX_MEDIAN_LINES = 300, 120


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_of(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", sources("data_prep"), ids=module_name)
def test_data_prep_knows_no_torch_and_no_trainer(path):
    assert not [module for module in imports(path) if is_of(module, "torch", "pretrain", "finetune", "deepspeed")]


@pytest.mark.parametrize("path", sources("pretrain"), ids=module_name)
def test_the_trainer_knows_only_the_contract_of_data_prep(path):
    of_data_prep = {module for module in imports(path) if is_of(module, "data_prep")}
    assert {module for module in of_data_prep if not is_of(module, *CONTRACT)} == set()


@pytest.mark.parametrize("path", sources("finetune"), ids=module_name)
def test_fine_tuning_knows_neither_data_prep_nor_the_trainer(path):
    assert not [module for module in imports(path) if is_of(module, "data_prep", "pretrain", "deepspeed")]


@pytest.mark.parametrize("path", sources("conf", "data_prep", "pretrain"), ids=module_name)
def test_nothing_that_comes_before_it_knows_fine_tuning(path):
    assert not [module for module in imports(path) if is_of(module, "finetune", "peft")]


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_the_contract_needs_numpy_and_the_standard_library_only(name):
    allowed = {"numpy", "data_prep", *sys.stdlib_module_names}
    path = ROOT / (name.replace(".", "/") + ".py")
    assert {module.partition(".")[0] for module in imports(path)} <= allowed
    assert {module for module in imports(path) if is_of(module, "data_prep") and not is_of(module, *CONTRACT)} == set()


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("deepspeed", ("pretrain.engine", "pretrain.optim.fragments", "pretrain.checkpoint", "pretrain.doctor")),
        ("wandb", ("pretrain.track", "finetune.training")),
        ("tensorboard", ("pretrain.track",)),
        ("torch.utils.tensorboard", ("pretrain.track",)),
        ("apex", ("pretrain.model.kernels",)),
        ("hydra", ("conf.compose", "conf.sweep")),
        ("seqeval", ("finetune.classes", "finetune.metrics", "finetune.tasks.tagging")),
        ("sklearn", ("finetune.classes", "finetune.metrics")),
        ("peft", ("finetune.adapters",)),
        ("optuna", ("finetune.trials",)),
    ],
)
def test_a_library_is_imported_in_its_own_place_only(library, places):
    elsewhere = [
        module_name(path)
        for path in sources(*PACKAGES)
        if any(is_of(module, library) for module in imports(path)) and not is_of(module_name(path), *places)
    ]
    assert elsewhere == []


def test_package_init_files_are_empty():
    assert [path for path in sources(*ALL_OURS) if path.name == "__init__.py" and path.read_text()] == []


def test_no_file_has_grown_two_duties_and_none_is_named_after_nothing():
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*ALL_OURS) if path.stat().st_size}
    assert {path.name: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= MAX_MEDIAN_LINES
    assert {path.stem for path in lengths} & {"utils", "util", "helpers", "helper", "common", "misc"} == set()


def test_importing_any_module_does_no_work():
    """No logging set-up, no argument parsing, no CUDA probe, no compiler: fifty imports in one fresh process."""
    names = [module_name(path) for path in sources(*PACKAGES) if path.name not in ("__init__.py", "__main__.py")]
    code = (
        "import importlib, logging, sys, threading, torch\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert not logging.getLogger().handlers, 'a module set up logging'\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert threading.active_count() == 1, 'a module started a thread'\n"
    )
    assert run_code(code) == ""


def test_the_trainer_starts_without_what_it_may_not_need():
    slow = {"deepspeed", "wandb", "tensorboard", "transformers", "matplotlib"}
    assert run_code(f"import sys, pretrain.__main__; print({slow!r} & set(sys.modules))") == "set()\n"


def run_code(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout

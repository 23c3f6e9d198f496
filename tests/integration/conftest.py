"""A prepared shard directory that tests look at and never change."""

from pathlib import Path

import pytest

from data_prep.__main__ import main

from .prep_runs import arguments, write_corpus


@pytest.fixture(scope="package")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "docs")


@pytest.fixture(scope="package")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("prepared") / "shards"
    assert main(arguments(corpus, output_dir)) == 0
    return output_dir

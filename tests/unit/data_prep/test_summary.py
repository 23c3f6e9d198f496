import pytest

from conf.compose import compose
from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile
from data_prep.plan import make_plan
from data_prep.summary import describe_plan

TWO_ENGLISH = (
    "corpus.sources=[{name: news, paths: [a], language: en}, {name: zh, paths: [b], language: zh}, "
    "{name: web, paths: [c], language: en}]"
)


def plan_of(*overrides: str) -> str:
    config = compose("data_prep", DataPrepConfig, ["output_dir=O", "corpus.format=text", *overrides])
    formats = [source.format for source in config.corpus.each_source()]
    plan = make_plan(
        [CorpusFile(path="a.txt", size=10, version="")],
        formats,
        task_bytes=1000,
        bucket_bytes=1000,
        held_out_fraction=0.1,
    )
    return describe_plan(plan, config)


def test_two_sources_of_a_language_are_a_warning_where_sources_are_weighed_by_an_exponent():
    warning = "warning    corpus.exponent=0.7 weighs each source by itself, and news, web are all of language=en: "
    (line,) = (line for line in plan_of(TWO_ENGLISH, "corpus.exponent=0.7").splitlines() if "language" in line)
    assert line.startswith(warning)


@pytest.mark.parametrize(
    ("sources", "exponent"),
    [
        (TWO_ENGLISH, "null"),
        (TWO_ENGLISH, "1"),
        (TWO_ENGLISH.replace("name: web, paths: [c], language: en", "name: de, paths: [c], language: de"), "0.7"),
        (TWO_ENGLISH.replace(", language: en", ""), "0.7"),
    ],
)
def test_nothing_is_said_where_languages_are_weighed_as_asked(sources, exponent):
    assert "warning" not in plan_of(sources, f"corpus.exponent={exponent}")

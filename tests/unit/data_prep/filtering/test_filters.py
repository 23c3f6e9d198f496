import pickle
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pytest
from datatrove.data import Document

from conf.compose import compose
from data_prep.buckets import Buckets
from data_prep.config import DataPrepConfig
from data_prep.filter_config import FilterConfig
from data_prep.filtering.filters import FilterStep, make_filters
from data_prep.plan import Plan
from data_prep.work_dir import tokens_key
from tests.unit.data_prep.example_shards import data_prep_config

PROSE = (
    "The harbour of the old town is deep, and ships that come from the north lie there until the wind turns. "
    "Most of the people have seen a storm that kept them at home with their families for more than a week. "
    "They mend nets, bake bread and tell stories of the men who built the first wall of stone to hold the sea back. "
    "One of these stories is about a girl. She counted waves and knew when the next great flood would be. "
    "Nobody wrote her name down, but a street of the town still carries it to this day."
)
REPEATED = "The same line of the song is sung again and again.\n" * 12
LIST = "\n".join(f"- item {number}" for number in range(40))
BRACKETS = PROSE + " function() { return }"


def filters_of(*filters: str) -> list[FilterConfig]:
    arguments = ["output_dir=out", "corpus.paths=[x]", "corpus.format=text", f"corpus.filters=[{','.join(filters)}]"]
    return compose("data_prep", DataPrepConfig, arguments).corpus.filters


def run(step: FilterStep, *texts: str) -> list[str]:
    return [document.text for document in step.run(Document(text=text, id="") for text in texts)]


@pytest.mark.parametrize(
    ("one", "left_out"),
    [
        ("{name: gopher_quality}", LIST),
        ("{name: gopher_quality, options: {min_doc_words: 500}}", PROSE + " And so on."),
        ("{name: gopher_repetition}", REPEATED),
        ("{name: gopher_repetition, options: {dup_n_grams: [[5, 0.0]], dup_line_frac: null}}", PROSE + PROSE),
        ("{name: fineweb_quality}", LIST),
        ("{name: fineweb_quality, options: {stop_chars: ['.', '?'], line_punct_thr: 0.9}}", PROSE[:-1]),
        ("{name: c4_quality}", BRACKETS),
        ("{name: c4_paragraph}", LIST),
        ("{name: regex, options: {regex_exp: 'lorem ipsum'}}", PROSE + " lorem ipsum"),
    ],
)
def test_each_filter_leaves_out_what_it_should(one: str, left_out: str) -> None:
    step = FilterStep(filters_of(one), "en")
    longer = "\n".join([PROSE.replace("town", town) for town in ("town", "city", "place")])
    passing = [longer] if "c4_paragraph" in one else [] if "500" in one else [PROSE]
    assert run(step, *passing, left_out) == passing
    (count,) = (count for name, count in step.counts.items() if name.startswith("dropped_by_"))
    assert (count, step.counts["documents"]) == (1, 1)


def test_each_document_is_counted_by_the_first_filter_it_fails_and_counts_are_of_one_task() -> None:
    step = FilterStep(filters_of("{name: gopher_quality}", "{name: regex, options: {regex_exp: girl}}"), "en")
    for _ in range(2):
        assert run(step, LIST, PROSE, "girl", PROSE.replace("girl", "boy")) == [PROSE.replace("girl", "boy")]
        assert step.counts == {"documents": 3, "dropped_by_gopher_quality": 2, "dropped_by_regex": 1}


def test_documents_are_clean_before_the_first_filter_and_after_the_last() -> None:
    step = FilterStep(filters_of("{name: regex, options: {regex_exp: '\u200b|x  y'}}"), "en")
    assert run(step, "so\u200bft  x \t y\r\n") == ["soft x y"]
    step = FilterStep(filters_of("{name: c4_quality, options: {min_num_sentences: 1}}"), "en")
    assert run(step, "A sentence [1] with a note.\nHome | About\nA second one, of five words.") == [
        "A sentence with a note.\nA second one, of five words."
    ]


def test_empty_documents_pass_for_scatter_counts_them() -> None:
    step = FilterStep(filters_of("{name: gopher_quality, options: {min_doc_words: null}}"), "en")
    assert run(step, "", " \u200b ") == ["", ""]
    assert not step.counts


def test_a_step_survives_the_way_to_a_worker() -> None:
    filters = filters_of("{name: gopher_quality}", "{name: c4_quality}", "{name: regex, options: {regex_exp: xyz+}}")
    assert run(pickle.loads(pickle.dumps(FilterStep(filters, "en"))), PROSE, LIST) == [PROSE]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (
            "{name: gopher_quality, options: {min_words: 3}}",
            r"corpus\.filters\.0\.options\.min_words=3 is not valid: gopher_quality takes min_doc_words, ",
        ),
        ("{name: c4_paragraph, options: {min_paragraphs: 3}}", r"min_paragraphs=3 .* c4_paragraph takes no options"),
        ("{name: regex, options: {exclusion_writer: x}}", r"regex takes regex_exp$"),
        ("{name: regex}", r"corpus\.filters\.0\.options=\{\} is not valid: regex needs regex_exp"),
        ("{name: regex, options: {regex_exp: '('}}", r"corpus\.filters\.0: regex cannot run with .*'\('.*unterminated"),
        ("{name: gopher_quality, options: {min_doc_words: many}}", r"cannot run with options=.*many.*not supported"),
        ("{name: gopher_quality, options: {language: klingon}}", r"cannot run with .*klingon.* tokenizer assigned"),
    ],
)
def test_wrong_options_are_refused_by_place_with_those_that_exist(one: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_filters(filters_of(one), "en")


def test_an_unknown_filter_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"gopher.*c4_paragraph, c4_quality, fineweb_quality"):
        filters_of("{name: gopher}")


@pytest.mark.skipif(find_spec("kiwipiepy") is not None, reason="datatrove's Korean tokenizer is installed here")
def test_a_language_whose_tokenizer_is_missing_is_refused_with_the_package() -> None:
    one = "{name: fineweb_quality, options: {language: ko}}"
    with pytest.raises(ValueError, match=r"corpus\.filters\.0: .*pip install kiwipiepy.*options\.language out"):
        make_filters(filters_of(one), "en")


@pytest.mark.parametrize(("options", "redone"), [("", False), (", options: {language: ko}", True)])
def test_another_release_of_a_word_tokenizer_means_new_work_if_a_filter_may_call_it(
    options: str, redone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for release in ("1.0", "2.0", None):

        def release_of(package: str, release: str | None = release) -> str:
            if package == "kiwipiepy" and release is None:
                raise PackageNotFoundError(package)
            return str(release) if package == "kiwipiepy" else version(package)

        monkeypatch.setattr("data_prep.work_dir.version", release_of)
        config = data_prep_config(f"corpus.filters=[{{name: gopher_quality{options}}}]")
        plan = Plan(
            buckets=Buckets(train=1, held_out=0, held_out_fraction=0.0), buckets_per_group=1, tasks=[], corpus_bytes=0
        )
        keys.append(tokens_key(config, [], plan, "sha"))
    assert len(set(keys)) == (3 if redone else 1)

import pytest

from conf.compose import compose
from data_prep.config import DataPrepConfig
from tests.unit.data_prep.example_shards import data_prep_config


@pytest.mark.parametrize(("max_seq_length", "wanted"), [(128, 20), (512, 77)])
def test_the_default_number_of_predictions_is_that_of_google_research_bert(max_seq_length: int, wanted: int) -> None:
    config = data_prep_config(f"sequence.max_seq_length={max_seq_length}")
    assert config.masking.max_predictions_per_seq == wanted


def test_a_number_of_predictions_that_is_given_stays() -> None:
    assert data_prep_config("masking.max_predictions_per_seq=7").masking.max_predictions_per_seq == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("masking.max_predictions_per_seq=0", "at least 1, or null"),
        ("masking.max_ngram=0", "between 1 .off. and 16"),
        ("masking.max_ngram=17", "between 1 .off. and 16"),
        ("shards.block_size=0", "between 1 and 65536 sequences"),
        ("shards.block_size=65537", "between 1 and 65536 sequences"),
        ("executor.work_dir=s3://bucket/work", "a local folder, or null"),
        ("tokenizer.vocab_size=63", "at least 64 with tokenizer.kind=wordpiece"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(override: str, message: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(ValueError, match=message) as caught:
        compose("data_prep", DataPrepConfig, ["output_dir=a", "corpus.paths=[b]", "corpus.format=text", override])
    assert key in str(caught.value)
    assert value in str(caught.value)


def test_each_kind_of_tokenizer_has_the_size_and_case_of_its_published_one() -> None:
    wordpiece, byte_bpe = (data_prep_config(f"tokenizer.kind={kind}").tokenizer for kind in ("wordpiece", "byte_bpe"))
    assert (wordpiece.vocab_size, wordpiece.lowercase) == (30522, True)
    assert (byte_bpe.vocab_size, byte_bpe.lowercase) == (50265, False)
    given = data_prep_config("tokenizer.lowercase=false", "tokenizer.vocab_size=1000").tokenizer
    assert (given.vocab_size, given.lowercase) == (1000, False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokenizer.lowercase=true", "tokenizer.lowercase=True .* false or null with tokenizer.kind=byte_bpe"),
        ("tokenizer.vocab_size=260", "tokenizer.vocab_size=260 .* at least 261 with tokenizer.kind=byte_bpe"),
        ("sentences.word_segmenter=jieba", "sentences.word_segmenter='jieba' .* null with tokenizer.kind=byte_bpe"),
    ],
)
def test_what_a_byte_level_vocabulary_cannot_do_is_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_prep_config("tokenizer.kind=byte_bpe", override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokenizer.vocab_file=null", "tokenizer.vocab_file=None .* a tokenizer.json: data_prep trains wordpiece and"),
        ("tokenizer.lowercase=true", "null with tokenizer.kind=unigram, whose tokenizer.json says it"),
        ("tokenizer.add_words_file=w", "null with tokenizer.kind=unigram: only wordpiece takes new words"),
        ("sentences.word_segmenter=jieba", "null with tokenizer.kind=unigram, whose tokens are no single characters"),
    ],
)
def test_what_a_unigram_vocabulary_cannot_do_is_refused(override: str, message: str) -> None:
    given = ["tokenizer.kind=unigram", "tokenizer.vocab_file=tokenizer.json"]
    data_prep_config(*given)
    with pytest.raises(ValueError, match=message):
        data_prep_config(*given, override)

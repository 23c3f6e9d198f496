from hypothesis import given, settings

from data_prep.token_text import ShownToken, byte_token_units, token_bytes, unigram_units
from tests.unit.data_prep.example_byte_bpe import STRINGS, byte_bpe


def read(tokens: list[ShownToken]) -> str:
    return "".join(byte_token_units(tokens))


def shown(*tokens: str | tuple[str, str]) -> list[ShownToken]:
    return [ShownToken(token, None) if isinstance(token, str) else ShownToken(*token) for token in tokens]


@given(STRINGS)
@settings(max_examples=200)
def test_the_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    tokenizer = byte_bpe()
    tokens = tokenizer.encode(text.replace("<", ""), add_special_tokens=False).tokens
    assert b"".join(map(token_bytes, tokens)) == text.replace("<", "").encode()


def test_byte_tokens_read_as_text_with_special_ones_apart() -> None:
    tokens = shown("<s>", "The", "Ġwalk", "ers", ".", "Ġä½łå¥½", "</s>", "ä¸ĸ", "çķ", "Į", "ï¼Į", "Ġ", "</s>")
    assert read(tokens) == " <s> The walkers. 你好 </s> 世界， </s>"


def test_a_masked_byte_token_has_the_space_of_the_one_to_predict() -> None:
    tokens = shown(
        "<s>", ("<mask>", "The"), ("<mask>", "Ġwalk"), ("Ġsay", "ers"), ("in", "Ġä½łå¥½"), "Ġ.", ("<mask>", "Ġ")
    )
    assert read(tokens) == " <s> <mask>{The} <mask>{walk}say{ers} in{你好} . <mask>{␣}"


def test_bytes_that_make_no_character_are_shown_as_numbers() -> None:
    assert read(shown("ä¸", ("<mask>", "ĸ"), "çķĮ", "<id 7>")) == r"\xe4\xb8<mask>{\x96}界<id 7>"


def test_lines_break_between_words_and_chinese_characters_and_never_in_a_masked_token() -> None:
    tokens = shown("The", "Ġwalk", "ers", "Ġä½łå¥½", ("<mask>", "ä¸ĸ"), "çķĮ", "ï¼Į")
    assert byte_token_units(tokens) == ["The", " walkers", " 你", "好", "<mask>{世}", "界", "，"]


def test_unigram_pieces_read_as_words_with_special_and_masked_ones_apart() -> None:
    tokens = shown(
        "[CLS]",
        "▁the",
        "▁walk",
        "ers",
        ".",
        ("[MASK]", "▁ship"),
        ("▁oar", "s"),
        "!",
        "[SEP]",
        "▁",
        "<unk>",
        "s",
        "[SEP]",
    )
    assert "".join(unigram_units(tokens)) == " [CLS] the walkers. [MASK]{ship}oar{s}! [SEP] <unk>s [SEP]"
    assert unigram_units(shown("ers", ("[MASK]", "▁"))) == [" ers", " [MASK]{␣}"]

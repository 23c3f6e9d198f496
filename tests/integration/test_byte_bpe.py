"""The whole command with RoBERTa's settings, as docs/data_prep.md gives it: what it makes, shows and refuses."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer, RobertaTokenizer

from data_prep.__main__ import main
from data_prep.audit import main as audit
from data_prep.manifest import read_manifest
from data_prep.show import main as show
from pretrain.data.reader import ShardDirectory

from .prep_runs import contents

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "data_prep.md"


def documented_keys(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    """Return the keys of the document's RoBERTa command, with its places, sizes and format replaced by the test's."""
    blocks = re.findall(r"```bash\n(python -m data_prep .*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = [block for block in blocks if "byte_bpe" in block]
    replaced = ("output_dir", "corpus.paths", "sequence.max_seq_length")
    keys = [word for word in shlex.split(block.replace("\\\n", " ")) if "=" in word and not word.startswith(replaced)]
    return [*keys, f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", "sequence.max_seq_length=64",
            "held_out_fraction=0.2", "executor.bucket_bytes=12000", *more]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir: Path = tmp_path_factory.mktemp("byte_bpe") / "shards"
    assert main(documented_keys(corpus, output_dir)) == 0
    return output_dir


def test_shards_of_full_sentences_for_dynamic_masks_are_sound_and_their_tokenizer_is_robertas(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    assert (manifest.config["pairs"]["kind"], manifest.config["masking"]["kind"]) == ("none", "dynamic")
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")
    assert isinstance(tokenizer, RobertaTokenizer)
    told = manifest.tokenizer
    assert (told.cls_id, told.pad_id, told.sep_id, told.unk_id, told.mask_id) == (0, 1, 2, 3, len(tokenizer) - 1)
    assert told.vocab_size == len(tokenizer)
    assert {path.name for path in (prepared / "tokenizer").iterdir()} == set(manifest.tokenizer_files)
    assert audit([str(prepared)]) == 0


def test_a_run_takes_the_tokenizer_with_it(prepared: Path, tmp_path: Path) -> None:
    directory = ShardDirectory(str(prepared))
    directory.copy_tokenizer(directory.read_manifest(), tmp_path / "run")
    assert contents(tmp_path / "run") == contents(prepared / "tokenizer")


def test_instances_are_shown_as_text(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show([str(prepared), "--instances", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r" A <s> [A-Z].*\. [A-Z].* people .*\. </s> Number \d+ here\. ", shown)
    assert "Ġ" not in shown


def test_chinese_is_shown_as_text_with_whole_words_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    sentences = [
        "话说天下大势，分久必合，合久必分。",
        "周末七国分争，并入于秦。",
        "及秦灭之后，楚、汉分争，又并入于汉。",
    ]
    lines = [f'{{"text": "第{number}回。{"".join(sentences[number % 3 :] + sentences)}"}}\n' for number in range(30)]
    (tmp_path / "docs" / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    more = ["sentences.language=zh", "masking.kind=static", "masking.whole_word=true", "masking.max_ngram=2"]
    assert main(documented_keys(tmp_path / "docs", tmp_path / "shards", *more)) == 0
    assert audit([str(tmp_path / "shards")]) == 0
    capsys.readouterr()
    assert show([str(tmp_path / "shards"), "--instances", "20"]) == 0
    shown = capsys.readouterr().out
    assert "合久必分。" in shown
    assert re.search(r"<mask>\{\S+\}", shown)
    assert not re.search(r"[Ġçåæ]", shown)


@pytest.mark.parametrize("more", [["executor.workers=2", "executor.task_bytes=3000"], ["masking.whole_word=true"]])
def test_any_number_of_workers_gives_the_same_bytes_and_whole_words_are_marked(
    corpus: Path, prepared: Path, tmp_path: Path, more: list[str]
) -> None:
    assert main(documented_keys(corpus, tmp_path / "shards", *more)) == 0
    if "masking.whole_word=true" in more:
        assert audit([str(tmp_path / "shards")]) == 0
    else:
        assert contents(tmp_path / "shards") == contents(prepared)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_the_saved_vocabulary_gives_the_same_shards(corpus: Path, prepared: Path, tmp_path: Path, name: str) -> None:
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / name}"
    assert main(documented_keys(corpus, tmp_path / "shards", vocabulary)) == 0
    found, wanted = contents(tmp_path / "shards"), contents(prepared)
    assert {file for file in found if found[file] != wanted.get(file)} == {"manifest.json"}


def test_a_lost_file_of_the_tokenizer_is_written_again(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "shards"
    shutil.copytree(prepared, output_dir)
    (output_dir / "tokenizer" / "merges.txt").unlink()
    assert main(documented_keys(corpus, output_dir)) == 0
    output = capsys.readouterr().out
    assert "has lost tokenizer/merges.txt" in output
    assert "vocabulary: already trained" in output
    assert contents(output_dir) == contents(prepared)


def test_another_kind_is_refused_in_a_finished_directory_and_reuses_no_tokens_in_a_common_work_dir(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(documented_keys(corpus, prepared, "tokenizer.kind=wordpiece")) == 2
    assert "tokenizer.kind is 'byte_bpe' there and 'wordpiece' here" in capsys.readouterr().err
    work = f"executor.work_dir={tmp_path / 'work'}"
    shutil.copytree(prepared / ".work", tmp_path / "work")
    size = "tokenizer.vocab_size=300"
    assert main(documented_keys(corpus, tmp_path / "pieces", work, "tokenizer.kind=wordpiece", size)) == 0
    output = capsys.readouterr().out
    assert "already" not in output
    assert main(documented_keys(corpus, tmp_path / "bytes", work)) == 0
    assert "scatter: 1 of 1 tasks are already done" in capsys.readouterr().out
    assert contents(tmp_path / "bytes") == contents(prepared)


def test_an_interrupted_run_of_another_kind_leaves_no_file(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "shards"
    assert main(documented_keys(corpus, output_dir, "tokenizer.kind=wordpiece", "tokenizer.vocab_size=300")) == 0
    (output_dir / "manifest.json").unlink()
    assert main(documented_keys(corpus, output_dir)) == 0
    assert contents(output_dir) == contents(prepared)

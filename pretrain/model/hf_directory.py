"""Our weights -> a model directory of transformers, reloaded and compared before it gets its name."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

from conf.checks import require_vacant
from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.model.bert import BertForPretraining, PretrainingLogits
from pretrain.model.hf_weights import to_huggingface, to_huggingface_config
from pretrain.model_config import ModelConfig

TOLERANCE = 1e-4
"""Largest logit difference to transformers, relative to the largest logit (or to 1), in fp32.

Models with random weights are tested to 1e-5; trained ones are larger and round more, and no good one may be refused.
"""

PROBE_TEXTS = (
    ("The ship left the harbour at dawn.", "Nobody saw it again."),
    ("Parameters are optional unless the request says otherwise, in which case 400 is returned.", "See below."),
    ("In 1969, 12 people applied; 3 were accepted – Zoë, José and 李雷.", "¿Por qué?"),
    ("第一回 宴桃园豪杰三结义 斩黄巾英雄首立功。", "话说天下大势，分久必合，合久必分。"),
)
"""Pairs of different lengths in several scripts; the logits of all their tokens are compared."""


def export_model(
    weights: Mapping[str, Tensor], config: ModelConfig, tokenizer_dir: Path, output_dir: Path, card: str
) -> float:
    """Write config, weights, tokenizer and `card` (the README) to `output_dir`; return the largest logit difference.

    `weights` are our model's, fp32, by parameter name. With a pair head the directory is a `BertForPreTraining` or
    `AlbertForPreTraining`, else a `BertForMaskedLM`, `RobertaForMaskedLM` or `AlbertForMaskedLM`. It is written and
    checked under a temporary name, then renamed. Raises ValueError when `output_dir` holds something, when weights are
    not finite, and when weights or tokenizer do not fit the config; RuntimeError when transformers computes other
    logits than our model, or makes other tokens than the tokenizer.
    """
    require_vacant("output_dir", output_dir)
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{len(broken)} parameters hold NaN or infinity, {broken[0]} first: export an earlier tag")
    temporary = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.tmp")
    try:
        _write(weights, config, tokenizer_dir, temporary, card)
        difference = _compare(weights, config, temporary)
        temporary.replace(output_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return difference


def _write(weights: Mapping[str, Tensor], config: ModelConfig, tokenizer_dir: Path, directory: Path, card: str) -> None:
    _write_tokenizer(config, tokenizer_dir, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    largest_id = max(tokenizer.get_vocab().values())
    if config.vocab_size is None or largest_id >= config.vocab_size:
        raise ValueError(
            f"model.vocab_size={config.vocab_size} is not valid: the tokenizer in {tokenizer_dir} has ids up to "
            f"{largest_id}; export with the tokenizer that the run was trained with"
        )
    pad_id = tokenizer.pad_token_id
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = _auto_class(weights).from_config(AutoConfig.for_model(**to_huggingface_config(config, pad_id), **ends))
    try:
        model.load_state_dict(to_huggingface(weights, config.architecture, pad_id))
    except RuntimeError as error:
        reasons = str(error).splitlines()[1:]
        raise ValueError(
            f"the weights are not those of the model config ({len(reasons)} differences): {reasons[0].strip()}"
        ) from error
    model.save_pretrained(directory)
    (directory / "README.md").write_text(card, encoding="utf-8")


def _write_tokenizer(config: ModelConfig, tokenizer_dir: Path, directory: Path) -> None:
    if not (tokenizer_dir / "tokenizer.json").is_file():
        raise ValueError(f"{tokenizer_dir} has no tokenizer.json: it is not a tokenizer folder; copy the shards' one")
    shutil.copytree(tokenizer_dir, directory)
    settings_file = directory / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8")) if settings_file.is_file() else {}
    # Without it transformers truncates nothing, and a long text indexes past the position embeddings.
    settings["model_max_length"] = config.max_position_embeddings
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    settings["model_input_names"] = [name for name in inputs if config.type_vocab_size > 1 or name != "token_type_ids"]
    settings_file.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _auto_class(weights: Mapping[str, Tensor]) -> Any:
    """Return what loads the transformers class of these weights: with a pair head, or for masked tokens alone."""
    return AutoModelForPreTraining if _has_pairs(weights) else AutoModelForMaskedLM


def _has_pairs(weights: Mapping[str, Tensor]) -> bool:
    return "nsp_head.weight" in weights


def _compare(weights: Mapping[str, Tensor], config: ModelConfig, directory: Path) -> float:
    """Return the largest absolute logit difference between our model and what transformers loads, on real text."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    _compare_tokens(tokenizer, Tokenizer.from_file(str(directory / "tokenizer.json")))
    firsts, seconds = zip(*PROBE_TEXTS, strict=True)
    encoded = tokenizer(list(firsts), list(seconds), padding=True, truncation=True, return_tensors="pt")
    ours = BertForPretraining(config, Kernels.torch, with_pairs=_has_pairs(weights)).eval()
    ours.load_state_dict(weights)
    theirs = _auto_class(weights).from_pretrained(directory).eval()
    with torch.no_grad():
        logits = ours(to_flat_batch(encoded))
        expected = _logits_of(theirs(**encoded), encoded["attention_mask"].bool())
    heads = [(logits.mlm_logits, expected.mlm_logits), (logits.nsp_logits, expected.nsp_logits)]
    pairs = [(a, b) for a, b in heads if a is not None and b is not None]
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(1.0, max(float(b.abs().max()) for _, b in pairs))
    if not difference <= TOLERANCE * largest:
        raise RuntimeError(
            f"transformers computes other logits than our model: they differ by {difference:.3g}, the largest is "
            f"{largest:.3g}; nothing was exported. Please report this with the versions of torch and transformers"
        )
    return difference


def _compare_tokens(loaded: Any, tokenizer: Tokenizer) -> None:
    """Raise RuntimeError unless what transformers makes of the folder cuts texts as the shards' tokenizer does."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for first, second in PROBE_TEXTS:
        ours, theirs = tokenizer.encode(first, second).ids, loaded(first, second)["input_ids"]
        if ours != theirs:
            raise RuntimeError(
                f"transformers' {type(loaded).__name__} makes other tokens of {first!r} than tokenizer.json: "
                f"{theirs} for {ours}; nothing was exported. Please report this with the version of transformers"
            )


def _logits_of(output: Any, real: Tensor) -> PretrainingLogits:
    """Return transformers' logits in our form: those of real tokens, [tokens, vocab_size], and of pairs."""
    if "prediction_logits" not in output:
        return PretrainingLogits(output.logits[real], None)
    pairs = output.sop_logits if "sop_logits" in output else output.seq_relationship_logits
    return PretrainingLogits(output.prediction_logits[real], pairs)


def to_flat_batch(encoded: Mapping[str, Tensor]) -> MicroBatch:
    """Return the flat batch of a padded one, tensors [instances, length]; every token counts as masked.

    Without `token_type_ids` every token is of segment A.
    """
    real = encoded["attention_mask"].bool()
    lengths = real.sum(1)
    input_ids = encoded["input_ids"][real]
    types = encoded["token_type_ids"][real] if "token_type_ids" in encoded else torch.zeros_like(input_ids)
    return MicroBatch(
        input_ids=input_ids,
        token_type_ids=types,
        position_ids=torch.arange(real.shape[1]).expand_as(real)[real],
        cu_seqlens=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int(),
        instance_lengths=tuple(lengths.tolist()),
        masked_positions=torch.arange(len(input_ids)),
        masked_lm_ids=input_ids,
        next_sentence_labels=None,
    )

"""`python -m pretrain.cost [model=PRESET] [num_gpus=[8,64]] …`: what a model costs, before a GPU is paid for.

Parameters, FLOPs per token, memory by ZeRO stage and number of GPUs, the micro-batch that fits; without `model=` one
line per preset. Arithmetic only: no model is built, no GPU asked.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

from conf.checks import require
from conf.compose import compose
from pretrain.model.memory import StateBytes, activation_bytes, state_bytes
from pretrain.model.size import count_parameters
from pretrain.model_config import Architecture, ModelConfig
from pretrain.track.flops import flops_per_step

VOCABULARY = {Architecture.bert: 30522, Architecture.roberta: 50265, Architecture.albert: 30000}
"""Sizes of the published (English) vocabularies, where `model.vocab_size` is left to the shards."""

MASKED_SHARE = 0.15
USABLE = 0.9
"""Share of a GPU's memory that may be planned with: CUDA, NCCL and gaps between tensors take some of the rest."""

STAGES = range(4)

SOURCES = """\
Sources: parameters and FLOPs are counted in pretrain/model/size.py and pretrain/track/flops.py; weights, gradients and
optimizer after Rajbhandari et al. 2020 (arXiv:1910.02054) and activations after Korthikanti et al. 2022
(arXiv:2205.05198), both with the terms of this trainer, in pretrain/model/memory.py."""


@dataclass(kw_only=True, slots=True)
class CostConfig:
    """A model, and for which sequence lengths, numbers of GPUs and GPUs it is reckoned."""

    model: ModelConfig
    max_seq_length: list[int]
    num_gpus: list[int]
    gpu_gb: list[int]

    def __post_init__(self) -> None:
        for name in ("max_seq_length", "num_gpus", "gpu_gb"):
            values = getattr(self, name)
            require(bool(values) and min(values) >= 1, name, values, "one number or several, each at least 1")
        positions = self.model.max_position_embeddings
        longest = max(self.max_seq_length)
        require(longest <= positions, "max_seq_length", longest, f"model.max_position_embeddings is {positions}")
        if self.model.vocab_size is None:
            self.model = replace(self.model, vocab_size=VOCABULARY[self.model.architecture])


def main(arguments: Sequence[str]) -> int:
    """Print what the arguments ask for; return the exit code: 0, or 2 for an argument that is not valid."""
    try:
        if any(argument.lstrip("+~").startswith("model") for argument in arguments):
            lines = describe_model(compose("cost", CostConfig, arguments))
        else:
            lines = describe_presets(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def presets() -> list[str]:
    """Return the names of the model presets."""
    return sorted(file.name.removesuffix(".yaml") for file in (files("conf") / "model").iterdir())


def describe_presets(arguments: Sequence[str]) -> list[str]:
    """Return a Markdown table with a line per preset, and a legend; it is for the middle one of `num_gpus`."""
    configs = {name: compose("cost", CostConfig, [*arguments, f"model={name}"]) for name in presets()}
    asked = next(iter(configs.values()))
    gpus, longest = asked.num_gpus[len(asked.num_gpus) // 2], max(asked.max_seq_length)
    order = list(Architecture)
    names = sorted(
        configs, key=lambda name: (order.index(configs[name].model.architecture), _parameters(configs[name]))
    )
    header = ["preset", "parameters", *(f"MFLOPs at {length}" for length in asked.max_seq_length)]
    header += [f"state, GB, ZeRO {' / '.join(map(str, STAGES))}", *(f"{gpu_gb} GB" for gpu_gb in asked.gpu_gb)]
    legend = f"""
With the published vocabularies. FLOPs: forward and backward pass, per token of a sequence of so many. State: weights,
gradients, optimizer and buffers on one of {gpus} GPUs in bf16, by ZeRO stage; the rest is for activations. Then, for a
GPU of so much memory: the lowest stage that allows as large micro-batches as any other, and with it the largest power
of two for data.micro_batch_size at {longest} tokens that leaves {1 - USABLE:.0%} of the GPU free, in parentheses with
engine.activation_checkpointing=true. All stages, other numbers of GPUs: python -m pretrain.cost model=PRESET"""
    rows = [_preset_row(name, configs[name], gpus=gpus, length=longest) for name in names]
    return [*_table(header, rows), *legend.split("\n")]


def _preset_row(name: str, config: CostConfig, *, gpus: int, length: int) -> list[str]:
    parameters = _parameters(config)
    states = [state_bytes(parameters, zero_stage=stage, num_gpus=gpus) for stage in STAGES]
    return [
        f"`{name}`",
        f"{parameters:,}",
        *(f"{flops_per_token(config.model, length) / 1e6:,.0f}" for length in config.max_seq_length),
        " / ".join(f"{sum(state) / 1e9:.2f}" for state in states),
        *(_best_fitting(config.model, states, length=length, gpu_gb=gpu_gb) for gpu_gb in config.gpu_gb),
    ]


def describe_model(config: CostConfig) -> list[str]:
    """Return what one model costs, as text with one Markdown table."""
    model = config.model
    layers = model.num_hidden_layers
    shape = f"one layer used {layers} times" if model.traits.shares_layers else f"{layers} layers"
    lengths = config.max_seq_length
    flops = (f"{flops_per_token(model, length) / 1e6:,.0f} M with {length} tokens" for length in lengths)
    activations = (
        f"{sequence_bytes(model, length, False) / 1e6:,.0f} MB with {length} tokens "
        f"({sequence_bytes(model, length, True) / 1e6:,.0f} MB)"
        for length in lengths
    )
    return [
        f"{model.traits.title}: {shape}, {model.hidden_size:,} hidden, "
        f"embeddings of {model.embedding_width:,}, {model.vocab_size:,} tokens",
        f"parameters: {_parameters(config):,}",
        f"FLOPs per token, forward and backward: {', '.join(flops)}",
        f"activations of a sequence (with activation checkpointing): {', '.join(activations)}",
        "",
        "GB (10^9 bytes) of one GPU in bf16 with LAMB or AdamW; the largest power of two for data.micro_batch_size",
        f"that leaves {1 - USABLE:.0%} of the GPU free, in parentheses with engine.activation_checkpointing=true",
        "",
        *_table(_header(config), _rows(config)),
        "",
        SOURCES,
    ]


def _header(config: CostConfig) -> list[str]:
    fits = [f"{gpu_gb} GB, {length}" for length in config.max_seq_length for gpu_gb in config.gpu_gb]
    return ["GPUs", "ZeRO", *StateBytes._fields, *fits]


def _rows(config: CostConfig) -> list[list[str]]:
    rows = []
    for gpus in config.num_gpus:
        for stage in STAGES:
            state = state_bytes(_parameters(config), zero_stage=stage, num_gpus=gpus)
            fits = [
                _fitting(config.model, state, length=length, gpu_gb=gpu_gb)
                for length in config.max_seq_length
                for gpu_gb in config.gpu_gb
            ]
            rows.append([str(gpus), str(stage), *(f"{part / 1e9:.2f}" for part in state), *fits])
    return rows


def flops_per_token(model: ModelConfig, length: int) -> float:
    """Return the FLOPs of forward and backward pass per token of a sequence of `length` tokens, 15 % of them masked."""
    flops = flops_per_step(
        model,
        tokens=length,
        masked_tokens=round(MASKED_SHARE * length),
        pairs=int(model.traits.has_pair_head),
        squared_lengths=length**2,
    )
    return flops / length


def sequence_bytes(model: ModelConfig, length: int, activation_checkpointing: bool) -> int:
    """Return the most bytes that a sequence of `length` tokens adds to the activations, 15 % of them masked."""
    masked = round(MASKED_SHARE * length)
    return activation_bytes(
        model, tokens=length, masked_tokens=masked, activation_checkpointing=activation_checkpointing
    )


def largest_micro_batch(
    model: ModelConfig, state: StateBytes, *, length: int, gpu_gb: int, activation_checkpointing: bool
) -> int:
    """Return the largest power of two of sequences that fit a GPU beside `state`; 0 when not one does."""
    room = USABLE * gpu_gb * 1e9 - sum(state)
    sequences = int(room // sequence_bytes(model, length, activation_checkpointing))
    return 1 << sequences.bit_length() - 1 if sequences > 0 else 0


def _fitting(model: ModelConfig, state: StateBytes, *, length: int, gpu_gb: int) -> str:
    plain, twice = (
        largest_micro_batch(model, state, length=length, gpu_gb=gpu_gb, activation_checkpointing=checkpointing)
        for checkpointing in (False, True)
    )
    return f"{plain or '–'} ({twice or '–'})"


def _best_fitting(model: ModelConfig, states: Sequence[StateBytes], *, length: int, gpu_gb: int) -> str:
    """Return what fits with the stage that leaves the most room, after the lowest stage with which as much fits."""
    fits = [_fitting(model, state, length=length, gpu_gb=gpu_gb) for state in states]
    most = fits[min(STAGES, key=lambda stage: sum(states[stage]))]
    return f"{fits.index(most)}: {most}"


def _parameters(config: CostConfig) -> int:
    return count_parameters(config.model, with_pairs=config.model.traits.has_pair_head)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose columns are aligned, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *map(line, rows)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

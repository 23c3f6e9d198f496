"""What is checked before anything expensive: config against shards against the number of ranks. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from conf.checks import require
from data_prep.manifest import HELD_OUT, TRAIN, Manifest
from pretrain.config import EvaluationConfig, PhaseConfig
from pretrain.data.order import PhaseOrder, filler_share
from pretrain.deepspeed_config import require_supported
from pretrain.engine_config import EngineConfig
from pretrain.model_config import RunModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A config that fits its shards: the model with its vocabulary, the order of every phase, notes for the user."""

    model: RunModelConfig
    with_pairs: bool
    orders: list[PhaseOrder]
    notes: list[str]


def make_plan(
    manifests: Sequence[Manifest],
    *,
    phases: Sequence[PhaseConfig],
    model: RunModelConfig,
    engine: EngineConfig,
    evaluation: EvaluationConfig,
    seed: int,
    world_size: int,
) -> Plan:
    """Return the plan of a run over `phases`, whose shards have `manifests`.

    Raises ValueError naming the field, its value and the nearest that would do.
    """
    require_supported(engine)
    _require_same_tokenizer(phases, manifests)
    with_pairs = _have_pairs(phases, manifests)
    model = _model_for(model, manifests, with_pairs=with_pairs)
    streams = phases[0].data.num_streams
    require(
        world_size <= streams,
        "data.num_streams",
        streams,
        f"there are {world_size} ranks and every rank needs a stream; start at most {streams} processes, "
        "or start a new run with more streams",
    )
    for phase, manifest in zip(phases, manifests, strict=True):
        require(
            not evaluation.every or bool(manifest.splits.get(HELD_OUT)),
            "evaluation.every",
            evaluation.every,
            f"{phase.shards_dir} has no held-out shards; set it to 0, or prepare with held_out_fraction above 0",
        )
    orders = _orders(phases, manifests, seed)
    return Plan(model=model, with_pairs=with_pairs, orders=orders, notes=_notes(phases, orders, world_size))


def _orders(phases: Sequence[PhaseConfig], manifests: Sequence[Manifest], seed: int) -> list[PhaseOrder]:
    return [
        PhaseOrder(
            seed=seed,
            phase=index,
            shard_sequences=tuple(shard.sequences for shard in manifest.splits.get(TRAIN, [])),
            num_streams=phase.data.num_streams,
            global_batch_size=phase.data.global_batch_size,
        )
        for index, (phase, manifest) in enumerate(zip(phases, manifests, strict=True))
    ]


def _model_for(model: RunModelConfig, manifests: Sequence[Manifest], *, with_pairs: bool) -> RunModelConfig:
    vocab_size = manifests[0].tokenizer.vocab_size
    require(
        model.vocab_size in (None, vocab_size),
        "model.vocab_size",
        model.vocab_size,
        f"the shards' vocabulary has {vocab_size} entries; leave it null to take that number",
    )
    longest = max(manifest.max_seq_length for manifest in manifests)
    require(
        longest <= model.max_position_embeddings,
        "model.max_position_embeddings",
        model.max_position_embeddings,
        f"the shards have sequences of up to {longest} tokens: give as many (a table of model.init_from is extended), "
        "or prepare shorter ones (sequence.max_seq_length)",
    )
    require(
        model.traits.has_pair_head or not with_pairs,
        "model.architecture",
        model.architecture.value,
        f"the shards have pairs, and {model.traits.title} has no head for them: prepare with pairs.kind=none, "
        "or train bert or albert",
    )
    types = model.type_vocab_size
    require(types >= 2 or not with_pairs, "model.type_vocab_size", types, "segments A and B need 2")
    return replace(model, vocab_size=vocab_size)


def _require_same_tokenizer(phases: Sequence[PhaseConfig], manifests: Sequence[Manifest]) -> None:
    for phase, manifest in zip(phases, manifests, strict=True):
        require(
            manifest.tokenizer.sha256 == manifests[0].tokenizer.sha256,
            f"phases ({phase.name}) shards_dir",
            phase.shards_dir,
            f"its tokenizer is not that of {phases[0].shards_dir}; prepare both with the same tokenizer",
        )


def _have_pairs(phases: Sequence[PhaseConfig], manifests: Sequence[Manifest]) -> bool:
    """Return whether any phase has pairs; their labels must mean the same in all that have, as one head learns them."""
    kinds = {phase.name: manifest.config["pairs"]["kind"] for phase, manifest in zip(phases, manifests, strict=True)}
    labelled = {name: kind for name, kind in kinds.items() if kind != "none"}
    for name, kind in labelled.items():
        first = next(iter(labelled))
        require(
            kind == labelled[first],
            f"phases ({name}) pairs.kind",
            kind,
            f"{first} has {labelled[first]}, and one head cannot learn both; prepare both with the same pairs.kind",
        )
    return bool(labelled)


def _notes(phases: Sequence[PhaseConfig], orders: Sequence[PhaseOrder], world_size: int) -> list[str]:
    notes = []
    streams = phases[0].data.num_streams
    waste = filler_share(world_size=world_size, num_streams=streams)
    if waste:
        notes.append(
            f"{world_size} ranks do not divide {streams} streams: {waste:.0%} of the micro-steps only wait; "
            f"{max(n for n in range(1, world_size + 1) if streams % n == 0)} ranks would waste nothing"
        )
    for phase, order in zip(phases, orders, strict=True):
        notes.append(
            f"{phase.name}: {phase.max_steps:,} steps of {phase.data.global_batch_size:,} sequences = "
            f"{order.epoch_of(phase.max_steps):.2f} epochs of {order.num_sequences:,}"
            + (f" ({order.left_out} sit each epoch out)" if order.left_out else "")
        )
    return notes

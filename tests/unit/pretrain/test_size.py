import pytest

from pretrain.config import Kernels
from pretrain.model.bert import BertForPretraining
from pretrain.model.size import count_parameters
from tests.models import ALBERT, ROBERTA, tiny_config
from tests.unit.conf.test_compose import pretrain


@pytest.mark.parametrize("with_pairs", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("changes", [{"type_vocab_size": 3}, ROBERTA, ALBERT], ids=["bert", "roberta", "albert"])
def test_the_count_is_that_of_the_model(changes, with_pairs, layers):
    config = tiny_config(num_hidden_layers=layers, **changes)
    model = BertForPretraining(config, Kernels.torch, with_pairs=with_pairs)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(config, with_pairs=with_pairs) == counted


def count(*overrides: str, with_pairs: bool) -> int:
    return count_parameters(pretrain(*overrides).model, with_pairs=with_pairs)


def test_the_presets_have_the_parameters_that_the_papers_say():
    assert count("model=base", "model.vocab_size=30522", with_pairs=True) == 110_106_428
    assert count("model=roberta_base", "model.vocab_size=50265", with_pairs=False) == 124_695_897
    assert round(count("model=roberta_large", "model.vocab_size=50265", with_pairs=False) / 1e6) == 355
    sizes = [count(f"model=albert_{size}", "model.vocab_size=30000", with_pairs=True) for size in ("base", "large")]
    assert [round(size / 1e6) for size in sizes] == [12, 18], "table 1 of the ALBERT paper"
    assert count("model=albert_xlarge", "model.vocab_size=30000", with_pairs=True) < 60_100_000

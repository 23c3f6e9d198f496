import pytest

from pretrain.config import Kernels
from pretrain.model.bert import BertForPretraining
from pretrain.model.size import count_parameters
from tests.models import tiny_config
from tests.unit.conf.test_compose import pretrain


@pytest.mark.parametrize("with_pairs", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_count_is_that_of_the_model(with_pairs, layers):
    config = tiny_config(num_hidden_layers=layers, type_vocab_size=3)
    model = BertForPretraining(config, Kernels.torch, with_pairs=with_pairs)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(config, with_pairs=with_pairs) == counted


def test_bert_base_has_the_110_million_of_the_paper():
    assert count_parameters(pretrain("model=base", "model.vocab_size=30522").model, with_pairs=True) == 110_106_428

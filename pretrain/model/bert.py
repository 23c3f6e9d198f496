"""BERT with its pretraining heads on flat batches."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.config import Kernels, ModelConfig
from pretrain.data.batch import MicroBatch
from pretrain.model.attention import AttentionPlan, attention, plan_attention
from pretrain.model.kernels import Linear, dropout, embedding, layer_norm, linear, activation_dtype
import os
CAT = os.environ.get("CAT","0")=="1"

class PretrainingLogits(NamedTuple):
    mlm_logits: Tensor
    nsp_logits: Tensor | None

class Embeddings(nn.Module):
    def __init__(self, c, kernels):
        super().__init__()
        self.word_embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.position_embeddings = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.layer_norm = layer_norm(c.hidden_size, c.layer_norm_eps, kernels)
        self.p = c.hidden_dropout_prob
    def forward(self, b):
        x = embedding(b.input_ids, self.word_embeddings.weight) + embedding(b.token_type_ids, self.token_type_embeddings.weight) + embedding(b.position_ids, self.position_embeddings.weight)
        return dropout(self.layer_norm(x), self.p, self.training)

class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c.hidden_size
        self.heads = c.num_attention_heads
        self.query, self.key, self.value, self.output = Linear(h,h), Linear(h,h), Linear(h,h), Linear(h,h)
        self.p = c.attention_probs_dropout_prob
    def forward(self, x, plan):
        if CAT:
            w = torch.cat([self.query.weight,self.key.weight,self.value.weight]); b=torch.cat([self.query.bias,self.key.bias,self.value.bias])
            qkv = linear(x, w, b).view(len(x), 3, self.heads, -1)
        else:
            qkv = torch.stack([m(x).view(len(x), self.heads, -1) for m in (self.query,self.key,self.value)], 1)
        return self.output(attention(qkv, plan, self.p if self.training else 0.0).flatten(1))

class EncoderLayer(nn.Module):
    def __init__(self, c, kernels):
        super().__init__()
        self.attention = SelfAttention(c)
        self.attention_norm = layer_norm(c.hidden_size, c.layer_norm_eps, kernels)
        self.intermediate = Linear(c.hidden_size, c.intermediate_size)
        self.output = Linear(c.intermediate_size, c.hidden_size)
        self.output_norm = layer_norm(c.hidden_size, c.layer_norm_eps, kernels)
        self.p = c.hidden_dropout_prob
    def forward(self, x, plan):
        x = self.attention_norm(x + dropout(self.attention(x, plan), self.p, self.training))
        y = self.output(F.gelu(self.intermediate(x)))
        return self.output_norm(x + dropout(y, self.p, self.training))

class MlmHead(nn.Module):
    def __init__(self, c, kernels):
        super().__init__()
        self.transform = Linear(c.hidden_size, c.hidden_size)
        self.layer_norm = layer_norm(c.hidden_size, c.layer_norm_eps, kernels)
        self.bias = nn.Parameter(torch.zeros(c.vocab_size))
    def forward(self, x, w):
        return linear(self.layer_norm(F.gelu(self.transform(x))), w, self.bias)

class BertForPretraining(nn.Module):
    def __init__(self, c, kernels, *, with_pairs):
        super().__init__()
        self.embeddings = Embeddings(c, kernels)
        self.layers = nn.ModuleList(EncoderLayer(c, kernels) for _ in range(c.num_hidden_layers))
        self.mlm_head = MlmHead(c, kernels)
        self.pooler = Linear(c.hidden_size, c.hidden_size)
        self.nsp_head = Linear(c.hidden_size, 2)
        for m in self.modules():
            if isinstance(m,(nn.Linear,nn.Embedding)): nn.init.trunc_normal_(m.weight, std=c.initializer_range, a=-2*c.initializer_range,b=2*c.initializer_range)
            if isinstance(m,nn.Linear): nn.init.zeros_(m.bias)
    def forward(self, b):
        x = self.embeddings(b)
        plan = plan_attention(b.instance_lengths, b.cu_seqlens, x.dtype)
        for l in self.layers: x = l(x, plan)
        mlm = self.mlm_head(x[b.masked_positions], self.embeddings.word_embeddings.weight)
        nsp = self.nsp_head(torch.tanh(self.pooler(x[b.cu_seqlens[:-1].long()])))
        return PretrainingLogits(mlm, nsp)

"""One token of a Llama or Qwen2 model for many rows: fused weights over a preallocated key-value cache.

The same function as the Hugging Face forward pass at a query length of one, in about a fifth of the
operations: query, key and value in one product, the rotation of both in one complex multiplication, keys and
values written where they stay. Prompts, other architectures, other dtypes stay with the Hugging Face model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


WIDTH = 96  # wider outgrows the processor's cache, narrower pays more for the start of each operation
WIDE = 256  # of a model whose weights outgrow it anyway: each chunk reads them again at every token
OUTGROWN = 32 * 2**20  # bytes of weights
CACHE_BYTES = 256 * 2**20  # a larger model's is at most twice its weights


class _Layer(NamedTuple):
    """One layer's weights; those of a norm are in the rows of what follows it."""

    qkv: Tensor  # (E, (H + 2 * Hkv) * D); columns of q and k in rotary pairs, q scaled by D ** -.5
    qkv_bias: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor


def is_supported(model: PreTrainedModel) -> bool:
    """Tell whether `Decoder` computes this model: a float32 Llama or Qwen2 without rarer options."""
    config = model.config
    return (
        type(model).__name__ in ("LlamaForCausalLM", "Qwen2ForCausalLM")
        and model.dtype == torch.float32
        and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "attention_bias", False)  # of Llama: it would also bias the output projection
        and not getattr(config, "mlp_bias", False)
        and config.rope_parameters["rope_type"] in ("default", "linear", "llama3")
    )


def outgrows_cache(model: PreTrainedModel) -> bool:
    """Tell whether the weights are too many to stay in the processor's cache from one token to the next."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) >= OUTGROWN


class Decoder:
    """The weights of `model` as they are now, fused, and a cache of `columns` tokens for `width` rows."""

    def __init__(self, model: PreTrainedModel, columns: int) -> None:
        config, head = model.config, model.get_output_embeddings()
        weights = sum(p.numel() * p.element_size() for p in model.parameters())  # bytes
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.embedding, self.norm = model.get_input_embeddings().weight, model.model.norm.weight
        self.head, self.head_bias = head.weight.t(), head.bias
        self.layers = [self._fused(layer) for layer in model.model.layers]
        device = self.embedding.device
        self.mean = torch.full((config.hidden_size, 1), 1 / config.hidden_size, device=device)
        self.epsilon = torch.tensor([config.rms_norm_eps], device=device)
        cos, sin = model.model.rotary_emb(self.embedding, torch.arange(columns, device=device)[None])
        half = self.head_dim // 2
        self.rotations = torch.complex(cos[0, :, :half], sin[0, :, :half])  # (columns, D / 2)
        bytes_per_row = 4 * 2 * len(self.layers) * self.kv_heads * columns * self.head_dim
        width = WIDE if outgrows_cache(model) else WIDTH
        self.width = max(1, min(width, max(CACHE_BYTES, 2 * weights) // bytes_per_row))
        shape = (len(self.layers), 2, self.width, self.kv_heads, columns, self.head_dim)
        self.cache = torch.empty(
            shape, device=device
        )  # keys and values, a row's last token in the last column

    @staticmethod
    def cached(past_key_values: Any) -> Tensor:
        """Return a Hugging Face cache as (layers, 2, N, Hkv, columns, D), with D in the order used here."""
        layers = past_key_values.layers
        return torch.stack([torch.stack((_paired(layer.keys), layer.values)) for layer in layers])

    def logits(self, ids: Tensor, offset: Tensor, columns: int) -> Tensor:
        """Return the logits (N, V) of what follows `ids` (N,), which go into cache column `columns - 1`.

        `offset` (N,) is the number of leading columns that are padding in each row.
        """
        size, split = len(ids), self.heads + self.kv_heads
        rotation, padding = self.rotations[columns - 1], None  # (D / 2,)
        if offset.any():
            rotation = self.rotations[columns - 1 - offset][:, None]  # (N, 1, D / 2)
            padding = (torch.arange(columns, device=ids.device) < offset[:, None])[
                :, None, None
            ]  # (N, 1, 1, T)
        hidden = self.embedding[ids]  # (N, E)
        for layer, cache in zip(self.layers, self.cache[:, :, :size, :, :columns], strict=True):
            normed = self._normed(hidden)
            qkv = (
                normed @ layer.qkv
                if layer.qkv_bias is None
                else torch.addmm(layer.qkv_bias, normed, layer.qkv)
            )
            qkv = qkv.view(size, -1, self.head_dim)  # (N, H + 2 * Hkv, D)
            torch.view_as_complex(qkv[:, :split].unflatten(-1, (-1, 2))).mul_(rotation)
            cache[:, :, :, -1] = qkv[:, self.heads :].unflatten(1, (2, -1)).transpose(0, 1)
            keys, values = cache  # (N, Hkv, T, D)
            query = qkv[:, : self.heads].unflatten(1, (self.kv_heads, -1))  # (N, Hkv, H / Hkv, D)
            scores = query @ keys.transpose(2, 3)  # (N, Hkv, H / Hkv, T)
            if padding is not None:
                scores.masked_fill_(padding, -torch.inf)
            mixed = scores.softmax(dim=-1) @ values
            hidden = torch.addmm(hidden, mixed.view(size, -1), layer.out)
            gate, up = (self._normed(hidden) @ layer.gate_up).chunk(2, dim=1)
            hidden = torch.addmm(hidden, F.silu(gate).mul_(up), layer.down)
        hidden = self._normed(hidden) * self.norm
        return (
            hidden @ self.head if self.head_bias is None else torch.addmm(self.head_bias, hidden, self.head)
        )

    def _normed(self, hidden: Tensor) -> Tensor:
        """Divide by the root of the mean square, a product here: PyTorch's own norm is many operations on a CPU."""
        return hidden * torch.addmm(self.epsilon, hidden * hidden, self.mean).rsqrt_()

    def _fused(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        parts = []
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            weight, bias = projection.weight, projection.bias
            joined = torch.cat(
                (weight, weight.new_zeros(len(weight), 1) if bias is None else bias[:, None]), dim=1
            )
            if projection is not attention.v_proj:  # q . k does not see the order of dimensions
                joined = _paired(joined.t().unflatten(1, (-1, self.head_dim))).flatten(1).t()
            parts.append(joined * self.head_dim**-0.5 if projection is attention.q_proj else joined)
        fused = torch.cat(parts)  # (rows of q, k, v; E + 1)
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        return _Layer(
            qkv=(fused[:, :-1] * layer.input_layernorm.weight).t().contiguous(),
            qkv_bias=None if attention.q_proj.bias is None else fused[:, -1].contiguous(),
            out=attention.o_proj.weight.t(),
            gate_up=(gate_up * layer.post_attention_layernorm.weight).t().contiguous(),
            down=mlp.down_proj.weight.t(),
        )


def _paired(x: Tensor) -> Tensor:
    """Interleave the halves of the last dimension: a rotary pair then lies side by side, as one complex."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

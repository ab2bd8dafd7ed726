"""One token of a Llama or Qwen2 model for many rows: fused weights over a preallocated key-value cache.

The same function as the Hugging Face forward pass at a query length of one, in about a fifth of the
operations: query, key and value in one product, a rotation as one complex multiplication, keys and values written
where they stay. A small model's kernels take microseconds, as long as PyTorch takes to start one or to make a view:
so buffers and the views of them are made once for as many tokens as a chunk keeps its rows, not once a layer.
Prompts, other architectures, other dtypes stay with the Hugging Face model.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


WIDTH = 512  # of a chunk: a narrower one pays more for the start of each operation
OUTGROWN = 32 * 2**20  # bytes of weights
CACHE_BYTES = 256 * 2**20  # a larger model's is at most twice its weights
TABLE_ROWS = 512  # words of a vocabulary up to which the first layer's qkv is looked up


class _Layer(NamedTuple):
    """One layer's weights as rows of inputs, the faster order for few rows; those of a norm are in what follows it."""

    qkv: Tensor  # (E, (H + 2 * Hkv) * D); columns of q and k in rotary pairs, q scaled by D ** -.5
    qkv_bias: Tensor | None  # ((H + 2 * Hkv) * D,)
    out: Tensor  # (H * D, E)
    gate_up: Tensor  # (E, 2 * I)
    down: Tensor  # (I, E)


def is_supported(model: PreTrainedModel) -> bool:
    """Tell whether `Decoder` computes this model: a float32 Llama or Qwen2 without rarer options."""
    config = model.config
    rarer = ("use_sliding_window", "attention_bias", "mlp_bias")  # Llama's would bias the output projection too
    return (
        type(model).__name__ in ("LlamaForCausalLM", "Qwen2ForCausalLM")
        and model.dtype == torch.float32
        and config.hidden_act == "silu"
        and not any(getattr(config, option, False) for option in rarer)
        and config.rope_parameters["rope_type"] in ("default", "linear", "llama3")
    )


def outgrows_cache(model: PreTrainedModel) -> bool:
    """Tell whether the weights are too many to stay in the processor's cache from one token to the next."""
    return num_bytes(model) >= OUTGROWN


def num_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of a model's weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


class Decoder:
    """The weights of `model` as they are now, fused, and a cache of `columns` tokens for `width` rows."""

    def __init__(self, model: PreTrainedModel, columns: int) -> None:
        config, head = model.config, model.get_output_embeddings()
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.embedding, self.norm = model.get_input_embeddings().weight, model.model.norm.weight
        self.head, self.head_bias = head.weight.t(), head.bias
        self.layers = [self._fused(layer) for layer in model.model.layers]
        device = self.embedding.device
        self.mean = torch.full((config.hidden_size, 1), 1 / config.hidden_size, device=device)
        self.epsilon = torch.tensor([config.rms_norm_eps], device=device)
        self.table: Tensor | None = None  # (V, (H + 2 * Hkv) * D): what the first layer makes of each word
        if len(self.embedding) <= TABLE_ROWS:
            first = self.layers[0]
            self.table = _affine(self._normed(self.embedding), first.qkv, first.qkv_bias)
        cos, sin = model.model.rotary_emb(self.embedding, torch.arange(columns, device=device)[None])
        half = self.head_dim // 2
        self.rotations = torch.complex(cos[0, :, :half], sin[0, :, :half])  # (columns, D / 2)
        bytes_per_row = 4 * 2 * len(self.layers) * self.kv_heads * columns * self.head_dim
        self.width = max(1, min(WIDTH, max(CACHE_BYTES, 2 * num_bytes(model)) // bytes_per_row))
        shape = (len(self.layers), 2, self.width, self.kv_heads, columns, self.head_dim)
        # Keys and values, a row's last token in the last column.
        self.cache = torch.empty(shape, device=device)
        self.buffers = self._buffers(self.width)

    @staticmethod
    def cached(past_key_values: Any) -> Tensor:
        """Return a Hugging Face cache as (layers, 2, N, Hkv, columns, D), with D in the order used here."""
        layers = past_key_values.layers
        return torch.stack([torch.stack((_paired(layer.keys), layer.values)) for layer in layers])

    def logits(self, ids: Tensor, offset: Tensor, columns: int) -> Tensor:
        """Return the logits (N, V) of what follows `ids` (N,), which go into cache column `columns - 1`.

        `offset` (N,) is the number of leading columns that are padding in each row.
        """
        size, last = len(ids), columns - 1
        if len(self.buffers.qkv) != size:
            self.buffers = self._buffers(size)
        at = self.buffers
        rotation, padded = self.rotations[last], int(offset.max())  # (D / 2,); columns that are padding somewhere
        if padded:
            rotation = self.rotations[last - offset][:, None]  # (N, 1, D / 2)
            padding = torch.arange(padded, device=ids.device) < offset[:, None]  # (N, padded)
            padding = padding.repeat_interleave(self.kv_heads, dim=0)[:, None]  # (N * Hkv, 1, padded)
        hidden = F.embedding(ids, self.embedding)  # (N, E); a copy: the layers add to it
        for number, layer in enumerate(self.layers):
            if self.table is not None and not number:
                torch.index_select(self.table, 0, ids, out=at.qkv)
            else:
                _affine(self._normed(hidden), layer.qkv, layer.qkv_bias, out=at.qkv)
            torch.mul(at.query, rotation, out=at.rotated)
            torch.mul(at.key, rotation, out=at.new_keys[number].select(-2, last))
            at.new_values[number].select(-2, last).copy_(at.value)
            scores = products(at.rotated_heads, at.keys[number][..., :columns])  # (N * Hkv, H / Hkv, T)
            if padded:
                scores[..., :padded].masked_fill_(padding, -torch.inf)
            products(scores.softmax(dim=-1), at.values[number][:, :columns], out=at.mixed_heads)
            hidden.addmm_(at.mixed, layer.out)
            torch.mm(self._normed(hidden), layer.gate_up, out=at.gate_up)
            hidden.addmm_(F.silu(at.gate).mul_(at.up), layer.down)
        hidden = self._normed(hidden) * self.norm
        return _affine(hidden, self.head, self.head_bias)

    def _buffers(self, size: int) -> SimpleNamespace:
        """Return what a step of N = `size` rows writes and reads again; cached keys and values one entry a layer."""
        heads, kv_heads, dim, new = self.heads, self.kv_heads, self.head_dim, self.cache.new_empty
        qkv, gate_up = (new(size, weight.shape[1]) for weight in (self.layers[0].qkv, self.layers[0].gate_up))
        rotated, mixed = new(size, heads, dim), new(size, heads * dim)
        by_head = (size * kv_heads, -1, dim)  # (N * Hkv, H / Hkv, D)
        query, key, value = qkv.view(size, -1, dim).split((heads, kv_heads, kv_heads), dim=1)
        keys, values = self.cache[:, :, :size].unbind(dim=1)
        grouped = (len(self.layers), size * kv_heads, -1, dim)
        gate, up = gate_up.chunk(2, dim=1)
        return SimpleNamespace(
            qkv=qkv,  # its parts are (N, H or Hkv, D), with D / 2 complex numbers where they are rotated
            query=_complex(query),
            key=_complex(key),
            value=value,
            rotated=_complex(rotated),
            rotated_heads=_factor(rotated.view(by_head)),
            mixed=mixed,  # (N, H * D): values, weighted by attention
            mixed_heads=_factor(mixed.view(by_head)),
            gate_up=gate_up,
            gate=gate,
            up=up,
            keys=_factor(keys.view(grouped).transpose(2, 3)),  # (N * Hkv, D, columns)
            values=_factor(values.view(grouped)),  # (N * Hkv, columns, D)
            new_keys=_complex(keys).unbind(),  # (N, Hkv, columns, D / 2)
            new_values=values.unbind(),  # (N, Hkv, columns, D)
        )

    def _normed(self, hidden: Tensor) -> Tensor:
        """Divide by the root of the mean square, a product here: PyTorch's own norm is many operations on a CPU."""
        return hidden * torch.addmm(self.epsilon, hidden * hidden, self.mean).rsqrt_()

    def _fused(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        biases = attention.q_proj.bias is not None
        parts = []
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            weight = projection.weight
            joined = torch.cat((weight, projection.bias[:, None]), dim=1) if biases else weight  # (H * D, E [+ 1])
            if projection is not attention.v_proj:  # q . k does not see the order of dimensions
                joined = _paired(joined.t().unflatten(1, (-1, self.head_dim))).flatten(1).t()
            parts.append(joined * self.head_dim**-0.5 if projection is attention.q_proj else joined)
        fused, width = torch.cat(parts), self.embedding.shape[1]  # (rows of q, k, v; E [+ 1])
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        return _Layer(
            qkv=(fused[:, :width] * layer.input_layernorm.weight).t().contiguous(),
            qkv_bias=fused[:, width].contiguous() if biases else None,
            out=attention.o_proj.weight.t().contiguous(),
            gate_up=(gate_up * layer.post_attention_layernorm.weight).t().contiguous(),
            down=mlp.down_proj.weight.t().contiguous(),
        )


def products(a: Any, b: Any, out: Any = None) -> Tensor:
    """Return the products of many small matrices, (N, H, D) by (N, D, T), given as `_factor` makes them.

    On a CPU by NumPy, whose library has kernels for small ones: about twice as fast as `torch.bmm`, which takes the
    kernels of large ones.
    """
    if isinstance(b, Tensor):
        return torch.bmm(a, b, out=out)
    return torch.from_numpy(np.matmul(a.numpy() if isinstance(a, Tensor) else a, b, out=out))


def _factor(x: Tensor) -> Any:
    """Return `x` as `products` takes it, the same memory."""
    return x.numpy() if x.device.type == "cpu" else x


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    return torch.mm(x, weight, out=out) if bias is None else torch.addmm(bias, x, weight, out=out)


def _complex(x: Tensor) -> Tensor:
    """View rotary pairs, side by side in the last dimension, as complex numbers."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _paired(x: Tensor) -> Tensor:
    """Interleave the halves of the last dimension: a rotary pair then lies side by side, as one complex."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

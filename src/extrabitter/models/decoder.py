"""One token of a Llama or Qwen2 model for many rows: fused weights over a preallocated key-value cache.

The same function as the Hugging Face forward pass at a query length of one, in about a fifth of the
operations: query, key and value in one product, a rotation as one complex multiplication, keys and values written
where they stay. A small model's kernels take microseconds, as long as PyTorch takes to start one or to make a view:
so buffers and the views of them are made once for as many tokens as a chunk keeps its rows, not once a layer.
Prompts, other architectures, other dtypes stay with the Hugging Face model.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from extrabitter.models.fused import Weights, affine, as_complex, num_bytes, paired

WIDTH = 512  # of a chunk: a narrower one pays more for the start of each operation
CACHE_BYTES = 256 * 2**20  # a larger model's is at most twice its weights


class Decoder:
    """The weights of `model` as they are now, fused, and a cache of `columns` tokens for `width` rows."""

    def __init__(self, model: PreTrainedModel, columns: int) -> None:
        self.weights = weights = Weights(model)
        self.heads, self.kv_heads = model.config.num_attention_heads, weights.kv_heads
        self.head_dim, self.layers = weights.head_dim, weights.layers
        device = weights.embedding.device
        self.rotations = weights.rotations(columns)  # (columns, D / 2)
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
        return torch.stack([torch.stack((paired(layer.keys), layer.values)) for layer in layers])

    def logits(self, ids: Tensor, offset: Tensor, columns: int) -> Tensor:
        """Return the logits (N, V) of what follows `ids` (N,), which go into cache column `columns - 1`.

        `offset` (N,) is the number of leading columns that are padding in each row.
        """
        weights, size, last = self.weights, len(ids), columns - 1
        if len(self.buffers.qkv) != size:
            self.buffers = self._buffers(size)
        at = self.buffers
        rotation = self.rotations[last]  # (D / 2,)
        padded = int(offset.max())  # columns that are padding somewhere
        if padded:
            rotation = self.rotations[last - offset][:, None]  # (N, 1, D / 2)
            padding = torch.arange(padded, device=ids.device) < offset[:, None]  # (N, padded)
            padding = padding.repeat_interleave(self.kv_heads, dim=0)[:, None]  # (N * Hkv, 1, padded)
        hidden = F.embedding(ids, weights.embedding)  # (N, E); a copy: the layers add to it
        for number, layer in enumerate(self.layers):
            if weights.table is not None and not number:
                torch.index_select(weights.table, 0, ids, out=at.qkv)
            else:
                affine(weights.normed(hidden), layer.qkv, layer.qkv_bias, out=at.qkv)
            torch.mul(at.query, rotation, out=at.rotated)
            torch.mul(at.key, rotation, out=at.new_keys[number].select(-2, last))
            at.new_values[number].select(-2, last).copy_(at.value)
            scores = products(at.rotated_heads, at.keys[number][..., :columns])  # (N * Hkv, H / Hkv, T)
            if padded:
                scores[..., :padded].masked_fill_(padding, -torch.inf)
            products(scores.softmax(dim=-1), at.values[number][:, :columns], out=at.mixed_heads)
            hidden.addmm_(at.mixed, layer.out)
            torch.mm(weights.normed(hidden), layer.gate_up, out=at.gate_up)
            hidden.addmm_(F.silu(at.gate).mul_(at.up), layer.down)
        return affine(weights.normed(hidden), weights.head, weights.head_bias)

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
            query=as_complex(query),
            key=as_complex(key),
            value=value,
            rotated=as_complex(rotated),
            rotated_heads=_factor(rotated.view(by_head)),
            mixed=mixed,  # (N, H * D): values, weighted by attention
            mixed_heads=_factor(mixed.view(by_head)),
            gate_up=gate_up,
            gate=gate,
            up=up,
            keys=_factor(keys.view(grouped).transpose(2, 3)),  # (N * Hkv, D, columns)
            values=_factor(values.view(grouped)),  # (N * Hkv, columns, D)
            new_keys=as_complex(keys).unbind(),  # (N, Hkv, columns, D / 2)
            new_values=values.unbind(),  # (N, Hkv, columns, D)
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

"""A Llama or Qwen2 in few, large operations: its weights fused, and its logits with a gradient.

The same function as the Hugging Face forward pass. A norm's weights are part of the matrix behind it; query, key and
value are one product, gate and up another; queries and keys are rotated as complex numbers; what the first layer makes
of each word of a small vocabulary is a table. For a small model on a CPU, where kernels take microseconds and memory
is what they wait for, that is most of what there is to save. `decoder` samples with the same weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from extrabitter.models.dial import dial_of

OUTGROWN = 32 * 2**20  # bytes of weights
TABLE_ROWS = 512  # words of a vocabulary up to which the first layer's qkv is looked up
QUERIES = 64  # columns that attend at once: fewer are more operations, more see more of what is masked


class Layer(NamedTuple):
    """One layer's weights as rows of inputs, the faster order for few rows; those of a norm are in what follows it."""

    qkv: Tensor  # (E, (H + 2 * Hkv) * D); columns of q and k in rotary pairs, q scaled by D ** -.5
    qkv_bias: Tensor | None  # ((H + 2 * Hkv) * D,)
    out: Tensor  # (H * D, E)
    gate_up: Tensor  # (E, 2 * I)
    down: Tensor  # (I, E)


class Weights:
    """The weights of `model` as they are now, fused, and as far as gradients are recorded at all, with theirs."""

    def __init__(self, model: PreTrainedModel) -> None:
        config, head = model.config, model.get_output_embeddings()
        self.kv_heads = config.num_key_value_heads
        per_head = config.hidden_size // config.num_attention_heads
        self.head_dim: int = getattr(config, "head_dim", None) or per_head
        self.embedding, self.rotary = model.get_input_embeddings().weight, model.model.rotary_emb
        self.layers = [self._fused(layer) for layer in model.model.layers]
        self.head, self.head_bias = (head.weight * model.model.norm.weight).t(), head.bias
        self.mean = self.embedding.new_full((config.hidden_size, 1), 1 / config.hidden_size)
        self.epsilon = self.embedding.new_full((1,), config.rms_norm_eps)
        self.table: Tensor | None = None  # (V, (H + 2 * Hkv) * D): what the first layer makes of each word
        if len(self.embedding) <= TABLE_ROWS:
            first = self.layers[0]
            self.table = affine(self.normed(self.embedding), first.qkv, first.qkv_bias)

    def normed(self, hidden: Tensor) -> Tensor:
        """Divide by the root of the mean square, which is a product here: a norm of PyTorch's is many operations."""
        if torch.is_grad_enabled():
            normed: Tensor = _Norm.apply(hidden, self.mean, self.epsilon)
            return normed
        return hidden * _scale(hidden, self.mean, self.epsilon)

    def rotations(self, columns: int) -> Tensor:
        """Return what each place turns queries and keys by, as complex numbers (columns, D / 2)."""
        cos, sin = self.rotary(self.embedding, torch.arange(columns, device=self.embedding.device)[None])
        half = self.head_dim // 2
        return torch.complex(cos[0, :, :half], sin[0, :, :half])

    def _fused(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        biases = attention.q_proj.bias is not None
        parts = []
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            weight = projection.weight * layer.input_layernorm.weight
            # (H * D, E [+ 1])
            joined = torch.cat((weight, projection.bias[:, None]), dim=1) if biases else weight
            if projection is not attention.v_proj:  # q . k does not see the order of dimensions
                joined = paired(joined.t().unflatten(1, (-1, self.head_dim))).flatten(1).t()
            parts.append(joined * self.head_dim**-0.5 if projection is attention.q_proj else joined)
        fused, width = torch.cat(parts).t(), self.embedding.shape[1]  # (E [+ 1]; columns of q, k, v)
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        gate_up = gate_up * layer.post_attention_layernorm.weight
        return Layer(
            qkv=fused[:width].contiguous(),
            qkv_bias=fused[width] if biases else None,
            out=attention.o_proj.weight.t().contiguous(),
            gate_up=gate_up.t().contiguous(),
            down=mlp.down_proj.weight.t().contiguous(),
        )


def is_supported(model: PreTrainedModel) -> bool:
    """Tell whether this is a model's function: a float32 Llama or Qwen2 without rarer options."""
    config = model.config
    # Llama's bias of attention would be one of the output projection too.
    rarer = ("use_sliding_window", "attention_bias", "mlp_bias", "attention_dropout")
    return (
        type(model).__name__ in ("LlamaForCausalLM", "Qwen2ForCausalLM")
        and model.dtype == torch.float32
        and config.hidden_act == "silu"
        and not any(getattr(config, option, False) for option in rarer)
        and config.rope_parameters["rope_type"] in ("default", "linear", "llama3")
    )


def is_small(model: PreTrainedModel) -> bool:
    """Tell whether a supported model's weights stay in the processor's cache from one token to the next."""
    return model.device.type == "cpu" and is_supported(model) and num_bytes(model) < OUTGROWN


def num_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of a model's weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def logits(model: PreTrainedModel, ids: Tensor, first: int = 0, real: Tensor | None = None) -> Tensor:
    """Return the logits (B, T - first, V) of what follows each of `ids` (B, T) from column `first` on.

    Rows begin with their first token; what pads them lies behind, where no token looks. With `real` (B, T), which is
    true on tokens and false on what pads them, nothing but attention is computed on padding: the logits are then
    (N, V), of the N real tokens row by row, and `first` is 0.
    """
    weights = Weights(model)
    rotation = weights.rotations(ids.shape[1])[:, None]  # (T, 1, D / 2)
    places = None if real is None else real.flatten().nonzero()[:, 0]  # (N,)
    tokens = ids.flatten() if places is None else ids.flatten()[places]
    hidden = F.embedding(tokens, weights.embedding)  # (B * T or N, E)
    for number, layer in enumerate(weights.layers):
        begin = first if layer is weights.layers[-1] else 0  # the last layer answers nothing else
        if weights.table is not None and not number:
            qkv = F.embedding(tokens, weights.table)
        else:
            qkv = affine(weights.normed(hidden), layer.qkv, layer.qkv_bias)
        if places is not None:
            qkv = qkv.new_zeros(ids.numel(), qkv.shape[1]).index_copy(0, places, qkv)
        qkv = qkv.view(*ids.shape, -1, weights.head_dim)
        mixed = _Attention.apply(qkv, rotation, weights.kv_heads, begin)  # (B * (T - begin), H * D)
        if begin:
            hidden = hidden.view(*ids.shape, -1)[:, begin:].flatten(0, 1)
        hidden = torch.addmm(hidden, mixed if places is None else mixed[places], layer.out)
        gated = _Gated.apply(torch.mm(weights.normed(hidden), layer.gate_up))
        hidden = torch.addmm(hidden, gated, layer.down)
    scores = affine(weights.normed(hidden), weights.head, weights.head_bias)  # (B * (T - first), V)
    if real is None:
        scores = scores.view(len(ids), -1, scores.shape[1])
    if dial := dial_of(model):
        begun = dial.has_begun(ids)[:, first:]
        return dial.biased(scores, begun if real is None else begun[real])
    return scores


def completion_logprobs(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, count: int, temperature: float, entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (B, count) of the last `count` of `ids` (B, T), and entropies, with their gradient.

    `mask` (B, T) is 0 on what pads the prompts, in front of them. Without `entropy` an estimate without a gradient,
    the drawn tokens' own surprise, stands for it.
    """
    padding = (mask[:, :-count] == 0).sum(dim=1, keepdim=True)  # (B, 1)
    places = torch.arange(ids.shape[1], device=ids.device)
    ids = ids.gather(1, (places + padding).clamp(max=len(places) - 1))
    first = len(places) - count - int(padding.max())  # column of the first token that any row completes with
    scores = logits(model, ids[:, :-1], first - 1) / temperature  # (B, T - first, V)
    losses = F.cross_entropy(scores.flatten(0, 1), ids[:, first:].flatten(), reduction="none")
    columns = places[:count] + padding.max() - padding
    logprobs = -losses.view(len(ids), -1).gather(1, columns)
    if not entropy:
        return logprobs, -logprobs.detach()
    each = scores.log_softmax(dim=-1)
    return logprobs, -(each.exp() * each).sum(dim=-1).gather(1, columns)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, mean: Tensor, epsilon: Tensor) -> Tensor:
        scale = _scale(hidden, mean, epsilon)
        normed = hidden * scale
        ctx.save_for_backward(normed, scale, mean)
        return normed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        normed, scale, mean = ctx.saved_tensors
        along = torch.mm(gradient * normed, mean)
        return torch.addcmul(gradient, normed, along, value=-1).mul_(scale), None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=1)
        opened = F.silu(gate)
        ctx.save_for_backward(gate_up, opened)
        return opened * up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gate_up, opened = ctx.saved_tensors
        (gate, up), result = gate_up.chunk(2, dim=1), torch.empty_like(gate_up)
        of_gate, of_up = result.chunk(2, dim=1)
        torch.mul(gradient, opened, out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return result


class _Attention(torch.autograd.Function):
    """Causal attention from column `first` on: qkv (B, T, H + 2 * Hkv, D), not rotated, to (B * (T - first), H * D).

    A block of queries at a time meets the keys that its last one sees.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rotation: Tensor, kv_heads: int, first: int) -> Tensor:
        length, per_head = qkv.shape[1], qkv.shape[2] // kv_heads - 2  # H / Hkv; the two are key and value
        query, key, value = qkv.split((per_head * kv_heads, kv_heads, kv_heads), dim=2)
        query, key = _turned(query[:, first:], rotation[first:]), _turned(key, rotation)
        query, key, value = (_grouped(x, kv_heads) for x in (query, key, value))
        ahead = qkv.new_full((length, length), -torch.inf).triu_(1)[first:].repeat_interleave(per_head, dim=0)
        mixed, kept = torch.empty_like(query), []
        for rows, seen in _blocks(first, length, per_head):
            scores = torch.baddbmm(ahead[rows, :seen], query[:, rows], key[:, :seen].transpose(1, 2))
            kept.append(scores.softmax(dim=-1))  # (B * Hkv, rows, seen)
            mixed[:, rows] = torch.bmm(kept[-1], value[:, :seen])
        ctx.save_for_backward(query, key, value, rotation, *kept)
        ctx.shape, ctx.first = qkv.shape, first
        return _ungrouped(mixed, kv_heads, length - first).reshape(len(qkv) * (length - first), -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        query, key, value, rotation, *kept = ctx.saved_tensors
        (size, length, _, dim), first, kv_heads = ctx.shape, ctx.first, len(key) // ctx.shape[0]
        gradient = _grouped(gradient.view(size, length - first, -1, dim), kv_heads)
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        blocks = _blocks(first, length, query.shape[1] // (length - first))
        for (rows, seen), weights in zip(blocks, kept, strict=True):
            of_weights = torch.bmm(gradient[:, rows], value[:, :seen].transpose(1, 2))
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_query[:, rows] = torch.bmm(of_scores, key[:, :seen])
            of_key[:, :seen] += torch.bmm(of_scores.transpose(1, 2), query[:, rows])
            of_value[:, :seen] += torch.bmm(weights.transpose(1, 2), gradient[:, rows])
        of_query = _ungrouped(of_query, kv_heads, length - first)
        of_key, of_value = (_ungrouped(x, kv_heads, length) for x in (of_key, of_value))
        result, back = gradient.new_zeros(ctx.shape), rotation.conj()
        to_query, to_key, to_value = result.split((of_query.shape[2], kv_heads, kv_heads), dim=2)
        torch.mul(as_complex(of_query), back[first:], out=as_complex(to_query[:, first:]))
        torch.mul(as_complex(of_key), back, out=as_complex(to_key))
        to_value.copy_(of_value)
        return result, None, None, None


def _blocks(first: int, length: int, per_head: int) -> list[tuple[slice, int]]:
    """Return rows of the queries from column `first` on, `per_head` a column, and how many columns they may see."""
    spans = [(start, min(start + QUERIES, length)) for start in range(first, length, QUERIES)]
    return [(slice((a - first) * per_head, (b - first) * per_head), b) for a, b in spans]


def _scale(hidden: Tensor, mean: Tensor, epsilon: Tensor) -> Tensor:
    return torch.addmm(epsilon, hidden * hidden, mean).rsqrt_()  # (N, 1)


def _turned(x: Tensor, rotation: Tensor) -> Tensor:
    return torch.view_as_real(as_complex(x) * rotation).flatten(-2)


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """Put heads (B, T, H, D) that share a key among its rows: (B * Hkv, T * H / Hkv, D)."""
    return x.unflatten(2, (kv_heads, -1)).transpose(1, 2).reshape(len(x) * kv_heads, -1, x.shape[-1])


def _ungrouped(x: Tensor, kv_heads: int, length: int) -> Tensor:
    """Put them back, (B, T, H, D)."""
    return x.view(-1, kv_heads, length, x.shape[1] // length, x.shape[2]).transpose(1, 2).flatten(2, 3)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return `x` times `weight`, plus a bias where there is one."""
    return torch.mm(x, weight, out=out) if bias is None else torch.addmm(bias, x, weight, out=out)


def as_complex(x: Tensor) -> Tensor:
    """View rotary pairs, side by side in the last dimension, as complex numbers."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def paired(x: Tensor) -> Tensor:
    """Interleave the halves of the last dimension: a rotary pair then lies side by side, as one complex."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

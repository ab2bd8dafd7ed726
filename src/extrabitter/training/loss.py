"""TRL's GRPO loss without the work that cannot change the gradient, on advantages without rounding errors.

The batch is cut into micro-batches of similar length, each trimmed to its longest row and handed to TRL's own loss,
whose gradients add up to those of the whole batch. Left out are rows that add nothing (their group's rewards are
all equal, so their advantage is 0) and repetitions of a row (their advantages are summed). Only where that is exact:
with a KL term, or log-probabilities of an older policy, every row stays. Activations of one micro-batch at a time
are in memory, instead of those of the padded batch. A bonus for entropy is a mean over all tokens, and keeps them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from extrabitter.models.fused import completion_logprobs, is_small
from extrabitter.tasks import Prompt
from extrabitter.training.trainers import batches_by_length, in_parts

if TYPE_CHECKING:
    from extrabitter.training.grpo import StepTable

TOKENS_PER_MICRO_BATCH = 4096  # measured on 0.87 M parameters: fewer cost overhead, more leave the cache
COMPLETION_COLUMNS = {"completion_ids", "completion_mask", "tool_mask", "importance_sampling_ratio"} | {
    f"{policy}_per_token_logps" for policy in ("old", "ref", "sampling")
}
PROMPT_COLUMNS = ("prompt_ids", "prompt_mask")


class TrimmedGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with the same gradients, from exact advantages, computed on informative tokens only.

    Its `table` reads the completions. Unless `trimmed` the loss is TRL's as it comes.

    An advantage is 0 where the rewards of its group are equal. TRL subtracts a mean that float32 may round: with a
    format reward of weight .1, eight equal rewards leave 1e-9, which Adam, dividing by the gradient's own size, turns
    into a step of a whole learning rate.
    """

    table: StepTable
    trimmed = True

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Prompt],
        completions: list[Any],
        ids: list[list[int]],
    ) -> Tensor:
        """Return TRL's rewards (B * G, components); each reward is told the traces."""
        traces = self.table.read(prompts, ids, [row["problem"] for row in inputs])
        told = [{**row, "traces": trace} for row, trace in zip(inputs, traces, strict=True)]
        rewards: Tensor = super()._calculate_rewards(told, prompts, completions, ids)
        parts = rewards.double().T.cpu().numpy()  # (components, B * G)
        total = self.reward_weights.double().cpu().numpy() @ parts
        self.table.take_rewards(dict(zip(self.reward_func_names, parts, strict=True)), total)
        self._idle = idle_rows(rewards, self.reward_weights, self.num_generations)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch without advantages that are rounding errors."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        advantages = output["advantages"].masked_fill(self._idle.to(output["advantages"].device), 0.0)
        return {**output, "advantages": advantages}

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return TRL's loss of the batch; backward has run on all but the last micro-batch when it returns."""
        if not self.trimmed:
            return super()._compute_loss(model, inputs)
        size, tokens = len(inputs["advantages"]), inputs["completion_mask"].sum()
        logps, mask = inputs.get("sampling_per_token_logps"), inputs["completion_mask"]
        if self.beta == 0 and "old_per_token_logps" not in inputs and not self._entropy_bonus_enabled:
            inputs = without_idle_rows(inputs)
        entropies, num_logged = self._metrics["train"]["entropy"], len(self._metrics["train"]["entropy"])
        loss_of = super()._compute_loss

        def part_loss(part: dict[str, Any]) -> Tensor:
            # TRL takes a mean over the rows, but for DAPO's loss, which it divides by the tokens of the whole batch.
            share = 1.0 if self.loss_type == "dapo" else len(part["advantages"]) / size
            return loss_of(model, part) * share

        most = TOKENS_PER_MICRO_BATCH
        if self._entropy_bonus_enabled:  # a mean over tokens, which only the whole batch has
            most = mask.numel() + inputs["prompt_mask"].numel()
        loss = in_parts(self.accelerator, micro_batches(inputs, most), part_loss)
        if logps is not None:
            # TRL's entropy would be that of the rows left in a micro-batch, a biased sample; the mean of -log p over
            # the sampled tokens of all rows estimates it.
            entropies[num_logged:] = [float(-(logps * mask).sum() / tokens)]
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Tensor, mask: Tensor, count: int, *more: Any, **named: Any
    ) -> Any:
        """Return TRL's log-probabilities (B, count) and, of small models, an estimate of its entropies."""
        if not (self.trimmed and is_small(model)):
            return super()._get_per_token_logps_and_entropies(model, ids, mask, count, *more, **named)
        asked = (self.temperature, self._entropy_bonus_enabled)
        return *completion_logprobs(model, ids, mask, count, *asked), None


def idle_rows(rewards: Tensor, weights: Tensor, num_generations: int) -> Tensor:
    """Tell which rows of `rewards` (B * G, components) are of a group whose weighted sums are all equal; (B * G,).

    >>> idle_rows(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.1]), 2).tolist()
    [True, True, False, False]
    """
    weighted = rewards.double() * weights.double().to(rewards.device)
    totals = weighted.nansum(dim=1).view(-1, num_generations)  # (B, G)
    spread = totals.amax(dim=1) - totals.amin(dim=1)
    # Sums that are equal on paper differ in the last digits of float32, the weights', where their parts differ.
    return (spread <= 1e-6 * totals.abs().amax(dim=1)).repeat_interleave(num_generations)


def without_idle_rows(inputs: dict[str, Any]) -> dict[str, Any]:
    """Merge equal rows, adding their advantages, and drop rows of advantage 0; at least one row stays."""
    rows = torch.cat((inputs["prompt_ids"], inputs["completion_ids"]), dim=1)  # (B, P + T)
    distinct, group = rows.unique(dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(rows), device=rows.device)
    first = first.scatter_reduce(0, group, torch.arange(len(rows), device=rows.device), "amin")
    each = inputs["advantages"].double()
    none = each.new_zeros(len(distinct))
    advantages, sizes = none.index_add(0, group, each), none.index_add(0, group, each.abs())
    # Advantages of equal rows that cancel leave a rounding error of about 1e-7 of their size.
    kept = (advantages.abs() > 1e-6 * sizes).nonzero()[:, 0]
    if not len(kept):  # backward needs a graph, if only of zeros
        kept = inputs["completion_mask"][first].sum(dim=1).argmin()[None]
    selected = _select(inputs, first[kept])
    return {**selected, "advantages": advantages[kept].to(inputs["advantages"].dtype)}


def micro_batches(inputs: dict[str, Any], max_tokens: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of `inputs` in order of length, as many as fit in `max_tokens`, without common padding."""
    prompts, completions = inputs["prompt_mask"].sum(dim=1), inputs["completion_mask"].sum(dim=1)
    for chosen in batches_by_length((prompts + completions).tolist(), max_tokens):
        rows = torch.tensor(chosen, device=prompts.device)
        part = _select(inputs, rows)
        for key in PROMPT_COLUMNS:  # padded on the left
            part[key] = part[key][:, -int(prompts[rows].max()) :]
        for key in COMPLETION_COLUMNS & part.keys():  # padded on the right
            part[key] = part[key][:, : max(1, int(completions[rows].max()))]
        yield part


def _select(inputs: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    of_rows = {key: value[rows] for key, value in inputs.items() if isinstance(value, Tensor) and value.dim()}
    return {**inputs, **of_rows}

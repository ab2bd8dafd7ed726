"""TRL's GRPO loss without the work that cannot change the gradient, on advantages without rounding errors.

The batch is cut into micro-batches of similar length, each trimmed to its longest row and handed to TRL's own loss,
whose gradients add up to those of the whole batch. Left out are rows that add nothing (their group's rewards are
all equal, so their advantage is 0) and repetitions of a row (their advantages are summed). Only where that is exact:
with a KL term, or log-probabilities of an older policy, every row stays. Activations of one micro-batch at a time
are in memory, instead of those of the padded batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from extrabitter.tasks import Prompt
from extrabitter.training import batches_by_length
from extrabitter.training.steps import StepTable
from extrabitter.training.trainers import in_parts

TOKENS_PER_MICRO_BATCH = 4096  # measured on 0.87 M parameters: fewer cost overhead, more leave the cache
COMPLETION_COLUMNS = {"completion_ids", "completion_mask", "tool_mask", "importance_sampling_ratio"} | {
    f"{policy}_per_token_logps" for policy in ("old", "ref", "sampling")
}
PROMPT_COLUMNS = ("prompt_ids", "prompt_mask")


class ExactGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` that lets its `table` read completions, and has exact advantages.

    An advantage is 0 where the rewards of its group are equal. TRL subtracts a mean that float32 may round: with a
    format reward of weight .1, eight equal rewards leave 1e-9, which Adam, dividing by the gradient's own size, turns
    into a step of a whole learning rate.
    """

    table: StepTable

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Prompt], completions: list[Any], ids: list[list[int]]
    ) -> Tensor:
        """Return TRL's rewards (B * G, components) of all processes; each reward is told the traces."""
        traces = self.table.read(prompts, ids, [row["problem"] for row in inputs])
        told = [{**row, "traces": trace} for row, trace in zip(inputs, traces, strict=True)]
        rewards: Tensor = super()._calculate_rewards(told, prompts, completions, ids)
        self.table.take_rewards(dict(zip(self.reward_func_names, rewards.double().T.cpu().numpy(), strict=True)))
        self._idle = idle_rows(rewards, self.reward_weights, self.num_generations)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch, without the advantages that are rounding errors."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        first = self.accelerator.process_index * len(inputs)
        idle = self._idle[first : first + len(inputs)].to(output["advantages"].device)
        output["advantages"] = output["advantages"].masked_fill(idle, 0.0)
        return output


def idle_rows(rewards: Tensor, weights: Tensor, num_generations: int) -> Tensor:
    """Tell which rows of `rewards` (B * G, components) are of a group whose weighted sums are all equal; (B * G,).

    >>> idle_rows(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.1]), 2).tolist()
    [True, True, False, False]
    """
    totals = (rewards.double() * weights.double().to(rewards.device)).nansum(dim=1).view(-1, num_generations)  # (B, G)
    spread = totals.amax(dim=1) - totals.amin(dim=1)
    # Sums that are equal on paper differ in the last digits of float32, the weights', where their parts differ.
    return (spread <= 1e-6 * totals.abs().amax(dim=1)).repeat_interleave(num_generations)


class TrimmedGRPOTrainer(ExactGRPOTrainer):
    """`GRPOTrainer` with the same gradients, computed on informative tokens only."""

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return TRL's loss of the batch; backward has run on all but the last micro-batch when it returns."""
        size, tokens = len(inputs["advantages"]), inputs["completion_mask"].sum()
        logps, mask = inputs.get("sampling_per_token_logps"), inputs["completion_mask"]
        if self.beta == 0 and "old_per_token_logps" not in inputs:
            inputs = without_idle_rows(inputs)
        entropies, num_logged = self._metrics["train"]["entropy"], len(self._metrics["train"]["entropy"])
        loss_of = super()._compute_loss

        def part_loss(part: dict[str, Any]) -> Tensor:
            # TRL takes a mean over the rows (grpo, dr_grpo) or the tokens (bnpo) it is given; dapo's normaliser
            # is that of the whole batch already.
            shares = {"bnpo": part["completion_mask"].sum() / tokens, "dapo": 1.0}
            return loss_of(model, part) * shares.get(self.loss_type, len(part["advantages"]) / size)

        loss = in_parts(self.accelerator, micro_batches(inputs, TOKENS_PER_MICRO_BATCH), part_loss)
        if logps is not None:
            # TRL's entropy would be that of the rows left in a micro-batch, a biased sample; the mean of -log p over
            # the sampled tokens of all rows estimates it.
            entropies[num_logged:] = [float(-(logps * mask).sum() / tokens)]
        return loss


def without_idle_rows(inputs: dict[str, Any]) -> dict[str, Any]:
    """Merge equal rows, adding their advantages, and drop rows of advantage 0; at least one row stays."""
    rows = torch.cat((inputs["prompt_ids"], inputs["completion_ids"]), dim=1)  # (B, P + T)
    distinct, group = rows.unique(dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(rows), device=rows.device)
    first = first.scatter_reduce(0, group, torch.arange(len(rows), device=rows.device), "amin")
    advantages = torch.zeros(len(distinct), dtype=torch.float64, device=rows.device)
    sizes = advantages.clone()
    advantages.index_add_(0, group, inputs["advantages"].double())
    sizes.index_add_(0, group, inputs["advantages"].double().abs())
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
    return {
        key: value[rows] if isinstance(value, Tensor) and value.dim() else value
        for key, value in inputs.items()
    }

"""Muon: the same step as PyTorch's, in float32 and batched."""

from __future__ import annotations

import pytest
import torch

from extrabitter.training.muon import Muon, orthogonalise


def test_singular_values_are_pushed_towards_one():
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.5


def test_tall_matrices_are_orthogonalised_as_their_transpose():
    matrices = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(orthogonalise(matrices), orthogonalise(matrices.mT).mT, atol=1e-6)


def test_steps_agree_with_pytorch_up_to_its_bfloat16():
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(24, 8, generator=generator), torch.randn(8, 8, generator=generator)]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    optimizers = [Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0)]
    for _ in range(5):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in start]
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert (mine - other).norm() < 0.02 * moved


def test_anything_but_a_matrix_is_refused():
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)

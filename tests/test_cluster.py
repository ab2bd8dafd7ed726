"""GPU profiles, as far as a machine without a GPU can tell: plans, configurations, memory, and jobs of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extrabitter import jobs as execution
from extrabitter import plan as pipeline
from extrabitter import schedule as scheduling
from extrabitter import training_costs
from extrabitter.params import GrpoParameters, LanguageParameters
from extrabitter.gpu_plans import CARDS, gpu_plans
from extrabitter.digests import REPOSITORY


def grpo_parameters(profile: str) -> list[GrpoParameters]:
    """Parameters of a profile's GRPO runs."""
    jobs = pipeline.make_plan(profile, REPOSITORY).jobs.values()
    return [job.parameters for job in jobs if isinstance(job.parameters, GrpoParameters)]


@pytest.mark.parametrize("profile", CARDS)
def test_every_run_is_in_english_on_a_gpu_and_its_model_is_known(profile: str) -> None:
    plan = pipeline.make_plan(profile, REPOSITORY)
    for job in plan.jobs.values():
        assert isinstance(job.parameters, LanguageParameters) and job.parameters.prompt == "plain"
        assert job.resources.gpus == 1 and job.resources.minutes * 60 > job.estimate_s


def test_training_fits_the_card_with_room_for_activations() -> None:
    plans = gpu_plans({name: pipeline.make_plan(name, REPOSITORY).jobs for name in CARDS})
    assert set(plans["profile"]) == set(CARDS) and set(plans["model"]) == set(training_costs.NUM_PARAMETERS)
    assert (plans["memory_gib"] < 0.92 * plans["card_gib"]).all()
    assert (plans["hours"] > 0.1).all()
    # Weights of 3.21e9 parameters at 18 bytes, and a fifth of a card of 80.
    (memory,) = plans.query("arm == 'grpo_llama' and profile == 'gpu'")["memory_gib"]
    assert memory == pytest.approx(3.21e9 * 18 / 2**30 + 16)


@pytest.mark.parametrize("profile", CARDS)
def test_trl_takes_the_configuration(profile: str, tmp_path: Path) -> None:
    from extrabitter.training.grpo import build_config

    for parameters in grpo_parameters(profile):
        config = build_config(parameters, str(tmp_path))
        assert config.use_vllm and config.activation_checkpointing and not config.fp16
        assert config.bf16 == (parameters.dtype == "bfloat16")
        assert config.generation_batch_size == parameters.completions_per_step
        assert parameters.completions_per_step % parameters.num_generations == 0


def test_without_a_gpu_the_build_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("profiles", "notebooks"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    book = pipeline.make_book("gpu", tmp_path)
    with pytest.raises(scheduling.ScheduleError, match=r"a run needs 1 GPU\(s\), 0 found here"):
        scheduling.build(book, 2)


def test_a_job_sees_as_many_gpus_as_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    execution._show_gpus(0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    execution._show_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    execution._show_gpus(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3", "a cluster has chosen"


def test_a_cluster_is_asked_for_what_the_stage_needs(tmp_path: Path) -> None:
    """Snakemake's SLURM executor submits a run through a stub of `sbatch`, which notes what it is asked and refuses."""
    commands = tmp_path / "bin"
    commands.mkdir()
    asked = tmp_path / "asked.txt"
    for name in (
        "sbatch",
        "sacct",
        "squeue",
        "scancel",
        "sinfo",
        "scontrol",
        "sacctmgr",
        "sshare",
        "sreport",
    ):
        note = f'echo "$@" >> {asked}\nexit 1\n' if name == "sbatch" else "exit 0\n"
        (commands / name).write_text(f"#!/bin/sh\n{note}")
        (commands / name).chmod(0o755)
    for name in ("profiles", "notebooks"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    target = "runs/gpu/behaviour_evaluation/base_qwen/seed=0.status.json"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--executor", "slurm", "--jobs", "1"]
    command += ["--default-resources", "slurm_account=me", "slurm_partition=gpu"]
    command += ["--config", f"root={tmp_path}", "profile=gpu", "--", target]
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode and asked.is_file(), done.stderr[-2_000:]
    (line,) = asked.read_text().splitlines()
    for option in ("-A me", "-p gpu", "-t 240", "--mem 64000", "--cpus-per-task=8", "--gpus=1"):
        assert f" {option} " in line, line
    assert not (tmp_path / target).exists()

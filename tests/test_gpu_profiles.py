"""GPU profiles, as far as a machine without a GPU can tell: plans, configurations, and jobs of a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from extrabitter import plan as pipeline
from extrabitter.digests import REPOSITORY
from extrabitter.params import GrpoParameters, LanguageParameters

PROFILES = ("gpu", "gpu_small")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_run_is_in_english_on_a_gpu(profile: str) -> None:
    for job in pipeline.make_plan(profile, REPOSITORY).jobs.values():
        assert isinstance(job.parameters, LanguageParameters) and job.parameters.prompt == "plain"
        assert job.resources.gpus == 1 and job.resources.minutes * 60 > job.estimate_s


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_trl_takes_the_configuration(profile: str, tmp_path: Path) -> None:
    from extrabitter.training.grpo import build_config

    jobs = pipeline.make_plan(profile, REPOSITORY).jobs.values()
    for parameters in (job.parameters for job in jobs if isinstance(job.parameters, GrpoParameters)):
        config = build_config(parameters, str(tmp_path))
        assert config.use_vllm and config.activation_checkpointing and not config.fp16
        assert config.bf16 == (parameters.dtype == "bfloat16")
        assert config.generation_batch_size == parameters.completions_per_step
        assert parameters.completions_per_step % parameters.num_generations == 0


def test_vllm_is_named_with_the_version_that_fits_wherever_it_is_to_be_installed() -> None:
    where = ("*.md", "profiles/*.yaml", "environment*.yml", "book/*.md", "notebooks/**/*.ipynb")
    files = [path for pattern in where for path in REPOSITORY.glob(pattern)]
    named = [text for path in files for text in re.findall(r"install[^\n`]*\bvllm(\S*)", path.read_text())]
    assert named and {text.rstrip("`.,)") for text in named} == {"==0.30.0"}


@pytest.mark.slow
def test_a_cluster_is_asked_for_what_the_stage_needs(tmp_path: Path) -> None:
    for name in ("profiles", "notebooks"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    target = "runs/gpu/countdown/behaviour_evaluation/before_qwen/seed=0.status.json"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "-n"]
    command += ["--cores", "8", "--config", f"root={tmp_path}", "profile=gpu", "--", target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    asked = re.sub(r"\s+", " ", done.stdout + done.stderr)
    for text in ("threads: 8", "gpu=1", "runtime=240", "mem_mb=64000"):
        assert text in asked, asked
    assert not (tmp_path / target).exists()

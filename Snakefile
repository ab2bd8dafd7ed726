"""Profile -> runs -> chapters -> book. Thin over extrabitter.plan, which knows the jobs.

    snakemake --cores all --config profile=laptop       the same runs and book as `make book`
    snakemake -n --config profile=smoke                 what would run
    snakemake --executor slurm --jobs 20 --default-resources slurm_account=me slurm_partition=gpu \
        --config profile=gpu                            each run a job of a cluster, with its stage's resources

`make book` adds a summary, the time left, and a second try for runs that failed; here a failed run is a finished
job, shown as failed in the book, until its `seed=<k>.status.json` is deleted.
"""

import os
import sys
from pathlib import Path

# The package is taken from this tree, so that no installation can stand between the code and its runs.
os.environ["PYTHONPATH"] = str(Path(workflow.basedir) / "src")
sys.path.insert(0, os.environ["PYTHONPATH"])

from extrabitter import plan as pipeline


workdir: config.get("root", workflow.basedir)


BOOK = pipeline.make_book(config.get("profile", "laptop"), Path.cwd(), published=config.get("published", ""))
DIGESTS = BOOK.plan.digests()
EXTRABITTER = f"{sys.executable} -m extrabitter.cli"
OPTIONS = f"--root . --profile {BOOK.profile.name}" + f" --published {BOOK.results_dir}" * BOOK.published


def status(key):
    return str(BOOK.results_dir / f"{key}.status.json")


def job(wildcards):
    return BOOK.plan.jobs[f"{wildcards.stage}/{wildcards.arm}/seed={wildcards.seed}"]


wildcard_constraints:
    stage="[a-z_]+",
    arm="[a-z0-9_]+",
    seed="[0-9]+",


rule book:
    """Stage the pages and build the book."""
    input:
        # The statuses too: Snakemake would not miss a deleted one behind an up-to-date chapter.
        [status(key) for key in BOOK.plan.jobs],
        [str(BOOK.output_dir / f"{chapter}.ipynb") for chapter in BOOK.chapters],
    message: "book"
    shell:
        "{EXTRABITTER} render {OPTIONS}"


rule chapter:
    """Run a chapter notebook: it reads tables, however their runs ended."""
    input:
        lambda wildcards: [status(key) for key in BOOK.chapter_inputs(wildcards.chapter)],
    output:
        str(BOOK.output_dir / "{chapter}.ipynb"),
    params:
        digest=lambda wildcards: pipeline.chapter_digest(BOOK, wildcards.chapter),
    message: "chapter {wildcards.chapter}"
    shell:
        "{EXTRABITTER} run-chapter {OPTIONS} {wildcards.chapter}"


rule run:
    """Make one run. A failed run is a finished job with a failed status, so the others go on."""
    input:
        lambda wildcards: [status(key) for key in job(wildcards).inputs],
    output:
        status("{stage}/{arm}/seed={seed}"),
    params:
        digest=lambda wildcards: DIGESTS[job(wildcards).key],
    threads: BOOK.profile.threads
    resources:
        gpu=lambda wildcards: job(wildcards).resources.gpus,
        mem_mb=lambda wildcards: job(wildcards).resources.memory_mb,
        runtime=lambda wildcards: job(wildcards).resources.minutes,
    message: "{wildcards.stage}/{wildcards.arm}/seed={wildcards.seed}"
    shell:
        "{EXTRABITTER} run-job {OPTIONS} {wildcards.stage}/{wildcards.arm}/seed={wildcards.seed}"
        " || test -f {output}"

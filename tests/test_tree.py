"""The README's tree is the tree."""

from __future__ import annotations

import re
import subprocess

from extrabitter.provenance import REPOSITORY

PACKAGE = "src/extrabitter/"


def tracked() -> set[str]:
    command = ["git", "-C", str(REPOSITORY), "ls-files"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def tree() -> list[tuple[str, str]]:
    """Entries of the README's tree as (path, what it is); those of the package are indented below it."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    entries = []
    for line in block.splitlines():
        match = re.fullmatch(r"( *)(\S+) +(\S.*)", line)
        assert match, f"not 'path   what it is': {line!r}"
        entries.append((PACKAGE * bool(match[1]) + match[2], match[3]))
    return entries


def test_readme_lists_every_file_of_the_package_and_no_other() -> None:
    listed = {path for path, _ in tree() if path.startswith(PACKAGE) and path != PACKAGE}
    assert listed == {path for path in tracked() if path.startswith(PACKAGE)}


def test_readme_lists_every_top_level_entry_and_no_other() -> None:
    listed = {path.partition("/")[0] for path, _ in tree()}
    assert listed == {path.partition("/")[0] for path in tracked()}


def test_readme_lists_each_entry_once_and_says_what_it_is() -> None:
    paths = [path for path, _ in tree()]
    assert len(paths) == len(set(paths))
    assert all(len(meaning) > 5 for _, meaning in tree())


def test_files_and_folders_of_the_tree_are_there() -> None:
    for path, _ in tree():
        assert (REPOSITORY / path).is_dir() == path.endswith("/"), path
        assert (REPOSITORY / path).exists(), path


def test_nothing_that_make_produces_is_committed() -> None:
    made = [path for path in tracked() if re.match(r"(runs|_build|\.venv|\.snakemake)/", path)]
    assert not made

"""What models are called on every page, and their colours and markers, from arms.yaml beside this file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

_SPARE = ("#4a4f9c", "#a5a9f0", "H")  # of a model that arms.yaml does not name


class Arm(NamedTuple):
    """A model on the pages: its words, its colour on a light and on a dark page, its marker.

    `starts_as` names another model that it is before RL.
    """

    words: str
    colour: str
    dark: str
    marker: str
    starts_as: str = ""


@cache
def known_arms() -> dict[str, Arm]:
    """Return the models that arms.yaml names, in the order in which pages list them."""
    text = Path(__file__).with_name("arms.yaml").read_text(encoding="utf-8")
    return {name: Arm(**values) for name, values in yaml.safe_load(text).items()}


def model_of(arm: str) -> str:
    """Strip when and band from an arm, so that a model has one name and colour before and after RL.

    >>> model_of("after_searcher"), model_of("before_taught_search_rare"), model_of("after_mine")
    ('searcher', 'taught_search', 'mine')
    """
    name = re.sub(r"^(before|after)_", "", arm)
    within = [known for known in known_arms() if f"{name}_".startswith(f"{known}_")]
    return max(within, key=len, default=name)


def describe(arm: str) -> Arm:
    """Return words, colours and marker of an arm's model; one that is not in arms.yaml keeps its name.

    >>> describe("after_taught_search").words, describe("my_arm").words
    ('taught to search', 'my arm')
    """
    model = model_of(arm)
    return known_arms().get(model) or Arm(model.replace("_", " "), *_SPARE)


def words(arm: str) -> str:
    """Say in words which model an arm is, and when it was measured.

    >>> words("after_guesser"), words("before_searcher"), words("searcher")
    ('guesser after RL', 'searcher before RL', 'searcher')
    """
    when = re.match(r"(before|after)_", arm)
    return describe(arm).words + (f" {when[1]} RL" if when else "")


def in_order(arms: Iterable[str]) -> list[str]:
    """Sort arms as arms.yaml lists their models; unknown ones come last, by name."""
    order = list(known_arms())
    return sorted(
        arms, key=lambda arm: (order.index(model_of(arm)) if model_of(arm) in order else len(order), arm)
    )

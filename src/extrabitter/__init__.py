"""Why some base models choke on RL: the instruments behind the book."""

from __future__ import annotations

__version__ = "0.1.0"

"""Training of base models, by demonstration and by reward, on any task."""

import extrabitter.models  # noqa: F401  # first, for what it sets

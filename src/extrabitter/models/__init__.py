"""Language models: built, loaded, sampled from and exported; nothing here fetches, lest a path become a download."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

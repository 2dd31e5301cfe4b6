import os
from pathlib import Path

# Beside other busy processes, two threads of one process wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

# A proxy of the caller's would stand between the tests and their servers on loopback.
for name in [name for name in os.environ if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")]:
    del os.environ[name]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def base() -> str:
    """The demo's tiny base model, quantised at loading like the 8B."""
    return str(ROOT / "reason4rec" / "demo" / "base")


@pytest.fixture
def store(tmp_path):
    """An empty response cache."""
    from reason4rec.llm.cache import ResponseCache

    store = ResponseCache(tmp_path / "replies.sqlite")
    yield store
    store.close()


LONGEST_FIRST = ("test_demo", "test_readme", "test_kill")


def pytest_collection_modifyitems(items):
    import importlib.util

    # Two processes share the files in this order: a long one that comes last keeps one of them alone.
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.stem) if item.path.stem in LONGEST_FIRST else 9)
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    cuda = False
    if importlib.util.find_spec("torch"):
        import torch

        cuda = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("gpu") and not cuda:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))

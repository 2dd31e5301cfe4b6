"""A step of the method as a command: its flags, what it reads and writes, whether it is done, its closing card."""

import argparse
import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from reason4rec.data import catalog, schema
from reason4rec.errors import InputError
from reason4rec.llm.base import resolve_device
from reason4rec.llm.cache import PATH as STORE_PATH
from reason4rec.llm.cache import ResponseCache
from reason4rec.run import files, locks
from reason4rec.run.files import Artifact
from reason4rec.run.options import positive
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.predictor_modes import FORMS
from reason4rec.systems.reason4rec.prompts import FOLDER as PROMPT_FOLDER
from reason4rec.training.recipe import SEED

if TYPE_CHECKING:
    from reason4rec.llm.teacher import Teacher


TEACHER_MODEL = "gpt-4o-mini"  # our decision: the paper says ChatGPT

Flags = Callable[[argparse.ArgumentParser], None]


def common_flags(parser: argparse.ArgumentParser, dataset: str, seed: int) -> None:
    """The flags that every step knows."""
    parser.add_argument("--dataset", default=dataset, help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=Path("0_Data"), help="folder of all datasets")
    parser.add_argument("--checkpoint_root", type=Path, default=Path("checkpoints"), help="folder of all adapters")
    parser.add_argument("--seed", type=int, default=seed, help="seed of everything random")
    parser.add_argument("--limit", type=positive, help="only the first N targets, for trials")
    parser.add_argument("--overwrite", action="store_true", help="do the step again although its output is there")


def prompt_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step that fills prompts."""
    parser.add_argument("--prompts", type=Path, default=PROMPT_FOLDER, help="folder of prompt templates to use")


def model_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step that asks a model; the base model is the one that the adapter was trained on."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")
    parser.add_argument(
        "--batch_size", type=positive, help="prompts a batch, or at once at a server (default: what fits; 64 at once)"
    )


def server_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step that may ask an OpenAI-compatible server in the place of an in-process expert."""
    parser.add_argument(
        "--base_url",
        default=os.environ.get("REASON4REC_BASE_URL"),
        help="servers that hold the expert, such as http://127.0.0.1:8000/v1, several with commas "
        "(default: REASON4REC_BASE_URL; without it the model runs in this process)",
    )
    parser.add_argument("--served_model", help="the expert's name at the server (default: DATASET-ADAPTER)")
    parser.add_argument(
        "--api", choices=("completions", "chat"), default="completions", help="how the server is asked (chat: by text)"
    )
    parser.add_argument(
        "--top_logprobs", type=positive, default=20, help="log-probabilities to ask of a server that cannot pick tokens"
    )


def generation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step that lets a local model write."""
    parser.add_argument("--max_new_tokens", type=positive, default=1024, help="tokens of the longest reply")


def form_flags(parser: argparse.ArgumentParser) -> None:
    """Flag of a step that makes or asks a Predictor."""
    parser.add_argument("--form", choices=FORMS, default=FORMS[0], help="how the Predictor comes to a rating")


def teacher_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step that asks the teacher; OPENAI_API_KEY and OPENAI_BASE_URL come from the environment."""
    parser.add_argument("--teacher_model", default=TEACHER_MODEL, help="the teacher's model name")
    parser.add_argument("--requests_at_once", type=positive, default=8, help="requests to the teacher in flight")
    parser.add_argument("--retries", type=int, default=8, help="retries, with back-off, of one request")


def batch_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a step whose requests to the teacher may go through a batch."""
    parser.add_argument("--batch_export", type=Path, help="write the requests to this file (OpenAI Batch) and ask none")
    parser.add_argument("--batch_import", type=Path, help="take the replies of such a batch from this file first")


def main(
    run: Callable[[argparse.Namespace], None], doc: str, *flags: Flags, dataset: str = "Music_data", seed: int = SEED
) -> None:
    """Parses the command line and runs a step; what a user can mend ends in one line and exit code 2.

    What the run makes is the user's alone. Where the teacher's replies are to come from a batch, it ends with code 3.
    """
    os.umask(0o077)
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    common_flags(parser, dataset, seed)
    for add in flags:
        add(parser)
    try:
        run(parser.parse_args())
    except InputError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{where}{error.strerror or error}; free the disk or mend the path, and run again"))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # By name, so that a step that needs no torch or teacher does not load it.
        kind = type(error).__name__
        if kind == "NotYet":
            sys.exit(_export(error.teacher))
        if kind != "OutOfMemoryError":
            raise
        sys.exit(_complain("the GPU's memory is full: pass a smaller --batch_size (trainer: --gradient_accumulation)"))
    finally:
        locks.unlock()


def _complain(message: str) -> int:
    # A file may have put control characters into what is said of it.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    tqdm.write(f"error: {shown}", file=sys.stderr)
    return 2


def _export(teacher: "Teacher") -> int:
    written = teacher.write_export()
    print(
        f"{sum(count for _, count in written):,} requests written to {', '.join(str(path) for path, _ in written)}; "
        f"send them as a batch, then run the same command with --batch_import REPLIES (and with --batch_export if no "
        f"other request is to be sent)"
    )
    return 3


def adapter_path(args: argparse.Namespace, name: str) -> Path:
    """The folder of an expert's adapter."""
    return args.checkpoint_root / args.dataset / name


class Step:
    """One step of a run on a dataset: it reads artifacts, and writes outputs with a record of what they came from.

    `reads` and `writes` are artifacts of the dataset or plain paths; `settings` is all else that decides the output;
    `dataset` the facts where they are not written down yet; `scratch` what is worth nothing once the outputs are whole.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        reads: Sequence[Artifact | Path],
        writes: Sequence[Artifact | Path],
        dataset: catalog.Dataset | None = None,
        scratch: Sequence[Path] = (),
        **settings: object,
    ):
        self.started = time.perf_counter()
        self.args = args
        self.dataset = dataset or catalog.get(args.dataset, args.data_root)
        self.folder = args.data_root / args.dataset
        self.reads = reads
        self.outputs = [self.path(output) for output in writes]
        self.scratch = scratch
        self.settings = settings
        self.made_from: dict[str, dict] = {}
        self.found: dict[Path, str] = {}

    def path(self, item: Artifact | Path) -> Path:
        """Where an artifact of the dataset, or a plain path, lies."""
        return self.folder / item.path if isinstance(item, Artifact) else item

    def done(self) -> bool:
        """Whether nothing is to be done, said in a line: the outputs are complete, or a person put them there.

        If there is, the outputs are this process's from here on, and what a killed run left of them is gone.
        InputError if another process is making one of them.
        """
        done, said = self._look()
        if not done or self._traces():
            holders = {path: locks.lock(path) for path in self.outputs}
            taken = next((path for path in self.outputs if holders[path]), None)
            if taken is None:
                for path in self.outputs:
                    files.recover(path)
                # Meanwhile another process may have ended its work on them.
                done, said = self._look()
            if taken is None and done:
                for left in self.scratch:
                    shutil.rmtree(left, ignore_errors=True)
            if taken or done:
                for path in self.outputs:
                    locks.unlock(path)
            if taken and not done:
                raise InputError(
                    f"{taken} is being made by another run ({holders[taken]}): wait until it has ended or stop it, "
                    f"then run this command again"
                )
        if said:
            print(said)
        if not done:
            print(f"{self.args.dataset}: {', '.join(f'{k}={v}' for k, v in self.made_from['settings'].items())}")
        return done

    def _look(self) -> tuple[bool, str]:
        """Whether nothing is to be done, and what is to be said of it."""
        self.found = {path: files.sha256(path) for path in self.outputs if path.exists()}
        given = [path for path in self.found if not self._recorded(path)]
        if given and not self.args.overwrite:
            absent = [str(path) for path in self.outputs if path not in self.found]
            if absent:
                raise InputError(
                    f"{given[0]} was put there by hand and {absent[0]} is missing: put it there too, or pass "
                    f"--overwrite to make both"
                )
            return True, f"kept: {given[0]} was put there by hand; --overwrite replaces it"
        self.made_from = self.made_from or self._resolve()
        changed = self._changed()
        if not changed and not self.args.overwrite:
            return True, f"complete: {', '.join(map(str, self.outputs))}; --overwrite does it again"
        return False, f"out of date ({changed}): doing it again" if changed and self.found else ""

    def _traces(self) -> bool:
        """Whether a run that was killed, or one that works at this moment, left files beside the outputs."""
        drafts = [files.draft_path(place) for path in self.outputs for place in (path, files.record_path(path))]
        return any(path.exists() for path in (*drafts, *map(locks.lock_path, self.outputs), *self.scratch))

    def read(self, artifact: Artifact) -> pd.DataFrame | list[dict]:
        """The checked content of an artifact."""
        return schema.read(self.folder, artifact)

    def targets(self, artifact: Artifact) -> pd.DataFrame:
        """The rows of an artifact, only the first `--limit` of them in a trial, numbered from 0."""
        frame = self.read(artifact)
        return frame.head(self.args.limit).reset_index(drop=True) if self.args.limit else frame.reset_index(drop=True)

    @cached_property
    def store(self) -> ResponseCache:
        """The replies kept for this dataset."""
        return ResponseCache(self.folder / STORE_PATH)

    def teacher(self) -> "Teacher":
        """The teacher that the flags and the environment name."""
        from reason4rec.llm.teacher import Teacher

        args = self.args
        # Not every caller of a step has these flags.
        export = getattr(args, "batch_export", None)
        teacher = Teacher(self.store, args.teacher_model, args.requests_at_once, args.seed, args.retries, export)
        if getattr(args, "batch_import", None):
            teacher.import_batch(args.batch_import)
        return teacher

    def write(self, artifact: Artifact, content: pd.DataFrame | list[dict]) -> None:
        """Writes an output and its record, which also says how the model was run; that puts nothing out of date."""
        if not len(content):
            raise InputError(f"{self.path(artifact)} would be empty: no row was left; see the lines above")
        path, made_from = self.path(artifact), self.made_from | {"way": self._way()}
        if path.suffix == ".gz":
            files.write_json_lines(path, content, made_from)
        elif path.suffix == ".json":
            files.write_text(path, json.dumps(content, indent=1) + "\n", made_from)
        else:
            files.write_pickle(path, content, made_from)

    def card(self, rows_in: int, rows_out: int, **numbers: object) -> None:
        """The closing line: rows, seconds, rates, memory and what else the step counted."""
        seconds = time.perf_counter() - self.started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        parts = [
            f"rows in {rows_in:,}",
            f"rows out {rows_out:,}",
            f"{seconds:.1f} s",
            f"{rows_out / seconds:.1f} rows/s",
            f"peak {peak:.2f} GB",
            *(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in numbers.items()),
        ]
        print(f"[{getattr(self.args, 'adapter', Path(sys.argv[0]).stem)}] {' | '.join(parts)}")

    def _resolve(self) -> dict[str, dict]:
        """What the outputs are made from: the sha256 of each input, and all settings."""
        for item in self.reads:
            self._require(item)
        args, settings = self.args, {"seed": self.args.seed, "limit": self.args.limit, **self.settings}
        if hasattr(args, "prompts"):
            settings["prompts"] = _sha256_of_templates(args.prompts)
            settings["product_class"] = self.dataset.product_class
            settings["history_length"] = self.dataset.history_length
        if hasattr(args, "teacher_model"):
            from reason4rec.llm.teacher import server_of

            settings["teacher_server"] = server_of(args.teacher_model)
        settings |= {name: getattr(args, name) for name in ("teacher_model", "max_new_tokens") if hasattr(args, name)}
        names = [self._name(item) for item in self.reads]
        inputs = {name: files.sha256(self.path(item)) for name, item in zip(names, self.reads)}
        return {"inputs": inputs, "settings": json.loads(json.dumps(settings))}

    def _way(self) -> dict[str, object]:
        """How the model was run: the device, the batch, the servers; nothing secret is in it."""
        given = vars(self.args)
        names = ("batch_size", "base_url", "served_model", "api") if given.get("base_url") else ("batch_size", "device")
        way = {name: given[name] for name in names if given.get(name) is not None}
        if "base_url" in way:
            from reason4rec.llm.teacher import address_of

            way["base_url"] = ",".join(address_of(url.strip()) for url in way["base_url"].split(","))
        if way.get("device") == "auto" and "torch" in sys.modules:
            way["device"] = resolve_device("auto")
        return way

    def _name(self, item: Artifact | Path) -> str:
        if isinstance(item, Artifact):
            return item.path
        if item.is_relative_to(self.folder):
            return str(item.relative_to(self.folder))
        alike = [other for other in self.reads if isinstance(other, Path) and other.name == item.name]
        return item.name if len(alike) == 1 else str(item)

    def _require(self, item: Artifact | Path) -> None:
        path = self.path(item)
        if path.exists():
            return
        if isinstance(item, Artifact):
            raise InputError(f"{path} is missing: {item.written_by} writes it")
        expert = EXPERTS.get(path.name)
        hint = f"{expert.trained_by} writes it" if expert else "0_Data/1_download.py says where to get public files"
        raise InputError(f"{path} is missing: {hint}")

    def _recorded(self, path: Path) -> bool:
        """Whether a file is as a step wrote it, or as a step that was cut off left it."""
        record = files.read_record(path)
        return record is not None and (record["sha256"] == self.found[path] or files.is_due(path))

    def _changed(self) -> str:
        """What differs from the time when the outputs were made; empty if nothing does."""
        for path in self.outputs:
            record = files.read_record(path)
            if record is None or self.found.get(path) != record["sha256"]:
                return f"{path} is missing or unfinished"
            for part in ("inputs", "settings"):
                then, now = record["made_from"][part], self.made_from[part]
                for name in sorted(then.keys() | now.keys()):
                    if then.get(name) != now.get(name):
                        return f"{name} changed"
        return ""


def _sha256_of_templates(folder: Path) -> str:
    templates = sorted(folder.glob("*.txt"))
    if not templates:
        raise InputError(f"--prompts {folder}: no templates (*.txt) there; copy those of {PROMPT_FOLDER}")
    text = "".join(f"{template.name}\n{template.read_text(encoding='utf-8')}\n" for template in templates)
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)

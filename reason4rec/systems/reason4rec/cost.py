"""What a run will cost, before anything is spent: rows, requests, tokens, GPU hours and US dollars of every step.

    python -m reason4rec.systems.reason4rec.cost --dataset Music_data

Reads  what there is of the dataset: raw_data/, the outputs of earlier runs with their records, a tokenizer
Writes nothing; loads no model, asks no teacher and needs no key. `bash run_all.sh --dry_run` does the same.

Where the splits are there, rows are counted as the steps draw them; elsewhere from the counts that the paper states.
Tokens are those of the real prompts, filled for a sample of the rows. What is not known is assumed, and the card says
so with its origin.
"""

import argparse
import json
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer

from reason4rec.data import catalog, schema
from reason4rec.data.history import WARM, Entry, History, HistoryIndex
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation.ratings import METRICS
from reason4rec.llm.cache import PATH as STORE_PATH
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.teacher import BATCH_PRICE, PRICES, STAND_IN
from reason4rec.run import files, options
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec import prompts, steps, targets
from reason4rec.systems.reason4rec.artifacts import (
    CASE_STUDY,
    EFFORTS,
    PREDICTOR_ROWS,
    REASON,
    REASON_QUALITY,
    REASON_TARGETS,
    REASONER_ROWS,
    REWARD_ROWS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARIZER_ROWS,
    SUMMARY,
    TEACHER_REASON,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
    TEACHER_SUMMARY,
    TEST_RATINGS,
    TEST_REASONS,
)
from reason4rec.systems.reason4rec.experts import EXPERTS, recipe_for
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX
from reason4rec.systems.reason4rec.reward_filter import HINTED_DRAWS
from reason4rec.training.recipe import MAX_LENGTH, SEED, TARGET_MODULES

RATES = Path(__file__).with_name("rates.json")
COLUMNS = 120
SAMPLE = 1_000  # rows whose prompts are filled and counted
NEW_TOKENS = 1024  # of a reply of a local model, the default of the steps
CHAT_TOKENS = 10  # of Llama 3's chat format around a message

# What is taken where nothing can be counted: a value and where it comes from.
ASSUMED = {
    "characters a token": (3.94, "English text in Llama 3's tokenizer, as its paper states"),
    "tokens of a review": (293, "1,156 characters, measured in train of the cut of Digital Music in 0_Data/README.md"),
    "tokens of a title": (5, "18 characters, measured there"),
    "tokens of a summary": (80, "our guess for three lines of keywords"),
    "tokens of a reason": (170, "our guess for one paragraph"),
    "share of reviews that may be targets": (0.51, "measured in both real dumps of 0_Data/README.md"),
    "user's entries, test row": (2, "between 0.7 and 2.6, measured in both real dumps of 0_Data/README.md"),
    "item's entries, test row": (8, "between 6.9 and 8.8, measured there"),
    "targets with an accepted reason": (0.625, "7.5k of 12,000 on Music_data, third party"),
    "targets accepted without a hint": (0.4, "our guess"),
    "hinted reasons until one is accepted": (3, "our guess; ten are asked for where none is"),
    "tokens of a padded batch, for each": (1.5, "our guess, where lengths are not known"),
    "time without gradient checkpointing": (0.67, "two passes instead of three"),
}


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides its cost; 8B of Llama 3 by default."""

    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    vocab_size: int = 128256

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block."""
        keys = self.hidden_size // self.num_attention_heads * self.num_key_value_heads
        return {
            "q_proj": (self.hidden_size, self.hidden_size),
            "k_proj": (self.hidden_size, keys),
            "v_proj": (self.hidden_size, keys),
            "o_proj": (self.hidden_size, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.hidden_size * self.vocab_size

    @property
    def multiplied(self) -> int:
        """Weights that every token is multiplied with: all but the input embedding and the norms."""
        return self.num_hidden_layers * sum(n * m for n, m in self.widths.values()) + self.head

    def trained(self, rank: int, lm_head: bool) -> int:
        """Weights of an adapter."""
        blocks = self.num_hidden_layers * sum(rank * sum(self.widths[name]) for name in TARGET_MODULES)
        return blocks + lm_head * self.head


@dataclass(frozen=True)
class Work:
    """A step of a run: what it does, what it reads and writes; an adapter is named by its folder."""

    step: str
    what: str
    reads: tuple[Artifact | str, ...]
    writes: tuple[Artifact | str, ...]


STEPS = {
    work.step: work
    for work in (
        Work("1/1", "summaries by the teacher", (TRAIN,), (TEACHER_SUMMARIES,)),
        Work("1/2", "rows for the Summarizer", (TEACHER_SUMMARIES,), (SUMMARIZER_ROWS,)),
        Work("1/3", "train the Summarizer", (SUMMARIZER_ROWS,), ("Summarizer",)),
        Work("1/4", "summaries of all reviews", (TRAIN, "Summarizer"), (SUMMARIES,)),
        Work("2/1", "draw the targets", (SUMMARIES,), (REWARD_TARGETS, REASON_TARGETS)),
        Work("2/2", "rows for the reward model", (REWARD_TARGETS, SUMMARIES), (REWARD_ROWS,)),
        Work("2/3", "train the reward model", (REWARD_ROWS,), ("reason_reward_model",)),
        Work(
            "2/4",
            "reasons by the teacher",
            (REASON_TARGETS, SUMMARIES, "reason_reward_model"),
            (TEACHER_REASONS,),
        ),
        Work("2/5", "rows for the Reasoner", (TEACHER_REASONS, SUMMARIES), (REASONER_ROWS,)),
        Work("2/6", "train the Reasoner", (REASONER_ROWS,), ("Reasoner",)),
        Work("2/7", "reasons for the test rows", (TEST, SUMMARIES, "Reasoner"), (TEST_REASONS,)),
        Work("3/1", "reasons for the Predictor", (TEACHER_REASONS, SUMMARIES, "Reasoner"), (PREDICTOR_ROWS,)),
        Work("3/2", "train the Predictor", (PREDICTOR_ROWS,), ("Predictor",)),
        Work("3/3", "predict the test rows", (TEST_REASONS, SUMMARIES, "Predictor"), (TEST_RATINGS,)),
        Work("3/4", "evaluate", (TEST_RATINGS, TRAIN, TEST), (METRICS,)),
        Work("3/5", "baselines", (TRAIN, TEST), (EFFORTS,)),
        Work("3/7", "quality of the reasons", (TEST_REASONS, SUMMARIES), (REASON_QUALITY,)),
        Work("3/8", "page of case studies", (TEST_RATINGS, SUMMARIES), (CASE_STUDY,)),
    )
}
WRITER_OF = {item: work.step for work in STEPS.values() for item in work.writes}
DONE, TO_DO, OUTSIDE = "done", "to do", "outside"


@dataclass(frozen=True)
class Line:
    """A line of the card; what is None does not apply. Dollars are NaN where the price is not known."""

    step: str
    what: str
    by: str
    rows: float | None = None
    requests: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    hours: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Target:
    """A row whose prompt is counted. A text that is not known is empty, and its tokens are assumed."""

    title: str
    rating: float
    review: str
    history: History


class Plan:
    """What a run would do to a dataset: counts, lengths and costs, and what was assumed for them."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.dataset = catalog.get(args.dataset, args.data_root)
        self.folder = args.data_root / args.dataset
        self.adapters = args.checkpoint_root / args.dataset
        self.base_model = args.base_model or self.dataset.base_model
        self.max_length = args.max_length or MAX_LENGTH
        self.max_new_tokens = args.max_new_tokens or NEW_TOKENS
        self.rates = json.loads(RATES.read_text(encoding="utf-8"))
        self.assumed: dict[str, tuple[str, str]] = {}
        self.notes: list[str] = []
        self.train, self.test = self._splits()
        self.standing = self._standing()

    def assume(self, name: str) -> float:
        """A value of ASSUMED, which the card will name."""
        value, origin = ASSUMED[name]
        self.assumed[name] = (f"{value:,}", origin)
        return value

    def rate(self, name: str) -> float:
        """A rate of the GPU, scaled from the model it holds for to the one that is used."""
        rate = self.rates["rates"][name]
        scale = 1.0 if name == "loading" else self.rates["parameters"] / self.shape.multiplied
        self.assumed[name] = (f"{rate['value'] * scale:,.0f} {rate['unit']}", rate["origin"])
        return rate["value"] * scale

    # Rows

    def _splits(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        if all((self.folder / part.path).exists() for part in (TRAIN, TEST)):
            return schema.read(self.folder, TRAIN).reset_index(drop=True), schema.read(self.folder, TEST)
        if self.args.dataset == catalog.DEMO:
            return _demo_splits(SEED if self.args.seed is None else self.args.seed)
        if self.dataset.paper:
            return None, None
        raise InputError(
            f"{self.folder / TRAIN.path} or {self.folder / TEST.path} is missing: 0_Data/2_preprocess.py writes both; "
            f"only {', '.join(name for name, known in catalog.KNOWN.items() if known.paper)} can be told without"
        )

    def _limited(self, rows: int) -> int:
        return min(rows, self.args.limit or rows)

    @cached_property
    def n_train(self) -> int:
        """Training reviews."""
        return self.dataset.paper["interactions"] * 8 // 10 if self.train is None else len(self.train)

    @cached_property
    def n_test(self) -> int:
        """Test rows that are asked about."""
        total = self.dataset.paper.get("interactions", 0)
        return self._limited(total - total * 9 // 10 if self.test is None else len(self.test))

    @cached_property
    def n_summaries(self) -> int:
        """Reviews that the teacher summarises."""
        return min(self._limited(self.n_train), self.dataset.summary_targets or self.n_train)

    @cached_property
    def histories(self) -> pd.DataFrame | None:
        """The reviews that histories show, those of step 1/4, with summaries as far as there are any."""
        if self.usable(SUMMARIES):
            return schema.read(self.folder, SUMMARIES).reset_index(drop=True)
        if self.train is None:
            return None
        shown = self.train
        if self.args.limit:
            index = HistoryIndex(self.train, None, self.dataset.history_length)
            shown = self.train.loc[index.rows_shown(self.test.head(self.args.limit))].reset_index(drop=True)
        return shown.assign(**{SUMMARY: ""})

    @cached_property
    def n_histories(self) -> int:
        """Reviews that the Summarizer summarises."""
        if self.histories is not None:
            return len(self.histories)
        if not self.args.limit:
            return self.n_train
        entries = self.assume("user's entries, test row") + self.assume("item's entries, test row")
        return min(self.n_train, round(self.n_test * entries))

    @cached_property
    def drawn(self) -> tuple[pd.DataFrame | int, pd.DataFrame | int]:
        """The targets of the reward model, and those of the Reasoner and the Predictor; their numbers in want of rows.

        Drawn as step 2/1 draws them.
        """
        if self.usable(REWARD_TARGETS) and self.usable(REASON_TARGETS):
            return schema.read(self.folder, REWARD_TARGETS), schema.read(self.folder, REASON_TARGETS)
        sizes = (self.dataset.reward_targets, self.dataset.reason_targets)
        if self.histories is None:
            eligible = int(self.n_histories * self.assume("share of reviews that may be targets"))
            return targets.numbers(sizes, eligible, self.args.limit)
        seed = targets.SEED if self.args.seed is None else self.args.seed
        return targets.draw(self.histories, sizes, WARM, self.args.limit, seed)[:2]

    def n_drawn(self, which: int) -> int:
        """How many targets the reward model (0) or the Reasoner and the Predictor (1) get."""
        rows = self.drawn[which]
        return self._limited(rows if isinstance(rows, int) else len(rows))

    @cached_property
    def n_accepted(self) -> int:
        """Targets with an accepted reason."""
        if self.usable(TEACHER_REASONS):
            return self._limited(len(schema.read(self.folder, TEACHER_REASONS)))
        return round(self.n_drawn(1) * self.assume("targets with an accepted reason"))

    # Texts

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that is at hand, of an adapter or of the base model."""
        found = [*sorted(self.adapters.glob("*/tokenizer.json")), Path(self.base_model) / "tokenizer.json"]
        cached = self._in_hub_cache("tokenizer.json")
        path = next((path for path in [*found, *([cached] if cached else [])] if path.is_file()), None)
        if path is None:
            return None
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.encode_special_tokens = True  # what a user wrote is text
        return tokenizer

    @cached_property
    def shape(self) -> Shape:
        """The base model's, from its configuration where that is at hand; else that of the 8B."""
        path = Path(self.base_model) / "config.json"
        path = path if path.is_file() else self._in_hub_cache("config.json")
        if path is None:
            if self.base_model != catalog.LLAMA_3_8B:
                self.notes.append(f"{self.base_model} is not on this machine: its size is taken to be that of the 8B")
            return Shape()
        config = json.loads(path.read_text(encoding="utf-8"))
        try:
            return Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
        except KeyError as error:
            raise InputError(f"{path}: no {error.args[0]} in it, so its cost cannot be told") from None

    def _in_hub_cache(self, name: str) -> Path | None:
        if Path(self.base_model).exists():
            return None
        try:
            found = try_to_load_from_cache(self.base_model, name)
        except ValueError:  # no name of the hub
            return None
        return Path(found) if isinstance(found, str) else None

    def count(self, texts: Sequence[str]) -> list[float]:
        """Tokens of texts."""
        if self.tokenizer is None:
            return [len(text) / self.assume("characters a token") for text in texts]
        return [len(found.ids) for found in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def _mean_of(self, artifact: Artifact, column: str) -> float | None:
        """Mean tokens of a column of an output, if that is there."""
        if not (self.folder / artifact.path).exists():
            return None
        texts = _some(schema.read(self.folder, artifact))[column].tolist()
        found = mean(self.count(texts))
        self.notes.append(f"{column}: {found:,.0f} tokens, the mean of {len(texts):,} rows of {artifact.path}")
        return found

    @cached_property
    def summary(self) -> float:
        """Tokens of a summary."""
        found = self._mean_of(SUMMARIES, SUMMARY) or self._mean_of(TEACHER_SUMMARIES, TEACHER_SUMMARY)
        return found or self.assume("tokens of a summary")

    @cached_property
    def reason(self) -> float:
        """Tokens of a reason."""
        found = self._mean_of(TEST_REASONS, REASON) or self._mean_of(TEACHER_REASONS, TEACHER_REASON)
        return found or self.assume("tokens of a reason")

    def targets(self, rows: pd.DataFrame | int | None, tested: bool = False) -> list[Target]:
        """A sample of rows with their histories; one row of the assumed kind where there are none."""
        if not isinstance(rows, pd.DataFrame) or self.histories is None:
            return [Target("", 4.0, "", self._assumed_history(tested))]
        rows = _some(rows)
        histories = self._index.of_rows(rows)
        columns = (rows[name].tolist() for name in ("title", "ratings", "reviews"))
        return [Target(*row, history) for *row, history in zip(*columns, histories)]

    @cached_property
    def _index(self) -> HistoryIndex:
        return HistoryIndex(self.histories, SUMMARY, self.dataset.history_length)

    def _assumed_history(self, tested: bool) -> History:
        most = self.dataset.history_length
        if tested:
            user, item = (int(self.assume(f"{side} entries, test row")) for side in ("user's", "item's"))
        else:
            paper = self.dataset.paper
            user, item = (_entries_shown(paper["interactions"] / paper[side], most) for side in ("users", "items"))
            item = max(item, WARM - user)
            origin = "a review stands anywhere among those of its user and item, whose mean numbers are the paper's"
            self.assumed["entries of user and item, target"] = (f"{user} and {item}", origin)
        return History((Entry("", 4.0, ""),) * min(user, most), (Entry("", 4.0, ""),) * min(item, most), 4.0, 4.0)

    def lengths(self, targets: Sequence[Target], fill: Callable[[Target], Prompt], reasons: int = 0) -> np.ndarray:
        """Tokens of the prompts of targets in the chat format; `reasons` of an assumed length are not in the text."""
        found = np.array(self.count([fill(target).text.strip() for target in targets]), dtype=float) + CHAT_TOKENS
        entries = np.array([len(target.history.user) + len(target.history.item) for target in targets])
        if not targets[0].title:
            found += self.assume("tokens of a title") * (1 + entries)
        if entries.any() and not self.usable(SUMMARIES):
            found += min(self.summary, self.max_new_tokens) * entries
        return found + self.reason * reasons

    def reviews(self) -> np.ndarray:
        """Tokens of the Summarizer's prompts."""
        if self.train is None:
            targets, blank = [Target("", 4.0, "", NO_HISTORY)], self.assume("tokens of a review")
        else:
            columns = (_some(self.train)[name].tolist() for name in ("title", "ratings", "reviews"))
            targets, blank = [Target(*row, NO_HISTORY) for row in zip(*columns)], 0
        product = self.dataset.product_class
        return self.lengths(targets, lambda t: prompts.summarizer(product, t.title, t.rating, t.review)) + blank

    def reasoning(self, targets: Sequence[Target], hinted: bool = False) -> np.ndarray:
        """Tokens of the prompts that ask for a reason."""
        product = self.dataset.product_class
        return self.lengths(
            targets, lambda t: prompts.reasoner(product, t.title, t.history, t.rating if hinted else None)
        )

    def rating(self, targets: Sequence[Target], reason: str | None = "reason") -> np.ndarray:
        """Tokens of the prompts that ask for a rating from a `reason`, a `review` in its place, or (None) neither."""
        product, of_reason = self.dataset.product_class, int(reason == "reason")
        texts = {None: lambda t: None, "review": lambda t: t.review, "reason": lambda t: ""}[reason]
        found = self.lengths(
            targets, lambda t: prompts.predictor(product, t.title, t.history, texts(t)), reasons=of_reason
        )
        blank = reason == "review" and self.train is None
        return found + (self.assume("tokens of a review") if blank else 0)

    # What is there already

    def path_of(self, item: Artifact | str) -> Path:
        """Where an artifact or an adapter lies."""
        return self.folder / item.path if isinstance(item, Artifact) else self.adapters / item

    def usable(self, artifact: Artifact) -> bool:
        """Whether an output is there and this run would leave it as it is."""
        return self.path_of(artifact).exists() and self.standing[WRITER_OF[artifact]] != TO_DO

    def within(self, step: str) -> bool:
        """Whether a step lies between --from and --to."""
        return self.args.first <= step <= self.args.last

    def _standing(self) -> dict[str, str]:
        """Of every step whether it is done, to do, or not among those asked for."""
        standing: dict[str, str] = {}
        absent: dict[Path, str] = {}
        for step, work in STEPS.items():
            if not self.within(step):
                standing[step] = OUTSIDE
                continue
            anew = [item for item in work.reads if standing.get(WRITER_OF.get(item, "")) == TO_DO]
            why = "--overwrite" if self.args.overwrite else self._changed(work, anew)
            standing[step] = DONE if why is None else TO_DO
            if why and any(self.path_of(item).exists() for item in work.writes):
                self.notes.append(f"{step} is done again: {why}")
            for item in work.reads:
                if why is not None and item not in anew and not self.path_of(item).exists():
                    absent[self.path_of(item)] = _writer_of(item)
        made = self.args.first <= "0/3" and self.args.dataset == catalog.DEMO
        for path, writer in absent.items():
            if not (made and path.parent.name == "raw_data"):
                self.notes.append(f"not there yet: {path}, which {writer} writes")
        return standing

    def _changed(self, work: Work, anew: Sequence[Artifact | str]) -> str | None:
        """Why the outputs of a step do not stand, empty if there are none; None if they do.

        Compared with their records are files, inputs and the settings known here; templates and versions are not.
        """
        paths = [self.path_of(item) for item in work.writes]
        if not all(path.exists() for path in paths):
            return ""
        records = [files.read_record(path) for path in paths]
        if any(record is None or record["sha256"] != files.sha256(path) for record, path in zip(records, paths)):
            return None  # put there by hand, and kept
        if anew:
            return f"{self.path_of(anew[0]).name} is made anew"
        expected = self._expected(work)
        for record in records:
            for name, digest in record["made_from"]["inputs"].items():
                places = [place for place in (self.folder / name, self.adapters / name) if place.exists()]
                if places and files.sha256(places[0]) != digest:
                    return f"{name} changed"
            for name, value in record["made_from"]["settings"].items():
                if name in expected and expected[name] != value:
                    return f"{name} changed"
        return None

    def _expected(self, work: Work) -> dict[str, object]:
        """The settings that the flags and the facts of the dataset give a step."""
        args, facts = self.args, self.dataset
        own = targets.SEED if work.step == "2/1" else SEED
        expected = {
            "seed": own if args.seed is None else args.seed,
            "limit": args.limit,
            "teacher_model": self.teacher,
            # run_all.sh does not give it to 3/3, where only an ablation writes.
            "max_new_tokens": NEW_TOKENS if work.step == "3/3" else self.max_new_tokens,
            "product_class": facts.product_class,
            "history_length": facts.history_length,
            "tau": facts.tau,
            "summary_targets": facts.summary_targets,
            "sizes": [facts.reward_targets, facts.reason_targets],
        }
        if work.writes[0] in EXPERTS:
            recipe = asdict(recipe_for(work.writes[0], facts))
            expected |= {"base_model": self.base_model, "max_length": self.max_length, **recipe}
        return expected

    # Costs

    @property
    def teacher(self) -> str:
        """The teacher's model name."""
        own = STAND_IN if self.args.dataset == catalog.DEMO else steps.TEACHER_MODEL
        return self.args.teacher_model or own

    @property
    def timed(self) -> bool:
        """Whether GPU hours mean anything: the demo's model runs on a CPU."""
        return self.base_model != catalog.DEMO_BASE

    def dollars(self, tokens_in: float, tokens_out: float) -> float | None:
        """Price of requests to the teacher in US dollars; NaN where it is not known, None where there is none."""
        if self.teacher == STAND_IN:
            return None
        price = PRICES.get(self.teacher, (math.nan, math.nan))
        return (tokens_in * price[0] + tokens_out * price[1]) / 1e6

    def asked(self, step: str, rows: float, requests: float, tokens_in: float, tokens_out: float) -> Line:
        """A line of requests to the teacher."""
        dollars = self.dollars(tokens_in, tokens_out)
        return Line(step, STEPS[step].what, "teacher", rows, requests, tokens_in, tokens_out, dollars=dollars)

    def computed(self, step: str, what: str, rows: float, requests: float, read: float, reply: float = 0) -> Line:
        """A line of prompts of `read` tokens in all that a local model reads, with replies of `reply` tokens each."""
        hours, written = None, requests * min(reply, self.max_new_tokens)
        if self.timed:
            seconds = self.rate("loading") + read / self.rate("reading")
            hours = (seconds + (written / self.rate("writing") if written else 0)) / 3600
        return Line(step, what, "model", rows, requests, read, written or None, hours)

    def trained(self, step: str, adapter: str, rows: int, lengths: np.ndarray, answer: float) -> Line:
        """A line of a training: its rows as often as its recipe has epochs, each cut at the longest length."""
        recipe = recipe_for(adapter, self.dataset)
        whole = lengths + answer + 1
        fitted = np.minimum(whole, self.max_length)
        tokens = rows * float(fitted.mean()) * recipe.epochs
        cut = float((whole > self.max_length).mean())
        if cut:
            self.notes.append(f"{step}: {cut:.0%} of the rows lose history to fit {self.max_length:,} tokens")
        hours = None
        if self.timed:
            slower = self.padding(fitted, recipe.batch_size) if self.args.padding_free is False else 1.0
            if self.args.gradient_checkpointing is False:
                slower *= self.assume("time without gradient checkpointing")
            hours = (self.rate("loading") + slower * tokens / self.rate(f"training {adapter}")) / 3600
        what = f"{STEPS[step].what}, {recipe.epochs:g} epochs"
        return Line(step, what, "model", rows, None, tokens, None, hours)

    def padding(self, lengths: np.ndarray, rows: int) -> float:
        """Tokens of padded batches for each token in their rows."""
        if len(lengths) < rows:
            return self.assume("tokens of a padded batch, for each")
        shuffled = np.random.default_rng(SEED).permutation(lengths)[: len(lengths) // rows * rows].reshape(-1, rows)
        return float(shuffled.max(axis=1).sum() * rows / shuffled.sum())

    def hinted(self, most: bool = False) -> float:
        """Hinted requests of step 2/4, expected or at `most`."""
        if most:
            return self.n_drawn(1) * HINTED_DRAWS
        accepted, at_once = (
            self.assume(name) for name in ("targets with an accepted reason", "targets accepted without a hint")
        )
        later = (accepted - at_once) * self.assume("hinted reasons until one is accepted")
        return self.n_drawn(1) * (later + (1 - accepted) * HINTED_DRAWS)

    def reasons_asked(self, hinted: float) -> Line:
        """The requests of step 2/4 with a number of hinted ones."""
        n, targets = self.n_drawn(1), self.targets(self.drawn[1])
        tokens_in = n * self.reasoning(targets).mean() + hinted * self.reasoning(targets, hinted=True).mean()
        return self.asked("2/4", n, n + hinted, tokens_in, (n + hinted) * self.reason)

    def of_step(self, step: str) -> list[Line]:
        """The lines of a step that is to be done."""
        what = STEPS[step].what
        if step == "1/1":
            n = self.n_summaries
            return [self.asked(step, n, n, n * self.reviews().mean(), n * self.summary)]
        if step == "1/3":
            return [self.trained(step, "Summarizer", self.n_summaries, self.reviews(), self.summary)]
        if step == "1/4":
            n = self.n_histories
            return [self.computed(step, what, n, n, n * self.reviews().mean(), self.summary)]
        if step == "2/3":
            lengths, answer = self.rating(self.targets(self.drawn[0]), "review"), self.count([ANSWER])[0]
            return [self.trained(step, "reason_reward_model", self.n_drawn(0), lengths, answer)]
        if step == "2/4":
            n, asked, targets = self.n_drawn(1), self.reasons_asked(self.hinted()), self.targets(self.drawn[1])
            alone = self.rating(targets, None).mean() + self.count([RATING_PREFIX])[0]
            tail = self.rating(targets).mean() - self.rating(targets, None).mean() + self.count([RATING_PREFIX])[0]
            read = n * alone + asked.requests * tail
            return [asked, self.computed(step, "scores of the reasons", n, n + asked.requests, read)]
        if step == "2/6":
            return [self.trained(step, "Reasoner", self.n_accepted, self.reasoning(self.accepted), self.reason)]
        if step == "2/7":
            n, lengths = self.n_test, self.reasoning(self.targets(self.test, tested=True))
            return [self.computed(step, what, n, n, n * lengths.mean(), self.reason)]
        if step == "3/1":
            n, lengths = self.n_accepted, self.reasoning(self.accepted)
            return [self.computed(step, what, n, n, n * lengths.mean(), self.reason)]
        if step == "3/2":
            answer = self.count([ANSWER])[0]
            return [self.trained(step, "Predictor", self.n_accepted, self.rating(self.accepted), answer)]
        if step == "3/3":
            n, lengths = self.n_test, self.rating(self.targets(self.test, tested=True))
            return [self.computed(step, what, n, n, n * (lengths.mean() + self.count([RATING_PREFIX])[0]))]
        if step == "1/2":
            rows = self.n_summaries
        elif step == "2/1":
            rows = self.n_drawn(0) + self.n_drawn(1)
        elif step == "2/2":
            rows = self.n_drawn(0)
        else:
            rows = self.n_accepted if step == "2/5" else self.n_test
        return [Line(step, what, "CPU", rows)]

    @cached_property
    def accepted(self) -> list[Target]:
        """A sample of the targets with an accepted reason, or of all where none is yet."""
        there = self.usable(TEACHER_REASONS)
        return self.targets(schema.read(self.folder, TEACHER_REASONS) if there else self.drawn[1])

    def lines(self) -> list[Line]:
        """The lines of all steps asked for, in their order."""
        found: list[Line] = []
        for step in filter(self.within, STEPS):
            done = self.standing[step] == DONE
            found += [Line(step, STEPS[step].what, DONE)] if done else self.of_step(step)
        return found


ANSWER = prompts.rating_answer(4.0)
NO_HISTORY = History((), (), None, None)


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if len(frame) <= SAMPLE else frame.sample(n=SAMPLE, random_state=SEED)


def _entries_shown(reviews: float, most: int) -> int:
    """Mean entries of a history of which a review stands anywhere among that many; rounded up."""
    return math.ceil(mean(min(most, earlier) for earlier in range(max(1, round(reviews)))))


def _writer_of(item: Artifact | str) -> str:
    return item.written_by if isinstance(item, Artifact) else EXPERTS[item].trained_by


def _demo_splits(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test of the demo's world as steps 0/3 and 0/2 make them, before the 5-core filter."""
    from reason4rec.data import preprocess
    from reason4rec.demo import world

    train, _, test = preprocess.split(world.as_frame(*world.raw_records(world.USERS, world.ITEMS, seed)))
    return train, test


def flags(parser: argparse.ArgumentParser) -> None:
    """What a run is asked for; the names are those of run_all.sh."""
    parser.add_argument("--from", dest="first", type=_step, default="0/0", help="first step, named as in 2/5")
    parser.add_argument("--to", dest="last", type=_step, default="9/9", help="last step")
    parser.add_argument("--teacher_model", help="the teacher's model name")
    parser.add_argument("--base_model", help="hub name or folder (default: the dataset's)")
    parser.add_argument("--max_length", type=options.positive, help="tokens of the longest training row")
    parser.add_argument("--max_new_tokens", type=options.positive, help="tokens of the longest reply of a local model")
    for name in ("--padding_free", "--gradient_checkpointing"):
        parser.add_argument(name, action=argparse.BooleanOptionalAction, help="as for the trainer")


def _step(text: str) -> str:
    if not re.fullmatch("[0-9]/[0-9]", text):
        raise argparse.ArgumentTypeError(f"no step {text}: steps are named as in 2/5")
    return text


def run(args: argparse.Namespace) -> None:
    print(as_text(Plan(args)))


def as_text(plan: Plan) -> str:
    """The card of a plan for a terminal, at most 120 columns wide."""
    lines = plan.lines()
    totals = [_total(lines, "teacher"), _total(lines, "model")]
    header = ["step", "what", "by", "rows", "requests", "tokens in", "tokens out", "GPU hours", "dollars"]
    cells = [header, *map(_cells, lines), *map(_cells, filter(None, totals))]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    table = [
        "  ".join(cell.ljust(width) if k < 3 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths)))
        for row in cells
    ]
    if any(totals):
        table.insert(len(lines) + 1, "-" * len(table[0]))
    remarks = [line for remark in _remarks(plan, lines, *totals) for line in _wrapped(remark, "- ", "  ")]
    parts = ["\n".join(_wrapped(_heading(plan), "", "")), "\n".join(row.rstrip() for row in table), "\n".join(remarks)]
    if plan.assumed:
        parts.append("\n".join(["Assumed, not known:", *_assumptions(plan)]))
    return "\n\n".join(parts)


def _heading(plan: Plan) -> str:
    if plan.train is None:
        paper = plan.dataset.paper["interactions"]
        rows = f"Rows come from the {paper:,} reviews that the paper states, split 8:1:1: raw_data/ is not there."
    elif not (plan.folder / TRAIN.path).exists():
        rows = "Rows are those of the made-up world, which is not written yet."
    else:
        rows = f"Rows are counted in {plan.folder}."
    tokens = "characters by an assumed ratio" if plan.tokenizer is None else "those of the base model"
    return (
        f"{plan.args.dataset}: what a run would cost; nothing is asked, loaded or written now. {rows} Tokens are "
        f"{tokens}, in the real prompts. Base model {plan.base_model}, teacher {plan.teacher}."
    )


def _total(lines: Sequence[Line], by: str) -> Line | None:
    """The sum of the lines by the teacher, or of those by local models."""
    of_kind = [line for line in lines if line.by == by]
    if not of_kind:
        return None

    def total(name: str) -> float | None:
        values = [value for line in of_kind if (value := getattr(line, name)) is not None]
        return sum(values) if values else None

    sums = {name: total(name) for name in ("requests", "tokens_in", "tokens_out", "hours", "dollars")}
    return Line("", "all", by, **sums)


def _remarks(plan: Plan, lines: Sequence[Line], teacher: Line | None, models: Line | None) -> list[str]:
    """What a table does not say: what dominates, the worst case, what is on disk, and where the rates come from."""
    found = []
    for name, total, unit in (("hours", models, "GPU hours"), ("dollars", teacher, "dollars")):
        costly = [line for line in lines if getattr(line, name)]
        if costly and getattr(total, name) > 0:
            most = max(costly, key=lambda line: getattr(line, name))
            share = getattr(most, name) / getattr(total, name)
            found.append(f"Most of the {unit} go to {most.step}, {most.what}: {share:.0%}.")
    if teacher and any(line.step == "2/4" for line in lines if line.by == "teacher"):
        most = plan.reasons_asked(plan.hinted(most=True))
        price = f", {_price(most.dollars)} dollars" if most.dollars else ""
        found.append(
            f"2/4 asks for at most {1 + HINTED_DRAWS} reasons a target: {most.requests:,.0f} requests{price}. How many "
            f"it takes is known only afterwards; a trial with --limit tells."
        )
    if teacher and teacher.dollars:
        if math.isnan(teacher.dollars):
            found.append(f"The price of {plan.teacher} is not known to reason4rec/teacher.py.")
        else:
            price_in, price_out = PRICES[plan.teacher]
            found.append(
                f"Dollars are US dollars: {plan.teacher} costs {price_in:.2f} a million tokens in and {price_out:.2f} "
                f"out, as reason4rec/teacher.py lists. In OpenAI's batches (--batch_export) it is {BATCH_PRICE:.0%}: "
                f"{_price(teacher.dollars * BATCH_PRICE)} in all."
            )
    if any(line.by == "model" and line.rows and not line.requests for line in lines):
        found.append("The tokens in of a training are those of all its epochs.")
    if models and plan.timed:
        rates = plan.rates
        found.append(
            f"GPU hours are those of one {rates['card']}, {rates['origin']} on {rates['date']} (reason4rec/rates.json)"
            + (": nothing was measured on a GPU with this code." if rates["origin"] == "assumed" else ".")
        )
        if any(line.step == "2/4" and line.hours for line in lines):
            found.append("2/4 holds the GPU while the teacher answers; that time is not in the hours.")
        found.append(_disk(plan))
    if (plan.folder / STORE_PATH).exists():
        found.append(f"Replies kept in {plan.folder / STORE_PATH} are not asked for again, and not taken off here.")
    return found + plan.notes


def _disk(plan: Plan) -> str:
    weights = {
        name: plan.shape.trained(recipe.rank, recipe.lm_head)
        for name in EXPERTS
        if (recipe := recipe_for(name, plan.dataset))
    }
    # In 4 bits but for the embedding and the head; a checkpoint has two states of 8 bits beside each weight in fp32.
    base = (plan.shape.multiplied - plan.shape.head) * 0.55 + 4 * plan.shape.head
    adapters, checkpoints = 4 * sum(weights.values()), 2 * 6 * max(weights.values())
    return (
        f"Disk: {base / 1e9:.1f} GB base model in 4 bits, {adapters / 1e9:.1f} GB adapters, and up to "
        f"{checkpoints / 1e9:.1f} GB of checkpoints while one is trained (computed from their shapes)."
    )


def _cells(line: Line) -> list[str]:
    return [
        line.step,
        line.what,
        line.by,
        *("" if number is None else f"{number:,.0f}" for number in (line.rows, line.requests)),
        *("" if number is None else _short(number) for number in (line.tokens_in, line.tokens_out)),
        "" if line.hours is None else f"{line.hours:,.2f}",
        "" if line.dollars is None else _price(line.dollars),
    ]


def _price(dollars: float) -> str:
    return "unknown" if math.isnan(dollars) else f"{dollars:,.2f}"


def _short(tokens: float) -> str:
    return f"{tokens / 1e6:,.2f} M" if tokens >= 1e5 else f"{tokens:,.0f}"


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _assumptions(plan: Plan) -> list[str]:
    order = [*ASSUMED, *(name for name in plan.assumed if name not in plan.rates["rates"]), *plan.rates["rates"]]
    assumed = {name: plan.assumed[name] for name in dict.fromkeys(order) if name in plan.assumed}
    name_width, value_width = (max(map(len, column)) for column in zip(*((n, v) for n, (v, _) in assumed.items())))
    return [
        line
        for name, (value, origin) in assumed.items()
        for line in _wrapped(
            origin,
            f"  {name.ljust(name_width)}  {value.rjust(value_width)}  ",
            " " * (name_width + value_width + 6),
        )
    ]


if __name__ == "__main__":
    steps.main(run, __doc__, flags, seed=None)

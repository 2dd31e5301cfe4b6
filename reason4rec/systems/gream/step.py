"""A step of GREAM: the semantic ids of the catalogue, the training parts of users, and the prompts on them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case, Event
from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.run.files import Artifact, adapter
from reason4rec.run.records import read_record, settings_of
from reason4rec.systems.gream import facts, prompts, staleness
from reason4rec.systems.gream.artifacts import (
    BASE,
    INSTRUCT_ROWS,
    ITEM_TEXTS,
    METRICS,
    REASONINGS,
    SEMANTIC_IDS,
    VALID_METRICS,
)
from reason4rec.systems.gream.options import Prompts, Questions, Restating, Rows, TextUsers
from reason4rec.systems.gream.pasts import Past, training_parts, window
from reason4rec.systems.twice_rec.artifacts import ITEMS, SEQUENCES
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.options import Split
from reason4rec.systems.twice_rec.step import RecommenderStep

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.systems.gream.reasoning import Target
    from reason4rec.systems.gream.rule_texts import RuleTexts
    from reason4rec.systems.gream.semantic_ids import SemanticIds


class GeneratorStep(RecommenderStep):
    """A step of GREAM."""

    @cached_property
    def dataset(self) -> facts.Dataset:
        """The facts of the dataset."""
        return facts.get(self.common.dataset)

    @cached_property
    def pasts(self) -> list[Past]:
        """The training parts of all users, only those of the first `--limit` users in a trial."""
        return training_parts(self.sequences)[: self.common.limit]

    def text_pasts(self) -> list[Past]:
        """The training parts of the users who get texts: as many as are asked for, drawn at random."""
        every, wanted = self.pasts, self[TextUsers].text_users
        if wanted is None or wanted >= len(every):
            return every
        drawn = np.random.default_rng(self.common.seed).choice(len(every), wanted, replace=False)
        return [every[place] for place in sorted(drawn)]

    def reasoning_targets(self, most: int | None = None) -> "list[Target]":
        """The training targets that are reasoned towards, `most` of them drawn at random; InputError without any."""
        from reason4rec.systems.gream.reasoning import FIRST, targets

        if found := targets(self.pasts, most, self.common.seed):
            return found
        raise InputError(
            f"{self.path(SEQUENCES)}: no training part has {FIRST + 1} items, so that there is nothing to reason "
            f"towards; run with --no-reasoned, or make longer sequences of other data"
        )

    def reasonings(self) -> pd.DataFrame:
        """The reasonings to learn, only those on the first `--limit` users in a trial; none where rows lack them."""
        if not self[Rows].reasoned:
            return pd.DataFrame(columns=REASONINGS.columns)
        kept = self.read(REASONINGS)
        # Without a limit, a user who is not known is a mistake, which is told where the rows are made.
        return kept[kept["user_id"].isin([past.user_id for past in self.pasts])] if self.common.limit else kept

    def described(self) -> Catalogue:
        """The catalogue with the descriptions that step G/1 wrote."""
        from reason4rec.systems.gream.texts import described

        return described(self.read(ITEMS), self.read(ITEM_TEXTS))

    @cached_property
    def ids(self) -> "SemanticIds":
        """The semantic ids; InputError where an item of the catalogue has none."""
        found = self.read(SEMANTIC_IDS)
        for item in self.catalogue:
            if item.item_id not in found.by_item:
                raise InputError(
                    f"{self.path(SEMANTIC_IDS)}: item {item.item_id[:40]} has no semantic id; run "
                    f"GREAM/3_semantic_ids.py again"
                )
        return found

    @cached_property
    def id_texts(self) -> dict[str, str]:
        """The semantic id of each item as a model reads and writes it."""
        return {item.item_id: self.ids.text_of(item.item_id) for item in self.catalogue}

    def on(self, artifact: Artifact) -> Artifact:
        """The artifact of the split that --split names, in the place of that of the test."""
        valid = Split in self.options and self[Split].split == "valid"
        return {METRICS: VALID_METRICS}.get(artifact, artifact) if valid else artifact

    def next_item(
        self, histories: Sequence[Sequence[Event]], mode: str, wording: int | None = None
    ) -> Sequence[Prompt]:
        """The question for the next item after each history, in a mode of `prompts`.

        Without a `wording` each prompt has one of its own, drawn at random.
        """
        n = len(prompts.wordings(prompts.SEQREC, self.templates))
        drawn = np.random.default_rng(self.common.seed).integers(n, size=len(histories)).tolist()
        ask = partial(prompts.next_item, mode=mode, folder=self.templates, restates=self[Restating].restate_history)
        shown = [[self.id_texts[event.item_id] for event in window(of, len(of))] for of in histories]
        return OnDemand(
            lambda history, number: ask(history, wording=number),
            shown,
            drawn if wording is None else [wording] * len(histories),
        )

    def prompts_of(self, cases: Sequence[Case], lists: Mapping[str, tuple[str, ...]], task: str) -> Sequence[Prompt]:
        """The question for the next item of each case, in the mode `task`; there are no lists of candidates here."""
        return self.next_item([case.history for case in cases], task, wording=0)

    def asked(self, make: Callable[..., Sequence[Prompt]], *of: object) -> Sequence[Prompt]:
        """The teacher's prompts that a function makes, as the options of prompts say."""
        return make(*of, cut=self[Prompts].cut, folder=self.templates)

    def rule_teacher(self) -> "RuleTexts":
        """The rules that write texts and reasonings."""
        from reason4rec.systems.gream.rule_texts import RuleTexts

        return RuleTexts(self.common.seed, self.templates)

    @property
    def learned_to_reason(self) -> bool:
        """Whether the rows that are there have reasonings among them, by their record."""
        return settings_of(self.path(INSTRUCT_ROWS)).get("reasoned", True)

    def check_prompts(self) -> None:
        """InputError unless prompts can be made of the templates, and are such as the generator has learned."""
        restates, record = self[Restating].restate_history, read_record(self.path(INSTRUCT_ROWS))
        prompts.check(self.templates, restates)
        learned = record["made_from"]["settings"].get("restate_history", True) if record else restates
        if learned != restates:
            raise InputError(
                f"--{'' if restates else 'no-'}restate_history: the generator learned answers the other way; pass "
                f"--{'' if learned else 'no-'}restate_history, or run GREAM/6_construct_train_data.py with it again"
            )

    @property
    def templates(self) -> Path:
        """The folder of the prompt templates."""
        return self[Prompts if Prompts in self.options else Questions].folder

    def _load(self, name: str) -> "LanguageModel":
        # The base with the new tokens lies beside the adapter, wherever both were moved to since the training.
        path, base = self.path(adapter(name)), self.path(BASE)
        if not base.exists():
            raise self.pipeline.missing(base, BASE)
        if why := staleness.of_base(self, name):
            raise InputError(f"{path}: {why}")
        return self.load_here(adapter_settings(path) | {"base_model": str(base)}, path)

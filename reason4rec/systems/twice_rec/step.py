"""A step of TWiCE-Rec: its catalogue, the cases of a split with their candidates, and the prompts on them."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data import candidates, sequences
from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.llm.step import ModelStep
from reason4rec.run.files import Artifact
from reason4rec.run.records import settings_of
from reason4rec.systems.twice_rec import facts, prompts, tables
from reason4rec.systems.twice_rec.artifacts import (
    CANDIDATES,
    INSTRUCT_ROWS,
    ITEMS,
    METRICS,
    RANK_COLUMNS,
    SEQUENCES,
    VALID_METRICS,
)
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.options import Cases, Prompts, Split

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.rule_rationales import RuleRationales


class RecommenderStep(ModelStep):
    """A step of TWiCE-Rec."""

    @cached_property
    def dataset(self) -> facts.Dataset:
        """The facts of the dataset."""
        return facts.get(self.common.dataset)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended."""
        return Catalogue(self.read(ITEMS))

    @cached_property
    def sequences(self) -> pd.DataFrame:
        """The sequences of all users."""
        return self.read(SEQUENCES)

    def cases(self, split: str) -> list[Case]:
        """The case of each user in a split, only those of the first `--limit` users in a trial."""
        return sequences.cases(self.sequences, split)[: self.common.limit]

    def drawn(self, split: str, wanted: int | None) -> list[Case]:
        """As many cases of a split as are wanted, drawn at random, in their order; all if None."""
        cases = self.cases(split)
        if wanted is None or wanted >= len(cases):
            return cases
        places = np.random.default_rng(self.common.seed).choice(len(cases), wanted, replace=False)
        return [cases[place] for place in sorted(places)]

    def judged_cases(self, split: str) -> list[Case]:
        """The cases of a split that all models are judged on."""
        return self.drawn(split, self[Cases].cases)

    def on(self, artifact: Artifact) -> Artifact:
        """The artifact of the split that --split names, in the place of that of the test."""
        valid = Split in self.options and self[Split].split == "valid"
        return {METRICS: VALID_METRICS}.get(artifact, artifact) if valid else artifact

    def candidates(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The list of each user in a split, in the order in which prompts show it."""
        return candidates.lists(self._lists, split)

    @cached_property
    def _lists(self) -> pd.DataFrame:
        frame = self.read(CANDIDATES)
        tables.check_lists(frame, self.sequences, str(self.path(CANDIDATES)))
        return frame

    def read_file(self, path: Path) -> pd.DataFrame:
        """The table of ranks in a file that is no artifact of the dataset; InputError if it cannot be used."""
        return tables.read(path.parent, Artifact(path.name, RANK_COLUMNS))

    def prompts_of(self, cases: Sequence[Case], lists: Mapping[str, tuple[str, ...]], task: str) -> Sequence[Prompt]:
        """The prompt of a task for each case; InputError where a user has no list."""
        if absent := next((case.user_id for case in cases if case.user_id not in lists), None):
            raise InputError(f"{self.path(CANDIDATES)}: no list for user {absent}; run TWiCE_Rec/2_candidates.py again")
        shown = self[Prompts]
        ask = partial(
            prompts.recommend, self.catalogue, task=task, fields=shown.fields, cut=shown.cut, folder=shown.folder
        )
        return OnDemand(ask, [case.history for case in cases], [lists[case.user_id] for case in cases])

    def check_prompts(self) -> None:
        """InputError unless prompts are made as those that the recommender has learned, by the record of its rows."""
        learned = settings_of(self.path(INSTRUCT_ROWS))
        for name, value in self[Prompts].recorded().items():
            if learned.get(name, value) != value:
                shown = "" if name == "prompts" else f" ({learned[name]})"
                raise InputError(
                    f"{self.path(INSTRUCT_ROWS)} was made with other --{name}{shown}, so that the recommender learned "
                    f"other prompts; pass the same here, or make the rows and train again"
                )

    def rule_teacher(self) -> "RuleRationales":
        """The rules that write rationales."""
        from reason4rec.systems.twice_rec.rule_rationales import RuleRationales

        return RuleRationales(self.common.seed, self.templates)

    @property
    def templates(self) -> Path:
        """The folder of the prompt templates."""
        return self[Prompts].folder

"""A teacher that answers by rules in this process: no server, no key, no price. `--teacher_model rules` names it.

It reads the same prompts as any teacher and answers in the same form: three lines for a review, a paragraph for two
histories, led to the true rating where the prompt has that as a hint. The same prompt, seed and draw get the same
answer, so that nothing is kept on disk. It cannot judge reasons or predict ratings. Our decision: the paper has
ChatGPT.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.llm.options import RULE_TEACHER, RULES
from reason4rec.llm.prompt import fields_of, read_back, template
from reason4rec.run.progress import progress
from reason4rec.systems.reason4rec.prompts import FOLDER
from reason4rec.systems.reason4rec.rule_teacher.reasons import reason_of, summary_of
from reason4rec.systems.reason4rec.rule_teacher.vocabulary import Vocabulary, learn

__all__ = ["RuleTeacher", "Vocabulary", "learn", "reason_of", "summary_of"]

# The fields of the templates that an answer is made from.
READ = {"summarizer": {"rating", "review"}, "reasoner": {"title", "user_history", "item_history"}, "hint": {"rating"}}


class RuleTeacher:
    """Answers as `llm.teacher.Teacher` does, by rules.

    `vocabulary` is asked for once, when the first review comes. `templates` is the folder that the prompts were made
    with; InputError where they lack what is read in a prompt.
    """

    model = RULES
    client = None

    def __init__(self, vocabulary: Callable[[], Vocabulary], seed: int = 0, templates: Path = FOLDER):
        for name, needed in READ.items():
            if missing := sorted(needed - fields_of(name, templates)):
                raise InputError(
                    f"--teacher_model {RULES}: reads {{{missing[0]}}} in a prompt, which {templates / name}.txt lacks; "
                    f"put it in, or name another teacher"
                )
        if not template("hint", templates).partition("{")[0].strip():
            raise InputError(
                f"--teacher_model {RULES}: finds a hint by its first words, and {templates / 'hint'}.txt begins with "
                f"a field; put words before it, or name another teacher"
            )
        self._learn, self.seed, self.templates = vocabulary, seed, templates
        self.refused: dict[str, str] = {}
        self.replies = 0

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The nouns of the dataset's training reviews."""
        return self._learn()

    def ask(
        self,
        prompts: Sequence[str],
        temperature: float,
        draw: int = 0,
        quiet: bool = False,
        is_usable: Callable[[str], bool] = bool,
    ) -> list[str]:
        """One answer per prompt, in their order; temperature and form need no attention here.

        InputError for a prompt that asks for neither a summary nor a reason.
        """
        replies = []
        with progress(f"asking the {RULE_TEACHER}", len(prompts), "prompt", quiet or not prompts) as bar:
            for prompt in prompts:
                replies.append(self._answer(prompt, draw))
                bar.update()
        self.replies += len(replies)
        return replies

    def stop(self, why: str = "interrupted") -> None:
        """Nothing is in flight that had to be ended."""

    def usage(self) -> dict[str, object]:
        """What a step shows of it: its name and its replies; there are no requests, and there is no price."""
        return {"teacher": RULE_TEACHER, "replies": self.replies}

    def _answer(self, prompt: str, draw: int) -> str:
        if review := read_back("summarizer", prompt, self.templates):
            return summary_of(review["review"], self._rating(review, "summarizer"), self.vocabulary)
        prompt_, hint = self._without_hint(prompt)
        histories = read_back("reasoner", prompt_, self.templates)
        if not histories:
            raise InputError(
                f"--teacher_model {RULES}: it writes summaries (1/1) and reasons (2/4); to judge reasons or to predict "
                f"ratings, name another teacher"
            )
        digest = hashlib.sha256(f"{self.seed}\n{draw}\n{prompt}".encode(errors="replace")).digest()
        rng = random.Random(int.from_bytes(digest[:8]))
        return reason_of(histories["title"], histories["user_history"], histories["item_history"], rng, hint)

    def _without_hint(self, prompt: str) -> tuple[str, float | None]:
        """A prompt without the hint at its end, and the rating in the hint."""
        start = prompt.rfind(template("hint", self.templates).partition("{")[0])
        hint = read_back("hint", prompt[start:], self.templates) if start >= 0 else None
        return (prompt[:start], self._rating(hint, "hint")) if hint else (prompt, None)

    def _rating(self, fields: dict[str, str], name: str) -> float:
        try:
            return float(fields["rating"])
        except ValueError:
            raise InputError(
                f"--teacher_model {RULES}: reads {fields['rating'][:20]!r} as a rating of {self.templates / name}.txt; "
                f"put words or a new line between its fields"
            ) from None

"""Phrases by which a rationale betrays that its writer knew the choice, or that the history does not speak for it.

A rationale that is learned from must be one that somebody could write before the choice. The patterns of hindsight were
made on 100 rationales of the released data, which a large model wrote with the choice in view. They find it in 97,
rightly where they were read by eye: the 19 that one pattern alone finds, and 20 whole texts. Of the other three, one
takes the item for one of the history, and two read as if the choice were open. The patterns of a weak link find 8,
rightly. On other texts they were not measured. They know English alone, and words, not sense: whether "the user bought"
is said of an item in the history or of the one to recommend, they cannot see. Our decision.
"""

import re

_TOOK = "bought|purchased|chose|chosen|ordered|selected|picked|took|taken|opted|settled|acquired"
_THING = "item|product|purchase|choice|selection|one|option|book|album"

HINDSIGHT = {
    # The next purchased item, X, aligns with this.
    "next purchased item": rf"next (?:{_TOOK})\b",
    # The next item, X, aligns with this. Left alone is: the next item should be sweet.
    "the next item": rf"(?:the|this|their) next (?:{_THING})\b(?! (?:should|could|might|may|would|will|can|to)\b)",
    # The user went on to buy X; which led the user to X.
    "went on to": r"(?:went|goes) on to\b|(?:ended|ends) up\b|(?:led|leading|brought) (?:them|(?:the|this) \w+) to\b",
    # The user ultimately chose X.
    "in the end": rf"(?:ultimately|eventually|finally|subsequently|in the end|later|then)(?: \w+ly)? (?:{_TOOK})\b",
    # The user likely bought X for its taste; this likely influenced the user.
    "likely bought": r"(?:likely|probably|presumably|(?:may|might|must|could) have)(?: been| also)* "
    rf"(?:{_TOOK}|led|influenced|motivated|prompted|drove|driven|encouraged|inspired|contributed|appreciated)\b",
    # The decision to buy X was driven by this.
    "the decision": r"decision (?:to|was|is)\b|decided (?:to|on)\b",
    # The purchase of X is a logical extension. Left alone is: the purchase of X shows a liking for nuts.
    "the purchase of it": r"(?:the|this|such a) (?:\w+ )?(?:purchase|choice|selection|acquisition)"
    r"(?: of (?:(?!, which)[^.]){1,150}?)? (?:is|was|aligns|represents|makes|seems|fits|follows|appears|serves"
    r"|(?:can|could|may|would) be|complements|resonates|reinforces|reflects|emphasi[sz]es)\b",
    # This supports the reasoning for their purchase; it leads to their purchase of X; why the user chose X.
    "why it was bought": rf"why (?:they|(?:the|this) \w+) (?:\w+ly )?(?:{_TOOK})\b"
    r"|(?:reason\w*|rationale|explanation|leads?|led|explains?) (?:(?:for|behind|to) )?(?:the|this|their|its) "
    r"(?:\w+ )?(?:purchase|choice|selection|decision)",
    # The chosen item shares this. Left alone is: a previously purchased item.
    "the chosen item": rf"(?<!previously )(?:chosen|selected|purchased|target|actual|correct) (?:{_THING})\b",
    # The transition from tea to coffee shows a wish for variety.
    "the transition": r"(?:the|this) (?:transition|shift|departure|switch|move|progression) (?:from|to|in|towards?)\b",
    # As it turned out; with hindsight; as given in the task.
    "told": r"turned out|(?:in|with) hindsight|ground truth|as (?:given|stated|told) (?:in|by) the (?:task|prompt)",
}
WEAK_LINK = {
    "unrelated": r"unrelated\b",
    # It does not directly relate to the nuts.
    "not directly related": r"(?:not|n't)(?: \w+ly)? (?:relate|related|connect|connected)\b",
    "no direct connection": r"(?:no|little|lacks? a) (?:direct|clear|obvious|logical|strong|apparent|immediate) "
    r"(?:\w+ )?(?:link|connection|relation\w*)",
    "may seem odd": r"at first glance|(?:may|might) (?:at first |initially )?(?:seem|appear) "
    r"(?:odd|surprising|unusual|different|strange|unexpected)",
    "departure": r"(?:departure|diverg\w+|deviat\w+) from\b|contrasts? with\b|shift in focus",
}


def _compiled(patterns: dict[str, str]) -> dict[str, re.Pattern]:
    return {name: re.compile(rf"\b(?:{pattern})", re.IGNORECASE) for name, pattern in patterns.items()}


_HINDSIGHT, _WEAK_LINK = _compiled(HINDSIGHT), _compiled(WEAK_LINK)


def hindsight(rationale: str) -> tuple[str, ...]:
    """The names of the patterns of hindsight that a rationale has; none where it reads as if the choice were open."""
    return _found(_HINDSIGHT, rationale)


def weak_link(rationale: str) -> tuple[str, ...]:
    """The names of the patterns by which a rationale admits that the history hardly speaks for the item."""
    return _found(_WEAK_LINK, rationale)


def _found(patterns: dict[str, re.Pattern], text: str) -> tuple[str, ...]:
    text = " ".join(text.replace("’", "'").split())
    return tuple(name for name, pattern in patterns.items() if pattern.search(text))

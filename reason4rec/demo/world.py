"""A synthetic world of listeners and albums in which a rating depends on the match of the two.

Every user looks for three aspects of an album; every album does three aspects well and three badly. A rating
rises with each wanted aspect that is done well and falls with each that is done badly, so neither the user's nor
the item's average explains it. Reviews are written from these facts by a varied grammar, in Amazon's raw format.
Our decision throughout: the paper has no synthetic data.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

USERS, ITEMS = 480, 160  # of the demo
CHOOSING_USERS = 900  # of the demo of sequences
TASTE, RENOWN = 1.5, 0.9
ASPECTS = (
    "melody",
    "chorus",
    "voice",
    "rhythm",
    "guitar",
    "bass",
    "piano",
    "tempo",
    "mood",
    "energy",
    "production",
    "artwork",
)
GOOD_WORDS = (
    "gorgeous",
    "superb",
    "lovely",
    "brilliant",
    "wonderful",
    "excellent",
    "striking",
    "flawless",
    "beautiful",
    "memorable",
)
BAD_WORDS = (
    "dull",
    "weak",
    "clumsy",
    "awful",
    "lifeless",
    "boring",
    "sloppy",
    "forgettable",
    "annoying",
    "poor",
)
WANT_SENTENCES = (
    "For me it is all about the {a}.",
    "I always listen for the {a} first.",
    "What I want from a record is good {a}.",
    "Nothing matters more to me than {a}.",
    "I care a lot about {a}.",
    "I buy records for their {a}.",
    "My taste is simple: give me {a}.",
)
WANT_TWO_SENTENCES = (
    "I look for {a} and {b} above all.",
    "I care about {a} as much as about {b}.",
    "For me a record needs {a} and {b}.",
)
GOOD_SENTENCES = (
    "The {a} is {good}.",
    "I loved the {a}.",
    "What {good} {a}!",
    "The {a} really shines here.",
    "You will hear {good} {a} on every track.",
    "It has {good} {a} from start to end.",
)
GOOD_TWO_SENTENCES = (
    "The {a} and the {b} are both {good}.",
    "I loved the {a} and the {b}.",
    "It has {good} {a} and {good2} {b}.",
)
BAD_SENTENCES = (
    "The {a} is {bad}.",
    "Sadly the {a} falls flat.",
    "I could not stand the {a}.",
    "The {a} sounds {bad} to my ears.",
    "It suffers from {bad} {a}.",
    "Too bad that they got the {a} so wrong.",
)
BAD_TWO_SENTENCES = (
    "The {a} and the {b} are both {bad}.",
    "It suffers from {bad} {a} and {bad2} {b}.",
)
MIXED_SENTENCES = (
    "The {a} is {good}, but the {b} is {bad}.",
    "I loved the {a}, but the {b} falls flat.",
    "While the {b} is {bad}, the {a} is {good}.",
)
FILLERS = (
    "A friend told me to try it.",
    "I played it twice on the train.",
    "It came in a plain sleeve.",
    "I found it in a small shop last week.",
    "My brother has the same one.",
    "We heard it at a party.",
    "It runs for about forty minutes.",
    "I have had it for a month now.",
)
CLOSINGS = {
    1: ("I want my money back.", "I will never play it again.", "Stay away from it."),
    2: ("I doubt that I will play it again.", "Not for me.", "I had hoped for more."),
    3: ("It is all right.", "I may play it now and then.", "Neither here nor there."),
    4: ("I am glad that I bought it.", "I will play it often.", "Well worth a try."),
    5: ("One of my favourites this year.", "I cannot stop playing it.", "I want everyone to hear it."),
}
FIRST_DAY = datetime(2012, 1, 1, tzinfo=UTC)
TITLE_FIRST = (
    "Amber Ancient Autumn Blue Broken Burning Copper Crimson Crystal Distant Electric Empty Endless Fading Foreign "
    "Frozen Gentle Golden Hidden Hollow Iron Ivory Little Lonely Lost Lunar Midnight Neon Northern Pale Paper Quiet "
    "Restless Rising Rusty Sacred Scarlet Secret Silent Silver Sleeping Solar Stolen Velvet Violet Wandering Wild "
    "Winter"
).split()
TITLE_SECOND = (
    "Arrows Avenue Bells Bridges Candles Canyon Carnival Castle Circus City Clouds Coast Dreams Echoes Embers Empire "
    "Fields Fire Forest Garden Ghosts Harbor Highway Horizon Island Kingdom Lanterns Letters Machines Meadow Mirrors "
    "Mountain Ocean Orchard Palace Parade Rain River Roses Shadows Signals Sky Smoke Stars Station Storm Tides Valley"
).split()


@dataclass(frozen=True)
class World:
    """The facts behind the reviews: who looks for what, and what each item does well and badly.

    `wanted` is (users, 3), `strong` and `weak` are (items, 3), all as sorted indices into `ASPECTS`; `user_bias` and
    `item_bias` are in rating points; `titles` has one text per item.
    """

    wanted: np.ndarray
    strong: np.ndarray
    weak: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    titles: list[str]


def make_world(n_users: int, n_items: int, rng: np.random.Generator) -> World:
    """Draw users and items. At most 2,304 items, so that every title is distinct (ValueError above)."""
    if n_items > len(TITLE_FIRST) * len(TITLE_SECOND):
        raise ValueError(f"at most {len(TITLE_FIRST) * len(TITLE_SECOND)} items have distinct titles, not {n_items}")
    wanted = np.sort([rng.choice(len(ASPECTS), 3, replace=False) for _ in range(n_users)], axis=1)
    qualities = np.array([rng.choice(len(ASPECTS), 6, replace=False) for _ in range(n_items)])
    pairs = rng.choice(len(TITLE_FIRST) * len(TITLE_SECOND), n_items, replace=False)
    titles = [f"{TITLE_FIRST[p // len(TITLE_SECOND)]} {TITLE_SECOND[p % len(TITLE_SECOND)]}" for p in pairs]
    return World(
        wanted=wanted,
        strong=np.sort(qualities[:, :3], axis=1),
        weak=np.sort(qualities[:, 3:], axis=1),
        user_bias=rng.normal(0, 0.3, n_users),
        item_bias=rng.normal(0, 0.2, n_items),
        titles=titles,
    )


def rate(world: World, user: int, item: int, rng: np.random.Generator) -> int:
    """The rating, 1 to 5, that a user gives an item: averages, match and a little noise."""
    wanted = set(world.wanted[user])
    met, missed = len(wanted & set(world.strong[item])), len(wanted & set(world.weak[item]))
    value = 3.2 + world.user_bias[user] + world.item_bias[item] + met - 1.1 * missed + rng.normal(0, 0.3)
    return int(np.clip(np.rint(value), 1, 5))


def write_review(world: World, user: int, item: int, rating: int, rng: np.random.Generator) -> str:
    """A review text that names some of what the user wants and some of what the item does well or badly."""

    def pick(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    def some(aspects: np.ndarray, chance: float) -> list[str]:
        return [ASPECTS[a] for a in rng.permutation(aspects) if rng.random() < chance]

    def words() -> dict[str, str]:
        good, good2 = rng.choice(len(GOOD_WORDS), 2, replace=False)
        bad, bad2 = rng.choice(len(BAD_WORDS), 2, replace=False)
        return {"good": GOOD_WORDS[good], "good2": GOOD_WORDS[good2], "bad": BAD_WORDS[bad], "bad2": BAD_WORDS[bad2]}

    def sentences(aspects: list[str], single: tuple[str, ...], double: tuple[str, ...]) -> list[str]:
        written = []
        while aspects:
            if len(aspects) > 1 and rng.random() < 0.5:
                written.append(pick(double).format(a=aspects.pop(), b=aspects.pop(), **words()))
            else:
                written.append(pick(single).format(a=aspects.pop(), **words()))
        return written

    wants = some(world.wanted[user], 0.6) or [ASPECTS[rng.choice(world.wanted[user])]]
    good, bad = some(world.strong[item], 0.65), some(world.weak[item], 0.65)
    opinions = []
    if good and bad and rng.random() < 0.4:
        opinions.append(pick(MIXED_SENTENCES).format(a=good.pop(), b=bad.pop(), **words()))
    opinions += sentences(good, GOOD_SENTENCES, GOOD_TWO_SENTENCES) + sentences(bad, BAD_SENTENCES, BAD_TWO_SENTENCES)
    body = sentences(wants, WANT_SENTENCES, WANT_TWO_SENTENCES) + opinions
    if rng.random() < 0.4:
        body.append(pick(FILLERS))
    body = [body[k] for k in rng.permutation(len(body))]
    return " ".join(body + [pick(CLOSINGS[rating])])


def raw_records(n_users: int, n_items: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Reviews, oldest first, and metadata of a world, as records with the fields of Amazon's dumps of 2014.

    A user writes 5 reviews and more, 10 on average, of distinct items, on days of three years.
    """
    rng = np.random.default_rng(seed)
    world = make_world(n_users, n_items, rng)
    users = [f"A{rng.integers(36**9):0>12}" for _ in range(n_users)]
    items = [f"B{rng.integers(10**8):0>9}" for _ in range(n_items)]
    reviews = []
    for user in range(n_users):
        for item in rng.choice(n_items, min(n_items, 5 + rng.poisson(5)), replace=False):
            rating = rate(world, user, item, rng)
            day = FIRST_DAY + timedelta(days=int(rng.integers(3 * 365)))
            reviews.append(
                {
                    "reviewerID": users[user],
                    "asin": items[item],
                    "helpful": [0, 0],
                    "reviewText": write_review(world, user, int(item), rating, rng),
                    "overall": float(rating),
                    "summary": "",
                    "unixReviewTime": int(day.timestamp()),
                    "reviewTime": day.strftime("%m %d, %Y"),
                }
            )
    reviews.sort(key=lambda review: review["unixReviewTime"])
    return reviews, [
        {"asin": items[item], "title": world.titles[item], "description": describe(world, item)}
        for item in range(n_items)
    ]


def chosen_records(n_users: int, n_items: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Sequences of what users chose, and the items, as records that `data.sequences.read_ready` reads.

    Here users choose by their taste and by how known an item is, 7 to 12 items each: a choice has a chance in
    proportion to exp(TASTE for each wanted aspect that the item does well, less that for each that it does badly, plus
    the item's renown). So a count of the items says something about the next choice, and a user's history says more.
    """
    rng = np.random.default_rng(seed)
    world = make_world(n_users, n_items, rng)
    renown = rng.normal(0, RENOWN, n_items)
    likes = np.array([[len(set(wanted) & set(strong)) for strong in world.strong] for wanted in world.wanted])
    dislikes = np.array([[len(set(wanted) & set(weak)) for weak in world.weak] for wanted in world.wanted])
    drawn = TASTE * (likes - dislikes) + renown + rng.gumbel(size=(n_users, n_items))
    sequences = []
    for user in range(n_users):
        most = min(12, 7 + int(rng.poisson(1.5)))
        chosen = rng.permutation(np.argsort(-drawn[user], kind="stable")[:most])
        ratings = [rate(world, user, int(item), rng) for item in chosen]
        texts = [write_review(world, user, int(item), rating, rng) for item, rating in zip(chosen, ratings)]
        sequences.append({"user": f"U{user:04d}", "items": chosen.tolist(), "ratings": ratings, "reviews": texts})
    items = [
        {"item_id": item, "asin": f"B{item:03d}", "title": world.titles[item], "description": describe(world, item)}
        for item in range(n_items)
    ]
    return sequences, [item | {"details": ""} for item in items]


def describe(world: World, item: int) -> str:
    """What a shop says of an item: the aspects that it does well, and none of the others."""
    first, second, third = (ASPECTS[a] for a in world.strong[item])
    return f"{first}, {second} and {third}"


def as_frame(reviews: list[dict], metadata: list[dict]) -> pd.DataFrame:
    """What `raw_records` gives as a table with the columns of every split, in the same order."""
    titles = {record["asin"]: record["title"] for record in metadata}
    columns = {"user_id": "reviewerID", "item_id": "asin", "ratings": "overall", "reviews": "reviewText"}
    frame = pd.DataFrame({ours: [review[name] for review in reviews] for ours, name in columns.items()})
    frame["title"] = frame["item_id"].map(titles)
    frame["unixReviewTime"] = [review["unixReviewTime"] for review in reviews]
    return frame

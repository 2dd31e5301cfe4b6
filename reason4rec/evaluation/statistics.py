"""Comparison of models on the same rows by any metric, where the rows of one user are not independent.

A metric is one number per row, such as an absolute error, a hit or an NDCG. Intervals draw users with all their rows,
and a paired test swaps two models on all rows of a user at once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from reason4rec.run.progress import counted

RESAMPLES = 9_999
LEVEL = 0.95
IN_MEMORY = 2_000_000  # numbers of a batch of resamples

Aggregate = Callable[[np.ndarray], np.ndarray]
"""What is applied to each mean over rows, element by element and increasing: `np.sqrt` makes RMSE of squared errors."""


def compare(
    values: Mapping[str, np.ndarray],
    users: np.ndarray,
    against: str | None = None,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    what: str = "paired tests",
) -> list[dict]:
    """One row for each model: `model`, `n`, `seeds`, `value`, and the ends `low` and `high` of its 95% interval.

    `values` has for each model its (seeds, n) values, `users` the (n,) numbers of the rows' users from 0. A value is
    the mean over the seeds of each seed's own mean over the rows, to which `aggregate` is applied. The rows of all
    models but `against` also hold it, the model's value less its value (`difference`), the ends of the interval
    (`difference_low`, `difference_high`), `p` of `paired_p`, and `p_corrected`, Holm's over all of them. Values are
    None where there are no rows, intervals where there are fewer than two users. Progress is shown as `what`.
    """
    names, n = list(values), len(users)
    reference = names.index(against) if against else 0
    ends = intervals(list(values.values()), users, seed, reference, aggregate, resamples)
    table = [
        {"model": name, "n": n, "seeds": len(of_model), "value": _value(of_model, aggregate) if n else None}
        | {"low": ends[0, 0, k], "high": ends[0, 1, k]}
        for k, (name, of_model) in enumerate(values.items())
    ]
    if against is None or not n:
        return table
    others = [k for k in range(len(names)) if k != reference]
    p = [paired_p(values[names[k]], values[against], users, seed, resamples) for k in counted(others, what, "model")]
    for k, raw, corrected in zip(others, p, holm(p)):
        table[k] |= {
            "against": against,
            "difference": table[k]["value"] - table[reference]["value"],
            "difference_low": ends[1, 0, k],
            "difference_high": ends[1, 1, k],
            "p": raw,
            "p_corrected": float(corrected),
        }
    return table


def mean(values: np.ndarray, groups: Sequence[object], seed: int) -> dict[str, float | int | None]:
    """The mean `value` of (n,) values that are there, its interval `low` to `high` as in `compare`, and their `n`.

    A value that is NaN is not there. `groups` names for each value whose it is, such as its user.
    """
    there = ~np.isnan(values)
    numbers, _ = pd.factorize(np.asarray(groups, dtype=object)[there])
    (row,) = compare({"": values[there][None]}, numbers, seed=seed)
    return {key: row[key] for key in ("value", "low", "high", "n")}


def intervals(
    values: Sequence[np.ndarray],
    users: np.ndarray,
    seed: int,
    reference: int = 0,
    aggregate: Aggregate | None = None,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """(2, 2, models) ends of 95% intervals of each model's value and of its value less that of model `reference`.

    `values`, `users` and `aggregate` are those of `compare`. The ends are percentiles of a bootstrap that draws users
    with all their rows, the same for all models and, with the same `seed`, for all metrics. They are None where there
    are fewer than two users.
    """
    from scipy.stats import bootstrap

    n_users = users.max(initial=-1) + 1
    if n_users < 2:
        return np.full((2, 2, len(values)), None)
    model_of_run = np.repeat(np.arange(len(values)), [len(of_seeds) for of_seeds in values])
    mean_over_seeds = (model_of_run == np.arange(len(values))[:, None]) / np.bincount(model_of_run)[:, None]
    columns = [*np.concatenate(values), np.ones(len(users))]
    sums = np.column_stack([np.bincount(users, column, n_users) for column in columns])

    def resampled(drawn: np.ndarray, axis: int) -> np.ndarray:
        # How often each user was drawn is all that the sums need: much quicker than to gather the rows.
        drawn_sums = np.stack([np.bincount(row, minlength=n_users) for row in drawn]) @ sums
        means = (drawn_sums[:, :-1] / drawn_sums[:, -1:]).T
        of_models = mean_over_seeds @ (means if aggregate is None else aggregate(means))
        return np.stack([of_models, of_models - of_models[reference]])

    interval = bootstrap(
        (np.arange(n_users),),
        resampled,
        confidence_level=LEVEL,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // n_users),
        vectorized=True,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return np.stack([interval.low, interval.high], axis=1).astype(object)


def paired_p(
    values: np.ndarray, of_other: np.ndarray, users: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> float:
    """The two-sided p of the mean difference of two models' (seeds, n) values on the same rows.

    A permutation test: were the two models interchangeable, a coin would decide the sign of each user's summed
    difference. It is about the very difference that a table shows, while Wilcoxon's test is about ranks; and unlike
    the t-test it needs no normal distribution. With one seed an increasing function of the means, such as the root of
    squared errors, has the same p. The least p is 2 / (resamples + 1).
    """
    from scipy.stats import monte_carlo_test

    # Rounded, because the last digits of sums in another order can all have the same sign.
    differences = np.bincount(users, values.mean(axis=0) - of_other.mean(axis=0)).round(9)
    rng = np.random.default_rng(seed)
    # scipy's permutation_test would do the same 30 times slower.
    test = monte_carlo_test(
        np.ones(len(differences)),
        lambda size: rng.integers(0, 2, size, dtype=np.int8) * 2.0 - 1.0,
        lambda signs, axis: signs @ differences,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // len(differences)),
    )
    return float(test.pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """(n,) p-values corrected for their number: that one of them is below a level by chance is below that level."""
    p = np.asarray(p, dtype=float)
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _value(values: np.ndarray, aggregate: Aggregate | None) -> float:
    return float(values.mean() if aggregate is None else aggregate(values.mean(axis=1)).mean())

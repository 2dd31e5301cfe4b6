"""Intervals and paired tests of errors, where the rows of one user are not independent.

Intervals draw users with all their rows, and a paired test swaps two models on all rows of a user at once.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 9_999
LEVEL = 0.95
IN_MEMORY = 2_000_000  # numbers of a batch of resamples


def intervals(
    absolute: Sequence[np.ndarray], users: np.ndarray, seed: int, reference: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """(3, 2, models) ends of 95% intervals of MAE, RMSE and MAE less that of the model in place `reference`.

    `absolute` has for each model its (seeds, n) absolute errors, `users` the (n,) numbers of the rows' users from 0.
    Percentiles of a bootstrap that draws users with all their rows, the same for all models. None where there are
    fewer than two users.
    """
    from scipy.stats import bootstrap

    n_users = users.max(initial=-1) + 1
    if n_users < 2:
        return np.full((3, 2, len(absolute)), None)
    runs = np.concatenate(absolute)
    of_model = np.repeat(np.arange(len(absolute)), [len(of_seeds) for of_seeds in absolute])
    mean_over_seeds = (of_model == np.arange(len(absolute))[:, None]) / np.bincount(of_model)[:, None]
    columns = [*runs, *runs**2, np.ones(len(users))]
    sums = np.column_stack([np.bincount(users, column, n_users) for column in columns])

    def errors(drawn: np.ndarray, axis: int) -> np.ndarray:
        # How often each user was drawn is all that the sums need: much quicker than to gather the rows.
        drawn_sums = np.stack([np.bincount(row, minlength=n_users) for row in drawn]) @ sums
        absolute_mean, squared_mean = np.split((drawn_sums[:, :-1] / drawn_sums[:, -1:]).T, 2)
        mae, rmse = mean_over_seeds @ absolute_mean, mean_over_seeds @ np.sqrt(squared_mean)
        return np.stack([mae, rmse, mae - mae[reference]])

    found = bootstrap(
        (np.arange(n_users),),
        errors,
        confidence_level=LEVEL,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // n_users),
        vectorized=True,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return np.stack([found.low, found.high], axis=1).astype(object)


def paired_p(
    absolute: np.ndarray, of_other: np.ndarray, users: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> float:
    """The two-sided p of the mean difference of two models' (seeds, n) absolute errors on the same rows.

    A permutation test: were the two models interchangeable, a coin would decide the sign of each user's summed
    difference. It is about the very difference that the table shows, while Wilcoxon's test is about ranks; and unlike
    the t-test it needs no normal distribution. The least p is 2 / (resamples + 1).
    """
    from scipy.stats import monte_carlo_test

    # Rounded, because the last digits of sums in another order can all have the same sign.
    differences = np.bincount(users, absolute.mean(axis=0) - of_other.mean(axis=0)).round(9)
    rng = np.random.default_rng(seed)
    # scipy's permutation_test would do the same 30 times slower.
    found = monte_carlo_test(
        np.ones(len(differences)),
        lambda size: rng.integers(0, 2, size, dtype=np.int8) * 2.0 - 1.0,
        lambda signs, axis: signs @ differences,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // len(differences)),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """(n,) p-values corrected for their number: that one of them is below a level by chance is below that level."""
    p = np.asarray(p, dtype=float)
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected

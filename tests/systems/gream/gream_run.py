"""A run of GREAM on a few dozen users of the demo's world, and its scripts run as a user does, in this process."""

from functools import partial

import toy_run

from reason4rec.systems.gream.pipeline import PIPELINE

DATASET, places = toy_run.DATASET, toy_run.places
put_choices = partial(toy_run.put_choices, users=24, items=40)
step_of = partial(toy_run.step_of, pipeline=PIPELINE)
run = partial(toy_run.run, pipeline=PIPELINE)

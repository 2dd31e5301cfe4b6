"""What a trainer does beside training: it marks whole checkpoints, and shows how far it is."""

import time
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback

from reason4rec.run.progress import Bar
from reason4rec.training.trainer import COMPLETE


class MarkComplete(TrainerCallback):
    """Marks a checkpoint when all processes have written their part of it."""

    def on_save(self, args, state, control, **_):
        # Each process writes its own random state.
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class SaveByTime(TrainerCallback):
    """Asks for a checkpoint when the last one is so many minutes old, beside those that the epochs may end with.

    Only after a number of steps that `every` divides, such as one after which nothing drawn is left to learn from.
    """

    def __init__(self, minutes: float, epochs_are_saved: bool = True, every: int = 1):
        self.seconds, self.saved, self.every = 60 * minutes, time.monotonic(), every
        self.epochs_are_saved = epochs_are_saved

    def on_train_begin(self, args, state, control, **_):
        self.saved = time.monotonic()

    def on_step_end(self, args, state, control, **_):
        processes = PartialState()
        due = time.monotonic() - self.saved >= self.seconds
        if processes.num_processes > 1:
            # All must save at one step, and their clocks differ.
            due = gather_object([due])[0]
        # At the end of an epoch it is saved anyway; the second time would write over a checkpoint that is whole.
        is_saved = self.epochs_are_saved and float(state.epoch).is_integer()
        if due and not is_saved and state.global_step % self.every == 0 and state.global_step < state.max_steps:
            control.should_save = True

    def on_epoch_end(self, args, state, control, **_):
        # A training that ends within an epoch would take one step more when it goes on from its end.
        if not float(state.epoch).is_integer():
            control.should_save = False

    def on_save(self, args, state, control, **_):
        self.saved = time.monotonic()


class Progress(TrainerCallback):
    """Shows the step, epoch, loss and learning rate, and the time that is left."""

    bar: Bar | None = None

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            self.bar = Bar("training", state.max_steps, "step", initial=state.global_step)

    def on_step_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **_):
        if self.bar is not None and logs and "loss" in logs:
            rate = f"{logs['learning_rate']:.2g}"
            shown = f"epoch {state.epoch:.2f} of {state.num_train_epochs:g}, loss {logs['loss']:.4f}, lr {rate}"
            self.bar.set_postfix_str(shown, refresh=False)

    def on_train_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.close()
            self.bar = None

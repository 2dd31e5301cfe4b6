"""What a trainer does beside training: it marks whole checkpoints, and shows how far it is."""

from pathlib import Path

from accelerate import PartialState
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

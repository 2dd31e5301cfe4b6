"""Training in two processes, on the CPU: losses and weights as in one, one voice, one writer, one that is resumed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from test_sft import command, rows_for, run
from torch.utils.data import BatchSampler

from reason4rec.run import files, records
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.training import sft
from reason4rec.training.batches import Filled

ROOT = Path(__file__).parents[2]
CHANGES = {"adapter": "Predictor", "epochs": 3, "batch_size": 4}
N_ROWS = 9  # so that in the last step of an epoch one process has a row and the other has none

# Cut off when the second epoch's checkpoint is due, run again, run once more when it is complete, and without its rows.
WORKER = """
import sys
from pathlib import Path
from transformers import Trainer
sys.path[:0] = ["tests/training", "tests", "."]
from test_sft import run
from reason4rec.systems.reason4rec.train import main

save_checkpoint, saved = Trainer._save_checkpoint, []

def dies_at_the_second(*args):
    saved.append(1)
    if len(saved) == 2:
        raise KeyboardInterrupt
    save_checkpoint(*args)

flags = sys.argv[1:]
Trainer._save_checkpoint = dies_at_the_second
try:
    run(flags)
except KeyboardInterrupt:
    print("CUT", flush=True)
Trainer._save_checkpoint = save_checkpoint
run(flags)
run(flags)
main(["--adapter=Summarizer", *flags[1:]])
"""


@pytest.fixture(scope="module")
def launched(base, tmp_path_factory):
    """The folder of a training in two processes, and what each of them said."""
    root = tmp_path_factory.mktemp("two")
    arguments = rows_and_arguments(base, root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            cwd=ROOT,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return root, said, [process.returncode for process in processes]


def rows_and_arguments(base, root, **changes):
    arguments = command(base, root, **CHANGES, **changes)
    path = root / "data/Demo_data" / EXPERTS["Predictor"].rows.path
    files.write_pickle(path, rows_for("Predictor", N_ROWS))
    return arguments


def test_two_processes_train_as_one_does_in_two_parts_although_they_were_cut_off(base, launched, tmp_path):
    run(rows_and_arguments(base, tmp_path, gradient_accumulation=2))
    one, two = (root / "checkpoints/Demo_data/Predictor" for root in (tmp_path, launched[0]))
    curves = [json.loads((folder / "loss_curve.json").read_text()) for folder in (one, two)]
    for name in ("step", "loss", "learning_rate", "grad_norm"):
        values = [[entry[name] for entry in curve] for curve in curves]
        assert values[1] == pytest.approx(values[0], rel=2e-3), name
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=2e-4, rtol=0)
    settings = json.loads((two / "settings.json").read_text())
    assert (settings["processes"], settings["sharded"], settings["gradient_accumulation"]) == (2, False, 1)
    assert records.read_record(two)["sha256"] == files.sha256(two)
    assert not sft.training_folder(two).exists()


def test_one_of_several_processes_speaks_for_all(launched):
    _, said, _ = launched
    lines = said[0][0].splitlines()
    assert said[1][0].splitlines() == ["CUT"]
    assert sum(line.startswith("engine=transformers, device=cpu, processes=2") for line in lines) == 2
    assert sum(line.startswith("[Predictor] rows in 9") for line in lines) == 1
    assert sum(line.startswith("complete:") for line in lines) == 1


def test_an_error_in_all_processes_is_said_once_and_ends_all(launched):
    _, said, codes = launched
    errors = [[line for line in err.splitlines() if line.startswith("error:")] for _, err in said]
    assert codes == [2, 2]
    assert [len(lines) for lines in errors] == [1, 0]
    assert "is missing: 1_Summarizer/" in errors[0][0]


LEFT = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
OF_ACCELERATE = {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "fp16", "FSDP_VERSION": "2"}


def started_with(variables, seconds=100):
    """What a process says that starts to train on the CPU with these variables in its environment, and its exit."""
    code = (
        "from reason4rec.training import processes, sft; processes.MEETING = 2; "
        "state = processes.started('cpu'); print(state.num_processes, sft.is_sharded())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in LEFT} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    "left",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
        {"LOCAL_RANK": "0", "RANK": "0"},
        {name: value for name, value in LEFT.items() if name != "MASTER_PORT"},
        LEFT | {"RANK": "3"},
        LEFT | {"WORLD_SIZE": ""},
        OF_ACCELERATE,
    ],
    ids=lambda left: "-".join(left.values()),
)
def test_a_plain_command_waited_for_processes_that_a_variable_left_in_the_environment_promised(left):
    code, said, _ = started_with(left)
    assert code == 0
    assert said[-1] == "1 False"
    assert len(said) == 2 and said[0].startswith("note: ") and next(iter(left)) in said[0]


def test_a_process_whose_others_do_not_come_ends_in_one_line():
    code, _, errors = started_with(LEFT)
    assert code == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "WORLD_SIZE is 2" in line


def test_a_launcher_may_start_one_process():
    code, said, _ = started_with(LEFT | {"WORLD_SIZE": "1", "ACCELERATE_USE_CPU": "true"})
    assert (code, said) == (0, ["1 False"])


@pytest.mark.parametrize("name", ["ddp", "fsdp_qlora"])
def test_the_configurations_are_ones_that_accelerate_reads(name):
    config = load_config_from_file(str(ROOT / f"configs/accelerate/{name}.yaml"))
    assert config.mixed_precision == "bf16"
    assert config.num_processes > 1


def test_a_blank_row_fills_what_the_processes_lack_and_each_row_comes_once():
    filled = Filled(9, 12)
    orders = []
    for epoch in range(2):
        filled.set_epoch(epoch)
        orders.append(list(filled))
    assert len(filled) == 12
    assert [order[9:] for order in orders] == [[9, 9, 9]] * 2
    assert [sorted(order[:9]) for order in orders] == [list(range(9))] * 2
    assert orders[0] != orders[1]


def test_several_processes_take_the_rows_in_their_order_step_by_step():
    """Each step of all processes together has the rows that a single process takes in it."""
    whole = BatchSampler(Filled(9, 12, in_order=True), 2, drop_last=False)
    shards = [list(BatchSamplerShard(whole, num_processes=3, process_index=one)) for one in range(3)]
    steps = [[row for batch in of_step for row in batch] for of_step in zip(*shards, strict=True)]
    assert steps == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 9, 9]]

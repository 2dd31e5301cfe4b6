"""Model cards: what they say of an adapter, what they keep to themselves, and the upload to a stand-in for the hub."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from helpers import ROOT, complaint, serving
from huggingface_hub import ModelCard

from reason4rec.errors import InputError
from reason4rec.llm.known_bases import ON_THE_HUB, sha256_of
from reason4rec.run import files, locks, records
from reason4rec.systems.reason4rec import artifacts, facts, model_card, sharing
from reason4rec.training.sft import settings_of

TOKEN = "hf_made_up"
RECIPE = model_card.EXPERTS["Predictor"].recipe
CURVE = [{"step": k, "epoch": k / 4, "loss": 2 / k, "learning_rate": 1e-3, "grad_norm": 1.0} for k in range(1, 9)]


def put(path, content, inputs=None, **settings):
    """Puts an output with its record, as a step would."""
    provenance = {"inputs": inputs or {}, "settings": settings}
    if isinstance(content, dict) and path.suffix == "":
        for name, text in content.items():
            files.write_text(path / name, text)
        records.write_record(path, provenance, files.sha256(path))
    else:
        records.write_recorded(path, content, provenance)
    return records.read_record(path)["sha256"]


def put_adapter(root, name="Predictor", dataset="Music_data", base_model=facts.LLAMA_3_8B, inputs=None, **more):
    """Puts a complete adapter with its record, as a training would; the sha256 of its folder."""
    settings = settings_of(name, RECIPE, base_model, 4096) | {"seed": 42, "limit": None} | more
    content = {
        "adapter_model.safetensors": "weights",
        "adapter_config.json": json.dumps({"base_model_name_or_path": str(base_model), "r": 8}),
        "settings.json": json.dumps(settings | {"start_from": f"{root}/other"}),
        "loss_curve.json": json.dumps(CURVE),
        "README.md": "what peft writes",
        "tokenizer.json": "{}",
    }
    return put(root / "checkpoints" / dataset / name, content, inputs, **settings)


def words_of(root, *more, dataset="Music_data"):
    roots = ("--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    return [str(word) for word in ("--dataset", dataset, *roots, *more)]


def card_of(root, name="Predictor", dataset="Music_data"):
    model_card.card(words_of(root, "--adapter", name, dataset=dataset))
    return ModelCard.load(root / "checkpoints" / dataset / f"{name}.README.md")


def put_run(root, predictor):
    """Puts the files of a whole run that ended in a table of errors, each with the record of what it came from."""
    folder = root / "data" / "Music_data"
    teacher = put(folder / artifacts.TEACHER_SUMMARIES.path, b"texts", teacher_model="gpt-4o-mini")
    summarizer = put_adapter(root, "Summarizer", inputs={artifacts.TEACHER_SUMMARIES.path: teacher})
    summaries = put(folder / artifacts.SUMMARIES.path, b"summaries", {"Summarizer": summarizer})
    inputs = {artifacts.SUMMARIES.path: summaries, "Predictor": predictor}
    ratings = put(folder / artifacts.TEST_RATINGS.path, b"ratings", inputs)
    table = (ROOT / "results" / "Demo_data" / "metrics.json").read_bytes()
    put(folder / artifacts.METRICS.path, table, {artifacts.TEST_RATINGS.path: ratings})


def test_a_card_has_the_form_of_the_hub_and_says_how_the_adapter_was_trained(tmp_path):
    put_adapter(tmp_path)
    card = card_of(tmp_path)
    assert card.data.base_model == "unsloth/llama-3-8b-Instruct-bnb-4bit"
    assert (card.data.library_name, card.data.license, card.data.eval_results) == ("peft", "llama3", None)
    assert "from 2.0000 at step 1 to 0.2500 at step 8" in card.text
    assert f"| lr | `{RECIPE.lr}` |" in card.text and "| lm_head | `true` |" in card.text
    assert "transformers 5" in card.text and "about 64" in card.text
    assert "No evaluation" in card.text and "Built with Meta Llama 3" in card.text and "McAuley" in card.text


def test_every_known_base_has_a_licence():
    assert set(ON_THE_HUB.values()) | {"smollm2-135m", facts.DEMO_BASE} <= set(model_card.LICENCES)
    assert set(model_card.ON_THE_HUB) <= set(model_card.LICENCES)


@pytest.mark.parametrize("name", ["Predictor", "Summarizer"])
def test_errors_of_a_run_with_this_very_adapter_stand_on_its_card(tmp_path, name):
    put_run(tmp_path, put_adapter(tmp_path))
    card = card_of(tmp_path, name)
    results = {(one.dataset_name, one.metric_name): one.metric_value for one in card.data.eval_results}
    assert results["Music_data, all test rows", "MAE (stars) of the whole system"] == pytest.approx(0.6169)
    assert results["Music_data, all test rows", "MAE (stars) of the whole system, median"] == pytest.approx(0.5828)
    assert "0.6169 [0.5665, 0.6684]" in card.text and "whole system" in card.text
    assert "summaries by `gpt-4o-mini`" in card.text


def test_rows_of_a_single_user_have_no_interval_and_ended_the_card():
    row = {"model": "Reason4Rec", "rows": "warm", "n": 3, "unusable": 0, "unit": "stars", "mae": 0.5, "rmse": 0.75}
    row |= {"mae_low": None, "mae_high": None, "rmse_low": None, "rmse_high": None}
    assert "| 0.5000 | 0.7500 |" in model_card.results([row])


def test_errors_of_another_adapter_do_not_stand_on_a_card(tmp_path):
    put_run(tmp_path, "0" * 64)
    put_adapter(tmp_path)
    assert card_of(tmp_path).data.eval_results is None
    assert card_of(tmp_path, "Summarizer").data.eval_results
    # A table that was changed by hand is nobody's.
    path = tmp_path / "data" / "Music_data" / artifacts.METRICS.path
    path.write_bytes(path.read_bytes() + b" ")
    assert card_of(tmp_path, "Summarizer").data.eval_results is None


def test_rows_are_counted_in_their_file_if_it_is_the_one_that_was_learned_from(tmp_path):
    rows = tmp_path / "data" / "Music_data" / artifacts.PREDICTOR_ROWS.path
    message = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    files.write_pickle(rows, [message] * 70)
    put_adapter(tmp_path, inputs={artifacts.PREDICTOR_ROWS.path: files.sha256(rows)})
    assert "Training rows: 70\n" in card_of(tmp_path).text
    files.write_pickle(rows, [message] * 71)
    assert "Training rows: about 64 (" in card_of(tmp_path).text


def test_no_path_of_this_machine_stands_on_a_card_or_in_what_is_shared(tmp_path, base):
    folder = shutil.copytree(base, tmp_path / "models" / "tiny")
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    put_adapter(tmp_path, base_model=str(folder))
    card = card_of(tmp_path)
    assert "`tiny`, a folder" in card.text and card.data.base_model is None and card.data.license is None
    path = tmp_path / "checkpoints" / "Music_data" / "Predictor"
    shared = sharing.shared_files(model_card.read(path, tmp_path / "data" / "Music_data"))
    texts = [str(card), *(one if isinstance(one, bytes) else one.read_bytes() for one in shared.values())]
    assert not [text for text in map(str, texts) if str(tmp_path) in text]
    assert json.loads(shared["settings.json"])["base_sha256"] == sha256_of(folder)


def test_the_demos_card_says_what_it_is(tmp_path, base):
    put_adapter(tmp_path, dataset="Demo_data", base_model=base, limit=16)
    card = card_of(tmp_path, dataset="Demo_data")
    assert "made up" in card.text and "1.1 million" in card.text and "--limit 16" in card.text
    assert "`reason4rec/demo/base`" in card.text and str(ROOT) not in str(card)


def test_a_card_leaves_its_adapter_complete(tmp_path):
    put_adapter(tmp_path)
    path = tmp_path / "checkpoints" / "Music_data" / "Predictor"
    card_of(tmp_path)
    assert records.read_record(path)["sha256"] == files.sha256(path)
    assert (path / "README.md").read_text() == "what peft writes"


def test_an_adapter_that_is_missing_incomplete_or_changed_has_no_card(tmp_path):
    folder = tmp_path / "checkpoints" / "Music_data"
    with pytest.raises(InputError, match="Predictor is missing: 3_Predictor/2_predictor_train.sh writes it"):
        model_card.read(folder / "Predictor", tmp_path)
    put_adapter(tmp_path)
    (folder / "Predictor" / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="not as its training left it"):
        model_card.read(folder / "Predictor", tmp_path)
    records.record_path(folder / "Predictor").unlink()
    with pytest.raises(InputError, match="no record"):
        model_card.read(folder / "Predictor", tmp_path)
    put(folder / "Reasoner", {"settings.json": "{}"}, base_model="any")
    with pytest.raises(InputError, match="Reasoner: is no adapter"):
        model_card.read(folder / "Reasoner", tmp_path)


class Hub(ThreadingHTTPServer):
    """The few addresses of the hub by which a repository is made and gets a commit, over LFS for weights."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.made, self.objects, self.commits, self.asked = [], {}, [], []


class Asked(BaseHTTPRequestHandler):
    """A request to `Hub`."""

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, **headers):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self):  # noqa: N802
        self.server.objects[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self):  # noqa: N802
        path, body = self.path.partition("?")[0], self.body()
        self.server.asked.append(path)
        if path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---")[1])
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = {
                one["path"]: "lfs" if one["path"].endswith(".safetensors") else "regular"
                for one in json.loads(body)["files"]
            }
            self.answer(
                {"files": [{"path": one, "uploadMode": mode, "shouldIgnore": False} for one, mode in modes.items()]}
            )
        elif path.endswith(".git/info/lfs/objects/batch"):
            actions = [
                one | {"actions": {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": actions})
        elif "/commit/" in path:
            self.server.commits.append([json.loads(line) for line in body.splitlines()])
            place = f"{self.server.address}/{self.server.made[-1]['organization']}/{self.server.made[-1]['name']}"
            self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{place}/commit/{'0' * 40}"})
        else:
            self.answer({"error": f"not known here: {path}"}, 404)

    def create(self, wanted):
        if wanted["organization"] != "someone":
            message = f"You don't have the rights to create a model under the namespace {wanted['organization']}"
            self.answer({"error": message}, 403, **{"X-Error-Message": message})
            return
        self.server.made.append(wanted)
        self.answer({"url": f"{self.server.address}/someone/{wanted['name']}"})


def pushed(root, hub, repo="someone/predictor", adapter="Predictor", token=TOKEN):
    """Runs the command that uploads an adapter, with a home without any token."""
    known = {"HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {name: value for name, value in known.items() if value} | {"HF_HOME": str(root / "home")}
    command = [sys.executable, "-m", "reason4rec.systems.reason4rec.model_card"]
    words = words_of(root, "--push", repo, *(("--adapter", adapter) if adapter else ()))
    return subprocess.run(
        [*command, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_an_adapter_is_uploaded_with_its_card_in_one_commit_to_a_private_repository(tmp_path):
    put_adapter(tmp_path)
    path = tmp_path / "checkpoints" / "Music_data" / "Predictor"
    (path / ".hidden").write_text("of another program")
    with serving(Hub()) as hub:
        done = pushed(tmp_path, hub.address)
        assert done.returncode == 0, done.stderr
    assert [(one["name"], one["organization"], one["visibility"]) for one in hub.made] == [
        ("predictor", "someone", "private")
    ]
    (commit,) = hub.commits
    header, *rest = commit
    assert header["value"]["summary"] == "Predictor of Reason4Rec on Music_data"
    sent = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in rest if one["key"] == "file"}
    large = {one["value"]["path"]: hub.objects[one["value"]["oid"]] for one in rest if one["key"] == "lfsFile"}
    assert large == {"adapter_model.safetensors": b"weights"}
    assert hashlib.sha256(b"weights").hexdigest() in hub.objects
    names = {"README.md", "adapter_config.json", "settings.json", "loss_curve.json", "tokenizer.json"}
    assert set(sent) == names
    assert sent["README.md"] == path.with_name("Predictor.README.md").read_bytes()
    assert json.loads(sent["adapter_config.json"])["base_model_name_or_path"] == facts.LLAMA_3_8B
    assert "start_from" not in json.loads(sent["settings.json"])
    assert f"{hub.address}/someone/predictor" in done.stdout and TOKEN not in done.stdout + done.stderr
    assert not locks.lock_path(path).exists()


def test_what_the_hub_refuses_is_one_line(tmp_path):
    put_adapter(tmp_path)
    with serving(Hub()) as hub:
        said = complaint(pushed(tmp_path, hub.address, token="hf_wrong"))
        assert "someone/predictor" in said and "hf_wrong" not in said
        assert "under the namespace nobody" in complaint(pushed(tmp_path, hub.address, repo="nobody/predictor"))
    assert not hub.commits
    # The server is gone.
    assert "someone/predictor" in complaint(pushed(tmp_path, hub.address))


@pytest.mark.parametrize(
    ("fault", "given"),
    [
        ("no token", {"token": ""}),
        ("a/b/c: no name of a repository", {"repo": "a/b/c"}),
        ("named with --adapter", {"adapter": ""}),
        ("not as its training left it", {}),
        ("Reasoner is missing", {"adapter": "Reasoner"}),
    ],
)
def test_what_cannot_be_uploaded_is_one_line_before_anything_is_sent(tmp_path, fault, given):
    put_adapter(tmp_path)
    if not given:
        path = tmp_path / "checkpoints" / "Music_data" / "Predictor" / "adapter_model.safetensors"
        path.write_text("half")
    with serving(Hub()) as hub:
        assert fault in complaint(pushed(tmp_path, hub.address, **given))
    assert not hub.asked

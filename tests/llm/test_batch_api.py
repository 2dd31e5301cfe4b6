"""The teacher's requests as a batch: written, answered by a service, read back; the same replies as live."""

import json
import random
import threading

import pytest
from helpers import files_in
from test_teacher import KEY, STAND_IN, Moody, kept_in, reasons, serving, summaries

from reason4rec.demo import stand_in
from reason4rec.errors import InputError
from reason4rec.llm import base, batch_api
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.teacher import BatchPending, Teacher

MODEL = "gpt-4o-mini"
USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path):
    store = ResponseCache(tmp_path / "cache" / "replies.sqlite")
    yield store
    store.close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "batch" / "requests.jsonl"


def export(store, file, asked, temperature=0.2, draw=0, model=STAND_IN, seed=0):
    """The requests written for what is missing."""
    with pytest.raises(BatchPending) as caught:
        Teacher(store, model, seed=seed, export=file).ask(asked, temperature, draw)
    (written,) = caught.value.teacher.write_export()
    assert written[0] == file
    return [json.loads(line) for line in file.read_text().splitlines()]


def completion(text, finish="stop", **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": USAGE}


def result(request, body=None, status=200, error=None):
    """A line of results as OpenAI writes it, answered by the stand-in's rule."""
    if body is None and error is None:
        asked = request["body"]
        body = completion(stand_in.answer(asked["messages"][0]["content"], asked["temperature"], asked["seed"]))
    response = body and {"status_code": status, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": error}


def of_vllm(request, text=None, error=None, status=400):
    """A line of results as `vllm run-batch` (0.33.0) writes it."""
    body = {**completion(text, service_tier=None), "prompt_logprobs": None, "kv_transfer_params": None}
    body["choices"][0] |= {"logprobs": None, "stop_reason": None, "token_ids": None}
    response = {"status_code": status if error else 200, "request_id": "vllm-batch-1", "body": None if error else body}
    return {"id": "vllm-1", "custom_id": request["custom_id"], "response": response, "error": error}


def write(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)
    return path


def importing(store, path, **options):
    """A teacher without a key that has read results, and what it counted."""
    teacher = Teacher(store, **{"model": STAND_IN, "export": path.with_name("next.jsonl"), **options})
    return teacher, teacher.import_batch(path)


def test_a_line_is_a_request_of_openais_batches_with_the_body_of_a_live_one(store, file, monkeypatch):
    asked = summaries(2)
    lines = export(store, file, asked, 0.2, draw=3, seed=40)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Moody()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        Teacher(store, STAND_IN, seed=40).ask(asked, 0.2, draw=3)
        live = server.asked
    by_prompt = lambda body: body["messages"][0]["content"]  # noqa: E731
    assert sorted((line["body"] for line in lines), key=by_prompt) == sorted(live, key=by_prompt)
    assert lines[0]["body"]["seed"] == 43
    for line in lines:
        assert list(line) == ["custom_id", "method", "url", "body"]
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert isinstance(store.get(line["custom_id"]), str)


@pytest.mark.parametrize("draw", [0, 1, 10])
@pytest.mark.parametrize("writer", [result, lambda line: of_vllm(line, answered(line))])
def test_a_round_trip_gives_what_live_asking_gives_and_requests_nothing(store, file, monkeypatch, draw, writer):
    asked = [*reasons(6), *summaries(6), *reasons(2)]
    lines = [writer(line) for line in export(store, file, asked, 1.0, draw, seed=42)]
    random.Random(1).shuffle(lines)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Moody()) as server:
        # The stand-in is one server in the keys, wherever it listens.
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        teacher = Teacher(store, STAND_IN, seed=42)
        teacher.import_batch(write(file.with_name("results.jsonl"), lines))
        replies = teacher.ask(asked, 1.0, draw)
        assert server.asked == []
        other = ResponseCache(store.path.with_name("live.sqlite"))
        assert Teacher(other, STAND_IN, seed=42).ask(asked, 1.0, draw) == replies
        assert len(server.asked) == 12
        other.close()
    assert teacher.usage()["requests"] == 0
    assert kept_in(store) == 12


def answered(line):
    asked = line["body"]
    return stand_in.answer(asked["messages"][0]["content"], asked["temperature"], asked["seed"])


def test_the_same_requests_give_the_same_bytes_in_whatever_order_they_are_met(store, file):
    asked = summaries(20)
    export(store, file, asked)
    first = file.read_bytes()
    with pytest.raises(BatchPending) as caught:
        Teacher(store, STAND_IN, export=file).ask([*asked[10:], *asked[:10], *asked[:5]], 0.2)
    teacher = caught.value.teacher
    with pytest.raises(BatchPending, match="20 replies"):
        teacher.ask(asked[:3], 0.2)
    assert teacher.write_export() == [(file, 20)]
    assert file.read_bytes() == first
    assert set(files_in(file.parent)) == {file.name}


def test_only_what_is_missing_is_exported_and_with_nothing_missing_the_replies_come(store, file):
    asked = summaries(5)
    store_lines = export(store, file, asked[:3])
    teacher, _ = importing(store, write(file.with_name("results.jsonl"), map(result, store_lines)))
    assert teacher.ask(asked[:3], 0.2) == [stand_in.answer(prompt, 0.2, 0) for prompt in asked[:3]]
    assert len(export(store, file, asked)) == 2


def test_a_batch_of_more_than_a_window_is_whole_and_replies_to_later_windows_alone_count(store, file, monkeypatch):
    monkeypatch.setattr(base, "WINDOW", 4)
    asked = summaries(10)
    lines = {line["body"]["messages"][0]["content"]: line for line in export(store, file, asked)}
    assert lines.keys() == set(asked)
    answered = [result(lines[prompt]) for prompt in asked[7:]]
    teacher, _ = importing(store, write(file.with_name("results.jsonl"), answered), export=file)
    with pytest.raises(BatchPending, match="7 replies"):
        teacher.ask(asked, 0.2)


def test_a_thread_whose_prompts_match_no_reply_of_a_batch_took_back_the_match_of_another(store, file, monkeypatch):
    """A valid --batch_import was refused, and the run with it."""
    asked = summaries(4)
    lines = export(store, file, asked)
    importing(store, write(file.with_name("first.jsonl"), map(result, lines[:1])))[0].ask(asked[:0], 0.2)
    kept, answered, *missing = (line["body"]["messages"][0]["content"] for line in lines)
    teacher, _ = importing(store, write(file.with_name("second.jsonl"), [result(lines[1])]))
    keys_of, begun, matched = teacher._keys, threading.Event(), threading.Event()

    def keys(prompts, *settings):
        if list(prompts) == [kept]:
            begun.set()
            assert matched.wait(20)
        return keys_of(prompts, *settings)

    monkeypatch.setattr(teacher, "_keys", keys)
    slow = threading.Thread(target=teacher.ask, args=([kept], 0.2))
    slow.start()
    assert begun.wait(20)
    assert teacher.ask([answered], 0.2) == [stand_in.answer(answered, 0.2, 0)]
    matched.set()
    slow.join(20)
    with pytest.raises(BatchPending, match="2 replies"):
        teacher.ask(missing, 0.2)


def test_no_request_is_sent_in_an_export_even_with_a_key_and_a_server(store, file, monkeypatch):
    with serving(Moody()) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        export(store, file, summaries(3))
        assert server.asked == []
    assert KEY not in file.read_text()


def test_the_keys_of_an_export_depend_on_the_server_as_those_of_live_requests_do(store, file, monkeypatch):
    at_openai = export(store, file, summaries(1), model=MODEL)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    assert export(store, file, summaries(1), model=MODEL) == at_openai
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert export(store, file, summaries(1), model=MODEL)[0]["custom_id"] != at_openai[0]["custom_id"]
    monkeypatch.setenv("OPENAI_BASE_URL", "nonsense")
    with pytest.raises(InputError, match="OPENAI_BASE_URL"):
        Teacher(store, MODEL, export=file)


@pytest.mark.parametrize("limit", ["requests", "bytes"])
def test_what_does_not_fit_into_one_file_goes_into_further_ones(store, file, monkeypatch, limit):
    asked = summaries(10)
    whole = export(store, file, asked)
    longest = max(map(len, file.read_bytes().splitlines(keepends=True)))
    monkeypatch.setattr(batch_api, *(("BATCH_REQUESTS", 4) if limit == "requests" else ("BATCH_BYTES", 4 * longest)))
    with pytest.raises(BatchPending) as caught:
        Teacher(store, STAND_IN, export=file).ask(asked, 0.2)
    written = caught.value.teacher.write_export()
    assert [path.name for path, _ in written] == ["requests.jsonl", "requests-2.jsonl", "requests-3.jsonl"]
    assert [count for _, count in written] == [4, 4, 2]
    assert [json.loads(line) for path, _ in written for line in path.read_text().splitlines()] == whole
    assert all(path.stat().st_size <= 4 * longest for path, _ in written)
    monkeypatch.undo()
    export(store, file, asked)
    assert set(files_in(file.parent)) == {"requests.jsonl"}, "parts of an earlier export would be paid for again"


def test_the_limits_are_openais():
    assert (batch_api.BATCH_REQUESTS, batch_api.BATCH_BYTES) == (50_000, 200_000_000)


def test_half_a_character_in_a_prompt_would_spoil_the_file_for_the_service(store, file):
    half = "Great \ud83d album"
    lines = export(store, file, [half, *summaries(1)])
    assert [line["body"]["messages"][0]["content"] for line in lines] == summaries(1)


def test_lines_of_results_in_any_order_some_failed_some_unknown_are_counted(store, file, capsys):
    asked = summaries(12)
    lines = export(store, file, asked)
    results = [
        result(lines[0]),
        result(lines[0]),
        result(lines[1], error={"code": "batch_expired", "message": f"late {KEY}"}),
        result(lines[2], {"error": {"code": "server_error", "message": f"oops {KEY}"}}, 500),
        result(lines[3], {"error": {"code": "content_filter", "message": "no"}}, 400),
        result(lines[4], completion(None)),
        result(lines[5], completion("Cut of", "length")),
        result(lines[6], completion(None, refusal="I'm sorry.")),
        of_vllm(lines[7], error={"error": {"message": f"no {KEY}", "type": "BadRequestError", "code": 400}}),
        of_vllm(lines[8], error="URL is not a supported endpoint"),
        result(lines[9], {"choices": "none"}),
        of_vllm(lines[10], error={"error": {"message": "This model's maximum context length is 9", "code": 400}}),
        {**result(lines[11]), "custom_id": "row 7"},
        "",
    ]
    teacher, counts = importing(store, write(file.with_name("results.jsonl"), results), model=MODEL)
    assert counts.pop("cut off") == 0
    assert counts == {"taken": 1, "kept before": 0, "refused": 4, "failed": 5, "empty": 1, "unknown": 1}
    (said,) = capsys.readouterr().out.splitlines()
    for part in ("1 replies taken", "4 refused", "5 failed", "1 batch_expired", "1 empty", "1 unknown"):
        assert part in said
    assert KEY not in said
    kept = {line["custom_id"]: store.get(line["custom_id"]) for line in lines}
    reasons_kept = [value["refused"] for value in kept.values() if isinstance(value, dict)]
    assert sorted(reasons_kept) == sorted(
        ["400 content_filter", "cut at 1024 tokens", "a refusal by the model", "400 context_length_exceeded"]
    )
    assert sum(isinstance(value, str) for value in kept.values()) == 1
    assert len(export(store, file, asked)) == 7


def test_a_good_line_wins_over_a_failed_one_of_the_same_request(store, file):
    (line,) = export(store, file, summaries(1))
    failed = result(line, {"error": {"code": "server_error"}}, 500)
    teacher, _ = importing(store, write(file.with_name("results.jsonl"), [failed, result(line), failed]))
    assert teacher.ask(summaries(1), 0.2) == [stand_in.answer(summaries(1)[0], 0.2, 0)]


def test_a_reply_that_is_kept_stays_and_a_refusal_gives_way_to_a_reply(store, file):
    asked = summaries(2)
    lines = {line["custom_id"]: line for line in export(store, file, asked)}
    first, second = lines
    store.put({first: "Kept.", second: {"refused": "content_filter"}})
    teacher, counts = importing(store, write(file.with_name("results.jsonl"), map(result, lines.values())))
    assert (counts["taken"], counts["kept before"]) == (1, 1)
    assert store.get(first) == "Kept."
    assert isinstance(store.get(second), str)
    assert teacher.batch_replies == 1


def test_results_in_a_folder_are_all_read(store, file, tmp_path):
    asked = summaries(6)
    lines = export(store, file, asked)
    folder = tmp_path / "results"
    write(folder / "output.jsonl", map(result, lines[:4]))
    write(folder / "errors.jsonl", [result(lines[4], {"error": {"code": "content_filter"}}, 400)])
    write(folder / "notes.txt", ["not JSON"])
    _, counts = importing(store, folder)
    assert (counts["taken"], counts["refused"]) == (4, 1)


def test_a_file_of_refusals_alone_counts_once_the_teacher_has_answered(store, file):
    asked = summaries(40)
    lines = export(store, file, asked)
    refused = [result(line, {"error": {"code": "content_filter"}}, 400) for line in lines[:30]]
    path = write(file.with_name("errors.jsonl"), refused)
    teacher, _ = importing(store, path)
    with pytest.raises(InputError, match="refused the first 30 prompts"):
        teacher.ask(asked, 0.2)
    assert kept_in(store) == 0
    importing(store, write(file.with_name("results.jsonl"), map(result, lines[30:])))
    teacher, _ = importing(store, path)
    replies = teacher.ask(asked, 0.2)
    assert sum(reply is None for reply in replies) == len(teacher.refused) == 30
    assert kept_in(store) == 40


def test_a_last_line_that_is_cut_off_is_counted_and_the_others_taken(store, file, capsys):
    lines = [json.dumps(result(line)) for line in export(store, file, summaries(3))]
    _, counts = importing(store, write(file.with_name("results.jsonl"), [*lines[:2], lines[2][:100]], end=""))
    assert (counts["taken"], counts["cut off"]) == (2, 1)
    assert "1 cut off" in capsys.readouterr().out
    _, counts = importing(store, write(file.with_name("results.jsonl"), lines, end=""))
    assert counts["taken"] == 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not JSON", "not JSON"),
        ('{"custom_id": "' + "a" * 64, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no custom_id"),
        ('{"id": "x"}', "no custom_id"),
        ('{"custom_id": 7}', "no custom_id"),
        ('{"custom_id": "a", "method": "POST", "url": "/v1", "body": {}}', "a request, not a result"),
        (json.dumps({"custom_id": "a" * 64, "response": "x"}), "its response is no object"),
    ],
)
def test_a_line_that_is_no_result_is_named_by_its_number(store, file, line, complaint):
    good = [result(each) for each in export(store, file, summaries(2))]
    path = write(file.with_name("results.jsonl"), [*good, "", line, good[0]])
    with pytest.raises(InputError, match=complaint) as caught:
        importing(store, path)
    assert f"{path}, line 4" in str(caught.value)


def test_a_file_without_any_reply_is_one_complaint_with_the_reason(store, file):
    lines = export(store, file, summaries(3))
    failed = [result(line, {"error": {"code": "model_not_found", "message": KEY}}, 404) for line in lines]
    with pytest.raises(InputError, match="3 404 model_not_found") as caught:
        importing(store, write(file.with_name("results.jsonl"), failed))
    assert KEY not in str(caught.value)
    with pytest.raises(InputError, match="no results in it"):
        importing(store, write(file.with_name("results.jsonl"), [""]))
    with pytest.raises(InputError, match="no such file"):
        importing(store, file.with_name("absent.jsonl"))
    (file.parent / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*\.jsonl"):
        importing(store, file.parent / "empty")


def test_results_of_another_step_or_model_ended_in_paying_twice(store, file):
    lines = export(store, file, summaries(3), model="gpt-4o")
    path = write(file.with_name("results.jsonl"), map(result, lines))
    teacher, _ = importing(store, path, model=MODEL)
    with pytest.raises(InputError, match="--teacher_model"):
        teacher.ask(summaries(3), 0.2)
    assert teacher.wanted == {}
    teacher, _ = importing(store, path, model="gpt-4o")
    with pytest.raises(BatchPending, match="1 replies"):
        teacher.ask(summaries(4), 0.2)


def test_what_is_still_missing_after_an_import_is_exported_in_its_turn(store, file):
    asked = summaries(5)
    lines = export(store, file, asked)
    teacher, _ = importing(store, write(file.with_name("results.jsonl"), map(result, lines[:3])), export=file)
    with pytest.raises(BatchPending, match="2 replies"):
        teacher.ask(asked, 0.2)
    assert teacher.write_export() == [(file, 2)]
    assert [json.loads(line)["custom_id"] for line in file.read_text().splitlines()] == [
        line["custom_id"] for line in lines[3:]
    ]


def test_thousands_of_lines_are_kept_in_few_transactions(store, file, monkeypatch):
    monkeypatch.setattr(batch_api, "LINES_AT_ONCE", 100)
    asked = summaries(450)
    lines, commits = export(store, file, asked), []
    store.connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    _, counts = importing(store, write(file.with_name("results.jsonl"), map(result, lines)))
    assert counts["taken"] == 450
    assert len(commits) == 5


@pytest.mark.parametrize(("model", "cost"), [(MODEL, 0.45), ("local", None), (STAND_IN, 0)])
def test_a_batch_costs_half_and_only_once(store, file, model, cost):
    lines = export(store, file, summaries(2), model=model)
    path = write(file.with_name("results.jsonl"), map(result, lines))
    teacher, _ = importing(store, path, model=model)
    teacher.ask(summaries(2), 0.2)
    card = teacher.usage()
    assert (card["batch_replies"], card["batch_tokens_in"], card["batch_tokens_out"]) == (2, 2_000_000, 1_000_000)
    assert card["batch_cost_usd"] == cost
    assert (card["requests"], card["kept_replies"], card["tokens_in"]) == (0, 2, 0)
    assert card.get("answered_by", model) == MODEL
    again, _ = importing(store, path, model=model)
    assert again.usage()["batch_replies"] == 0


def test_what_a_batch_left_over_is_asked_live(store, file, monkeypatch):
    asked = summaries(5)
    lines = export(store, file, asked, model=STAND_IN)
    results = [*map(result, lines[:3]), result(lines[3], error={"code": "batch_expired"})]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Moody()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        teacher = Teacher(store, STAND_IN)
        teacher.import_batch(write(file.with_name("results.jsonl"), results))
        assert teacher.ask(asked, 0.2) == [stand_in.answer(prompt, 0.2, 0) for prompt in asked]
        assert len(server.asked) == 2

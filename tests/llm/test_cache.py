"""Replies of models: kept on disk as they come, from many threads, under keys that tell all requests apart."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.errors import InputError
from reason4rec.llm.cache import ResponseCache, key_of

values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "replies.sqlite"


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1), values, max_size=5))
def test_replies_survive_closing(tmp_path_factory, replies):
    path = tmp_path_factory.mktemp("store") / "replies.sqlite"
    store = ResponseCache(path)
    store.put(replies)
    store.close()
    again = ResponseCache(path)
    assert again.get_all([*replies, "unknown\x01"]) == replies
    again.close()


def test_a_reply_is_on_disk_as_soon_as_it_is_kept(path):
    store = ResponseCache(path)
    store.put({"key": "a reply"})
    other = ResponseCache(path)
    assert other.get("key") == "a reply"
    with sqlite3.connect(path) as reader:
        assert reader.execute("select * from replies").fetchall() == [("key", json.dumps("a reply"))]
    reader.close()
    other.close()
    store.close()


def test_questions_of_visitors_made_the_file_grow_without_bound(path):
    store = ResponseCache(path)
    store.put({"of the run": 1})
    store.keep = False
    store.put({"of a visitor": 2, "of the run": 3})
    assert store.get_all(["of the run", "of a visitor"]) == {"of the run": 1}
    store.close()


def test_a_reply_that_was_never_kept_is_none(path):
    store = ResponseCache(path)
    assert store.get("key") is None
    assert store.get_all(["key"]) == {} == store.get_all([])
    store.close()


def test_a_later_reply_takes_the_place_of_an_earlier_one(path):
    store = ResponseCache(path)
    store.put({"key": "first", "other": [0.25, 0.75]})
    store.put({"key": "second"})
    assert store.get_all(["key", "other"]) == {"key": "second", "other": [0.25, 0.75]}
    store.close()


def test_replies_from_many_threads_are_all_kept(path):
    store, start = ResponseCache(path), Barrier(8)

    def keep(thread):
        start.wait()
        for k in range(25):
            store.put({f"{thread}/{k}": f"reply {k} of {thread}", "shared": thread})
            assert store.get(f"{thread}/{k}") == f"reply {k} of {thread}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(8)))
    store.close()
    again = ResponseCache(path)
    keys = [f"{thread}/{k}" for thread in range(8) for k in range(25)]
    assert set(again.get_all(keys)) == set(keys)
    assert again.get("shared") in range(8)
    again.close()


def test_two_stores_on_one_file_do_not_lose_each_others_replies(path):
    stores = [ResponseCache(path), ResponseCache(path)]

    def keep(number):
        for k in range(25):
            stores[number].put({f"{number}/{k}": k})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(keep, range(2)))
    keys = [f"{number}/{k}" for number in range(2) for k in range(25)]
    assert all(len(store.get_all(keys)) == 50 for store in stores)
    for store in stores:
        store.close()


def test_without_replace_the_first_reply_stays(path):
    store = ResponseCache(path)
    store.put({"key": "first"})
    store.put({"key": "second", "other": "new"}, replace=False)
    assert store.get_all(["key", "other"]) == {"key": "first", "other": "new"}
    store.close()


def test_values_come_in_the_order_of_the_keys(path):
    store = ResponseCache(path)
    store.put({str(k): k for k in range(20)})
    keys = [str(k) for k in (7, 3, 19, 3, 0)]
    assert list(store.get_all(iter(keys)).items()) == [("7", 7), ("3", 3), ("19", 19), ("0", 0)]
    store.close()


def test_many_keys_are_looked_up_in_few_queries(path):
    """Once each was a query of its own."""
    store, queries = ResponseCache(path), []
    values = {f"{k:064x}": k for k in range(50_000)}
    store.put(values)
    store.connection.set_trace_callback(queries.append)
    assert store.get_all([*values, *(f"no {k}" for k in range(50_000))]) == values
    assert len(queries) <= 10
    store.close()


def test_threads_that_wait_for_the_disk_share_a_transaction(path):
    """Once each reply waited for a transaction of its own."""
    store, commits, start = ResponseCache(path), [], Barrier(16)
    store.connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    store.lock.acquire()

    def keep(k):
        start.wait()
        store.put({f"{k}": k})
        return ResponseCache(path).get(f"{k}") == k

    with ThreadPoolExecutor(16) as pool:
        kept = pool.map(keep, range(16))
        while len(store.waiting) < 16:
            time.sleep(0.001)
        store.lock.release()
        assert all(kept)
    assert len(commits) == 1
    store.close()


def test_when_a_shared_transaction_fails_every_thread_hears_of_it(path):
    store, start = ResponseCache(path), Barrier(8)
    store.put({"key": 1})
    store.connection.execute("pragma query_only = on")

    def keep(k):
        start.wait()
        with pytest.raises(InputError, match="could not be kept"):
            store.put({f"{k}": k})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(8)))
    store.connection.execute("pragma query_only = off")
    store.put({"later": 1})
    assert store.get_all(["key", "later", *map(str, range(8))]) == {"key": 1, "later": 1}
    store.close()


def test_two_processes_that_write_at_once_lose_nothing(path):
    write = (
        "import sys; from pathlib import Path; from reason4rec.llm.cache import ResponseCache\n"
        "store = ResponseCache(Path(sys.argv[1]))\n"
        "for k in range(40): store.put({f'{sys.argv[2]}/{k}': k, 'shared': sys.argv[2]})"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", write, path, name], cwd=Path(__file__).parents[2]) for name in "ab"
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    store = ResponseCache(path)
    assert len(store.get_all([f"{name}/{k}" for name in "ab" for k in range(40)])) == 80
    assert store.get("shared") in ("a", "b")
    store.close()


def test_a_killed_process_loses_nothing_that_it_had_kept(path):
    write = (
        "import sys; from pathlib import Path; from reason4rec.llm.cache import ResponseCache\n"
        "store, k = ResponseCache(Path(sys.argv[1])), 0\n"
        "while True:\n    store.put({str(k): k})\n    print(k, flush=True)\n    k += 1"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", write, path], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) == 50:
            process.kill()
    process.wait()
    store = ResponseCache(path)
    assert set(store.get_all(map(str, range(51)))) == set(map(str, range(51)))
    store.close()


def test_the_file_its_journal_and_its_folder_are_for_their_owner_alone(path):
    """Once everybody on the machine could read the replies."""
    before = os.umask(0)
    try:
        store = ResponseCache(path)
        store.connection.execute("insert into replies values ('key', '1')")
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
        assert modes == {"replies.sqlite": 0o600, "replies.sqlite-journal": 0o600}
        assert path.parent.stat().st_mode & 0o777 == 0o700
        store.close()
    finally:
        os.umask(before)


def test_the_mode_of_a_folder_that_was_there_stays(path):
    path.parent.mkdir(mode=0o755)
    mode = path.parent.stat().st_mode
    ResponseCache(path).close()
    assert path.parent.stat().st_mode == mode


def test_a_batch_with_a_value_that_cannot_be_kept_keeps_nothing(path):
    store = ResponseCache(path)
    with pytest.raises(TypeError):
        store.put({"good": 1, "bad": object()})
    assert store.get("good") is None
    store.close()


@pytest.mark.parametrize("content", [b"not a database", b"not a database" * 100, b"SQLite format 3\0" + b"x" * 100])
def test_a_file_that_is_no_database_is_named_and_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"replies\.sqlite"):
        ResponseCache(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(InputError, match=r"replies\.sqlite"):
        ResponseCache(path)


def test_a_store_damaged_behind_its_first_page_ended_in_an_error_of_the_database(path):
    store = ResponseCache(path)
    store.put({f"key {k}": "a reply " * 50 for k in range(200)})
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = ResponseCache(path)
    with pytest.raises(InputError, match=r"replies\.sqlite: cannot be read"):
        damaged.get("key 7")
    with pytest.raises(InputError, match=r"replies\.sqlite: a reply could not be kept"):
        damaged.put({"key": 1})
    damaged.close()


def test_a_database_of_something_else_ended_in_an_error_of_the_database(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("create table replies (name text)")
    other.close()
    store = ResponseCache(path)
    with pytest.raises(InputError, match=r"replies\.sqlite: cannot be read"):
        store.get_all(["key"])
    store.close()


def test_a_store_that_cannot_be_written_says_so(path):
    ResponseCache(path).close()
    store = ResponseCache(path)
    store.connection.execute("pragma query_only = on")
    with pytest.raises(InputError, match=r"replies\.sqlite: a reply could not be kept"):
        store.put({"key": 1})
    store.close()


def test_a_key_depends_on_every_part_and_not_on_their_order():
    keys = {
        key_of(),
        key_of(prompt="a", draw=0),
        key_of(prompt="a", draw=1),
        key_of(prompt="a", draw="1"),
        key_of(prompt="b", draw=1),
        key_of(prompt="a", seed=1),
        key_of(prompt="a", draw=1, seed=1),
        key_of(prompt="a", draw=None),
    }
    assert len(keys) == 8
    assert key_of(prompt="a", draw=1) == key_of(draw=1, prompt="a")

"""Replies of models: kept on disk as they come, from many threads, under keys that tell all requests apart."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.errors import InputError
from reason4rec.store import ReplyStore, key_of

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
    store = ReplyStore(path)
    store.put(replies)
    store.close()
    again = ReplyStore(path)
    assert again.get_all([*replies, "unknown\x01"]) == replies
    again.close()


def test_a_reply_is_on_disk_as_soon_as_it_is_kept(path):
    store = ReplyStore(path)
    store.put({"key": "a reply"})
    other = ReplyStore(path)
    assert other.get("key") == "a reply"
    with sqlite3.connect(path) as reader:
        assert reader.execute("select * from replies").fetchall() == [("key", json.dumps("a reply"))]
    reader.close()
    other.close()
    store.close()


def test_a_reply_that_was_never_kept_is_none(path):
    store = ReplyStore(path)
    assert store.get("key") is None
    assert store.get_all(["key"]) == {} == store.get_all([])
    store.close()


def test_a_later_reply_takes_the_place_of_an_earlier_one(path):
    store = ReplyStore(path)
    store.put({"key": "first", "other": [0.25, 0.75]})
    store.put({"key": "second"})
    assert store.get_all(["key", "other"]) == {"key": "second", "other": [0.25, 0.75]}
    store.close()


def test_replies_from_many_threads_are_all_kept(path):
    store, start = ReplyStore(path), Barrier(8)

    def keep(thread):
        start.wait()
        for k in range(25):
            store.put({f"{thread}/{k}": f"reply {k} of {thread}", "shared": thread})
            assert store.get(f"{thread}/{k}") == f"reply {k} of {thread}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(8)))
    store.close()
    again = ReplyStore(path)
    keys = [f"{thread}/{k}" for thread in range(8) for k in range(25)]
    assert set(again.get_all(keys)) == set(keys)
    assert again.get("shared") in range(8)
    again.close()


def test_two_stores_on_one_file_do_not_lose_each_others_replies(path):
    stores = [ReplyStore(path), ReplyStore(path)]

    def keep(number):
        for k in range(25):
            stores[number].put({f"{number}/{k}": k})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(keep, range(2)))
    keys = [f"{number}/{k}" for number in range(2) for k in range(25)]
    assert all(len(store.get_all(keys)) == 50 for store in stores)
    for store in stores:
        store.close()


def test_a_batch_with_a_value_that_cannot_be_kept_keeps_nothing(path):
    store = ReplyStore(path)
    with pytest.raises(TypeError):
        store.put({"good": 1, "bad": object()})
    assert store.get("good") is None
    store.close()


@pytest.mark.parametrize("content", [b"not a database", b"not a database" * 100, b"SQLite format 3\0" + b"x" * 100])
def test_a_file_that_is_no_database_is_named_and_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"replies\.sqlite"):
        ReplyStore(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(InputError, match=r"replies\.sqlite"):
        ReplyStore(path)


def test_a_store_damaged_behind_its_first_page_ended_in_an_error_of_the_database(path):
    store = ReplyStore(path)
    store.put({f"key {k}": "a reply " * 50 for k in range(200)})
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = ReplyStore(path)
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
    store = ReplyStore(path)
    with pytest.raises(InputError, match=r"replies\.sqlite: cannot be read"):
        store.get_all(["key"])
    store.close()


def test_a_store_that_cannot_be_written_says_so(path):
    ReplyStore(path).close()
    store = ReplyStore(path)
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

"""Data in a page: no text can end the element that it stands in, and all come back whole."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from reason4rec.run import html

HOSTILE = "<!--<script></script> ]]> {DATA} {POLICY} &lt;b&gt; \u2028\u2029 \x00\x1b[31m"


@given(st.lists(st.text(st.characters(exclude_categories=())) | st.just(HOSTILE)))
def test_any_text_comes_back_whole_from_a_script_element_that_it_cannot_end(texts):
    written = html.as_json_in_html(texts)
    assert json.loads(written.encode()) == texts
    assert not re.search("[<>&\u2028\u2029]", written)

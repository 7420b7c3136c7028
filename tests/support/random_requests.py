"""Bodies and headers of requests as Hypothesis makes them, most of them invalid."""

import json

from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
QUERIES = st.dictionaries(st.sampled_from(["username", "max_count", "cursor", "as_of", "x"]), JSON_VALUES)
BODIES = st.one_of(
    st.binary(max_size=200),
    QUERIES.map(lambda query: json.dumps(query).encode()),
    st.builds(lambda query, cut: json.dumps(query).encode()[:cut], QUERIES, st.integers(0, 60)),
    st.text(max_size=80).map(lambda text: f"username={text}".encode(errors="replace")),
)
TOKENS = st.characters(min_codepoint=33, max_codepoint=126)
HEADERS = st.lists(st.tuples(st.text(TOKENS, min_size=1, max_size=12), st.binary(max_size=40)), max_size=4).map(
    lambda headers: b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
)

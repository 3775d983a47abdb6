"""What the rules of the state machine draw."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support import acls
from tests.support.client import Data

_NAMES = [b"a", b"b", b"x", b"\xff\xfe\n", b"long" * 63]

# A rule draws a number and takes that one of the paths there are, or nothing there is.
picks = st.integers(0, 30)
names = st.sampled_from(_NAMES)
handles = st.integers(0, 2)
permissions = st.sampled_from([0o644, 0o600, 0o755, 0o000, 0o777])
offsets = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([1024, 4096, 32 * 1024, 512 * 1024, 1024 * 1024]),
    st.integers(0, 2_000_000),
)
lengths = st.one_of(
    st.integers(0, 300),
    st.integers(1, 10_000),
    st.sampled_from([1024, 4096, 65536, 131072]),
    st.integers(1, 2_000_000),
)
data = st.builds(Data, st.integers(0, 1000), lengths)
values = st.builds(Data, st.integers(0, 1000), st.sampled_from([0, 1, 200, 3000, 65536, 65537]))
xattr_names = st.sampled_from([b"user.a", b"user.b", b"user." + b"n" * 250, b"user." + b"n" * 251])
umasks = st.sampled_from([0, 0o022, 0o077])
access_lists = st.fixed_dictionaries(
    {acls.USER_OBJ: st.just(6), acls.GROUP_OBJ: st.integers(0, 7), acls.OTHER: st.integers(0, 7)},
    optional={acls.user(5): st.integers(0, 7), acls.group(2**31): st.integers(0, 7)},
).flatmap(
    lambda entries: st.builds(
        lambda mask: entries | ({acls.MASK: mask} if len(entries) > 3 else {}), st.integers(0, 7)
    )
)
access_values = st.one_of(st.just(b""), access_lists.map(acls.value_of))

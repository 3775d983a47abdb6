"""Access control lists by themselves: values that come back, and the rules."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import FilesystemError
from lfs.files import acl
from lfs.ondisk import ACL_GROUP, ACL_OTHERS, ACL_OWNER, AccessEntry
from tests.support import acls
from tests.support.acls import GROUP_OBJ, MASK, OTHER, USER_OBJ, Lists, group, user, value_of

rights = st.integers(0, 7)
modes = st.integers(0, 0o7777)
numbers = st.integers(0, 2**32 - 2)


@st.composite
def lists(draw: st.DrawFn) -> Lists:
    """Draw a valid list, about as often without named entries as with them."""
    entries: Lists = {name: draw(rights) for name in (USER_OBJ, GROUP_OBJ, OTHER)}
    for name in (user, group):
        entries |= {name(number): draw(rights) for number in draw(st.sets(numbers, max_size=3))}
    if len(entries) > 3 or draw(st.booleans()):
        entries[MASK] = draw(rights)
    return entries


MINIMAL: Lists = {USER_OBJ: 6, GROUP_OBJ: 4, OTHER: 4}
EXTENDED: Lists = {USER_OBJ: 7, user(5): 5, GROUP_OBJ: 5, group(6): 7, MASK: 6, OTHER: 1}


def refusal(value: bytes) -> int | None:
    """Return the errno of a value that must be refused."""
    with pytest.raises(FilesystemError) as caught:
        acl.unpack(value)
    return caught.value.errno


def raw(*entries: tuple[int, int, int]) -> bytes:
    """Return a value with entries that need not be valid."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@given(lists())
def test_value_comes_back(entries: Lists) -> None:
    value = value_of(entries)
    unpacked = acl.unpack(value)
    assert acl.pack(unpacked) == value
    assert [(entry.tag, entry.permissions) for entry in unpacked] == [
        struct.unpack_from("<HH", value, offset) for offset in range(4, len(value), 8)
    ]


def test_value_byte_by_byte() -> None:
    assert value_of(MINIMAL).hex(" ", 4) == (
        "02000000 01000600 ffffffff 04000400 ffffffff 20000400 ffffffff"
    )
    assert acl.unpack(value_of(MINIMAL)) == (
        AccessEntry(ACL_OWNER, 6),
        AccessEntry(ACL_GROUP, 4),
        AccessEntry(ACL_OTHERS, 4),
    )


@pytest.mark.parametrize("value", [b"", b"\x02\0\0\0"])
def test_value_without_entries_is_no_list(value: bytes) -> None:
    assert acl.unpack(value) == ()
    assert acl.pack(()) == b""


def test_number_that_means_nothing_is_not_kept() -> None:
    value = raw((1, 6, 77), (4, 4, 78), (32, 4, 79))
    assert acl.pack(acl.unpack(value)) == value_of(MINIMAL)


@pytest.mark.parametrize(
    "value",
    [
        b"\x02",
        b"\x02\0\0",
        value_of(MINIMAL)[:-1],
        value_of(MINIMAL) + b"\0",
        raw((1, 6, 0), (4, 4, 0)),
        raw((1, 6, 0), (32, 4, 0)),
        raw((4, 6, 0), (32, 4, 0)),
        raw((1, 6, 0), (1, 6, 0), (4, 4, 0), (32, 4, 0)),
        raw((1, 6, 0), (4, 4, 0), (32, 4, 0), (32, 4, 0)),
        raw((1, 6, 0), (4, 4, 0), (16, 4, 0), (16, 4, 0), (32, 4, 0)),
        raw((1, 6, 0), (32, 4, 0), (4, 4, 0)),
        raw((1, 8, 0), (4, 4, 0), (32, 4, 0)),
        raw((1, 6, 0), (2, 6, 5), (4, 4, 0), (32, 4, 0)),
        raw((1, 6, 0), (4, 4, 0), (8, 4, 5), (32, 4, 0)),
        raw((1, 6, 0), (2, 6, 2**32 - 1), (4, 4, 0), (16, 7, 0), (32, 4, 0)),
        raw((1, 6, 0), (4, 4, 0), (32, 4, 0), (64, 4, 0)),
        raw((0, 6, 0), (1, 6, 0), (4, 4, 0), (32, 4, 0)),
    ],
)
def test_value_that_is_no_list_is_refused(value: bytes) -> None:
    assert refusal(value) == errno.EINVAL


@pytest.mark.parametrize("version", [0, 1, 3, 2**31])
def test_other_version_is_not_supported(version: int) -> None:
    value = struct.pack("<I", version) + value_of(MINIMAL)[4:]
    assert refusal(value) == errno.EOPNOTSUPP


def test_value_that_the_kernel_would_not_pass_on_is_refused() -> None:
    entries: Lists = {user(number): 4 for number in range(507)}
    entries |= {**MINIMAL, MASK: 7}
    assert len(value_of(entries)) == 4092
    assert len(acl.unpack(value_of(entries))) == 511
    assert refusal(value_of({**entries, user(1000): 4})) == errno.E2BIG


@given(lists())
def test_permissions_are_those_of_the_classes(entries: Lists) -> None:
    assert acl.permissions_of(acl.unpack(value_of(entries))) == acls.mode_of(entries)


@given(lists(), modes)
def test_mode_changes_the_classes_alone(entries: Lists, mode: int) -> None:
    changed = acl.with_permissions(acl.unpack(value_of(entries)), mode)
    assert acl.pack(changed) == value_of(acls.after_chmod(entries, mode))
    assert acl.permissions_of(changed) == mode & 0o777


@given(lists())
def test_list_of_a_mode_has_no_more_than_three_entries(entries: Lists) -> None:
    is_mode = acl.is_mode(acl.unpack(value_of(entries)))
    assert is_mode is not acls.says_more_than_a_mode(entries)


@given(lists(), modes)
def test_what_is_inherited(default: Lists, mode: int) -> None:
    found_mode, found = acl.inherited(acl.unpack(value_of(default)), mode)
    entries = acls.inherited_list(default, mode)
    assert found_mode == acls.inherited_mode(default, mode)
    assert found_mode & 0o777 == acls.mode_of(entries)
    kept = value_of(entries) if acls.says_more_than_a_mode(default) else b""
    assert acl.pack(found) == kept


def test_inheritance_by_example() -> None:
    mode, found = acl.inherited(acl.unpack(value_of(EXTENDED)), 0o100666)
    assert mode == 0o100660
    assert acl.pack(found) == value_of({**EXTENDED, USER_OBJ: 6, OTHER: 0})
    mode, found = acl.inherited(acl.unpack(value_of(EXTENDED)), 0o042700)
    assert mode == 0o042700
    assert acl.pack(found) == value_of({**EXTENDED, MASK: 0, OTHER: 0})

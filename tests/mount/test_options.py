"""Mount options as values."""

from __future__ import annotations

import pytest

from lfs.mount.options import MountOptions, OptionError, parse_options


def kernel(text: str, privileged: bool = True, target: str = "/a.img") -> set[str]:
    return parse_options([text]).kernel_options(target, privileged)


def test_parse_nothing_gives_the_defaults() -> None:
    assert parse_options([]) == MountOptions()
    assert parse_options([""]) == MountOptions()


def test_parse_own_options() -> None:
    options = parse_options(["ro,noatime,commit=0.5", "norecovery,cleaner=greedy,debug"])
    assert options == MountOptions(
        read_only=True,
        atime="noatime",
        commit_seconds=0.5,
        recovery=False,
        cleaner="greedy",
        debug=True,
    )


def test_parse_last_of_a_kind_counts() -> None:
    options = parse_options(["ro,rw,nosuid,suid,noatime,strictatime"])
    assert not options.read_only
    assert options.kernel == {"suid": "suid"}
    assert options.atime == "strictatime"


@pytest.mark.parametrize(
    "text",
    [
        "defaults,auto,noauto,nofail,_netdev,nouser",
        "x-systemd.automount,X-mount.mkdir=0755,comment=hello",
        "default_permissions,silent,uhelper=udisks2",
    ],
)
def test_parse_ignores_notes_of_mount(text: str) -> None:
    assert parse_options([text]) == MountOptions()


@pytest.mark.parametrize("policy", ["remount-ro", "continue", "panic"])
def test_parse_what_errors_lead_to(policy: str) -> None:
    assert parse_options([f"errors={policy}"]) == MountOptions(errors=policy)


@pytest.mark.parametrize("choice", ["auto", "low", "any"])
def test_parse_latency_of_processors(choice: str) -> None:
    assert parse_options([f"cpu_latency={choice}"]) == MountOptions(cpu_latency=choice)


def test_parse_unknown_latency_is_refused() -> None:
    with pytest.raises(OptionError, match="cpu_latency=0: cpu_latency is one of auto, low, any"):
        parse_options(["cpu_latency=0"])


def test_parse_unknown_consequence_of_errors_is_refused() -> None:
    with pytest.raises(OptionError, match="errors=ignore: errors is one of remount-ro, continue"):
        parse_options(["errors=ignore"])


@pytest.mark.parametrize("text", ["nonsense", "ro,nonsense=1", "commits=5", "error=remount-ro"])
def test_parse_unknown_option_is_named(text: str) -> None:
    with pytest.raises(OptionError, match=text.split(",")[-1]):
        parse_options([text])
    assert parse_options([text], sloppy=True) is not None


@pytest.mark.parametrize("value", ["", "-1", "0", "1e-10", "0.009", "x", "nan", "inf", "100000"])
def test_parse_impossible_interval_is_refused(value: str) -> None:
    with pytest.raises(OptionError, match="commit="):
        parse_options([f"commit={value}"])


def test_parse_user_implies_what_mount_says() -> None:
    assert {"nosuid", "nodev", "noexec"} <= kernel("user")
    assert {"nosuid", "nodev", "exec"} <= kernel("users,exec")


def test_kernel_options_of_root() -> None:
    assert kernel("") == {
        "fsname=/a.img",
        "subtype=lfs",
        "default_permissions",
        "allow_other",
        "suid",
        "dev",
        "rw",
    }


def test_kernel_options_of_a_user() -> None:
    assert kernel("ro,noatime", privileged=False) == {
        "fsname=/a.img",
        "subtype=lfs",
        "default_permissions",
        "ro",
        "noatime",
    }


def test_kernel_options_never_allow_root_and_others_both() -> None:
    assert "allow_other" not in kernel("allow_root")


def test_kernel_options_escape_the_target() -> None:
    assert "fsname=/a\\,b\\\\cä" in kernel("", target="/a,b\\cä")
    assert "fsname=my\\,name" in kernel("fsname=my\\,name")

# Everything that `check` and `demo` need on a fresh Debian or Ubuntu machine.
#
# Source this file, then call `bootstrap`, and `build_core` for the compiled core.  It leaves
#   $venv_bin      where python, pytest, mkfs.lfs, mount.lfs ... are
#   $fuse_missing  what keeps this machine from mounting, or nothing
# It installs missing system packages (as root or by sudo) and a virtual
# environment in the checkout, says one line before each of the two, and nothing
# at all when everything is there.  On failure it says one line and exits.
# shellcheck shell=bash

checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$checkout/.venv"
venv_bin="$venv/bin"
fuse_missing=""

setup_fail() {
    echo "setup: $*" >&2
    exit 1
}

# run_logged WHAT COMMAND...: run it in silence; when it fails say its last error and where the rest is.
run_logged() {
    local what="$1" log reason
    shift
    log="$(mktemp "${TMPDIR:-/tmp}/lfs-setup.XXXXXX")" || setup_fail "cannot write to ${TMPDIR:-/tmp}"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        # pip and apt-get mark their errors so, and may say more after the last one.
        reason="$(grep -E '^ *(ERROR|E): ' "$log" | tail -n 1)"
        [ -n "$reason" ] || reason="$(grep -v '^$' "$log" | tail -n 1)"
        setup_fail "$what failed: ${reason#"${reason%%[! ]*}"} (log: $log)"
    fi
    rm -f "$log"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# The first interpreter that is new enough; a name may exist and still not start (pyenv).
find_python() {
    local name
    for name in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# One line for each system package that is missing.
missing_packages() {
    local python="$1" version headers
    version="$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
    headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
    command -v fusermount3 >/dev/null || echo fuse3
    command -v gcc >/dev/null || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
    [ -e "$headers/Python.h" ] || echo "$version-dev"
}

install_packages() {
    command -v apt-get >/dev/null || setup_fail "no apt-get here; please install: $*"
    as_root true || setup_fail "root or sudo is needed to install: $*"
    echo "setup: installing system packages: $*" >&2
    # Lists that are old or partly out of reach may still do: what counts is the installation.
    as_root apt-get -q update >/dev/null 2>&1 || true
    run_logged "installing $*" as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy \
        -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
}

install_environment() {
    local python="$1"
    echo "setup: installing Python packages into .venv" >&2
    run_logged "making .venv" "$python" -m venv --clear "$venv"
    # The core is compiled apart, whenever its sources have changed.
    run_logged "installing Python packages" env LFS_PURE=1 "$venv_bin/python" -m pip install -q \
        --disable-pip-version-check -e "$checkout[dev]"
}

# build_core: compile the core unless that has been done, is not wanted, or can't be done here.
build_core() (
    local is_compiled='import sys; from lfs.common.compiled import is_compiled; sys.exit(not is_compiled())'
    cd "$checkout" || exit 1
    # As an installation has it; Python itself may have been told to write none.
    "$venv_bin/python" -m compileall -q lfs mkfs fsck faultdisk
    [ "${LFS_PURE:-0}" = 0 ] || return 0
    ! "$venv_bin/python" -c "$is_compiled" || return 0
    echo "setup: compiling the core" >&2
    find lfs -name '*.so' -delete
    rm -f ./lfs__mypyc*.so
    # With -O2, as pip does it, this takes a third longer.
    run_logged "compiling the core" env LFS_OPTIMIZE="${LFS_OPTIMIZE-1}" \
        "$venv_bin/python" setup.py -q build_ext --inplace
)

look_for_fuse() {
    [ -e /dev/fuse ] || as_root modprobe fuse >/dev/null 2>&1 || true
    if [ ! -e /dev/fuse ]; then
        fuse_missing="/dev/fuse is missing and the kernel module cannot be loaded"
    elif [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
        fuse_missing="no permission on /dev/fuse"
    fi
}

bootstrap() {
    local python wanted stamp="$venv/setup-of"
    # sbin holds modprobe and fsck's companions, and is not in every user's PATH.
    PATH="$PATH:/usr/sbin:/sbin"
    # An environment serves as long as project file and place are those it was made from.
    wanted="$checkout $(cksum <"$checkout/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$venv_bin/python" -c '' 2>/dev/null ||
        ! command -v fusermount3 >/dev/null; then
        python="$(find_python)" || setup_fail "Python 3.11 or later is needed and was not found"
        local packages
        mapfile -t packages < <(missing_packages "$python")
        [ "${#packages[@]}" -eq 0 ] || install_packages "${packages[@]}"
        install_environment "$python"
        echo "$wanted" >"$stamp"
    fi
    look_for_fuse
}

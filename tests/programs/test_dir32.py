"""Directories listed by a program of 32 bits that knows nothing of large files."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need, run

pytestmark = pytest.mark.fuse

_COMPILER = "i686-linux-gnu-gcc"
_COUNT = 3000
# Lists, then goes back to every seventh place and says which name is there.
_SOURCE = r"""
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

int main(int count, char **values)
{
    static long places[10000];
    int number = 0;
    DIR *directory = opendir(values[1]);
    struct dirent *entry;
    if (!directory || sizeof(long) != 4 || sizeof(entry->d_off) != 4)
        return 2;
    for (errno = 0;; number++) {
        places[number] = telldir(directory);
        if (!(entry = readdir(directory)))
            break;
        printf("%s\n", entry->d_name);
    }
    printf("error %d\n", errno);
    for (int at = number - 1; at >= 0; at -= 7) {
        seekdir(directory, places[at]);
        entry = readdir(directory);
        printf("%d %s\n", at, entry ? entry->d_name : "nothing");
    }
    return errno;
}
"""


def _compile(work: Path) -> Path:
    source, program = work / "list.c", work / "list"
    source.write_text(_SOURCE)
    run([_COMPILER, "-static", "-std=c99", "-D_DEFAULT_SOURCE", "-o", program, source])
    try:
        subprocess.run([program, work], capture_output=True, check=True)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        pytest.skip("this kernel runs no programs of 32 bits")
    return program


def test_program_of_32_bits_lists_and_seeks(disk: Disk, need: Need, tmp_path: Path) -> None:
    need(_COMPILER)
    program = _compile(tmp_path)
    directory = disk.place / "many"
    directory.mkdir()
    for number in range(_COUNT):
        os.mknod(directory / str(number))
    lines = run([program, directory]).splitlines()
    end = lines.index("error 0")
    listed = lines[:end]
    assert sorted(listed) == sorted([".", "..", *map(str, range(_COUNT))])
    assert len(lines[end + 1 :]) == -(-len(listed) // 7)
    for line in lines[end + 1 :]:
        at, name = line.split(maxsplit=1)
        assert name == listed[int(at)]

"""Run a command to which the kernel denies calls, as in some containers: `denied.py unshare,landlock COMMAND`."""

import ctypes
import os
import platform
import struct
import sys

NUMBERS = {  # asm/unistd.h
    "landlock": {"x86_64": 444, "aarch64": 444},
    "unshare": {"x86_64": 272, "aarch64": 97},
}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
ALLOW, NOT_PERMITTED = 0x7FFF0000, 0x00050001


def deny(calls: list[str]) -> None:
    """Have the kernel answer EPERM to some system calls of this process and of all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = [(LOAD, 0, 0, 0)]  # the number of the call
    for call in calls:
        steps += [(JUMP_IF_EQUAL, 0, 1, NUMBERS[call][platform.machine()]), (RETURN, 0, 0, NOT_PERMITTED)]
    steps.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel lets no system call be denied")


if __name__ == "__main__":
    deny(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the test asked for

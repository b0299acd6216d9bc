"""Finds the owners of the areas of processes, which are named by id, without the command's
code: by ptrace through ctypes, and from the symbol tables of the files in /proc/PID/maps.
Prints "PID OWNER" for the main thread of each process that it can read."""
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
libc.ptrace.restype = ctypes.c_long
SEIZE, INTERRUPT, DETACH, GETREGSET, RSEQ = 0x4206, 0x4207, 17, 0x4204, 0x420f
WALL = 0x40000000


def ask(pid):
    """The registered address and the thread pointer."""
    if libc.ptrace(SEIZE, pid, None, None):
        return None
    try:
        libc.ptrace(INTERRUPT, pid, None, None)
        os.waitpid(pid, WALL)
        conf = ctypes.create_string_buffer(24)
        if libc.ptrace(RSEQ, pid, 24, ctypes.addressof(conf)) < 0:
            return None
        # The set of registers, how many, and which is the thread pointer.
        kind, words, at = {"x86_64": (1, 27, 21), "aarch64": (0x401, 1, 0), "riscv64": (1, 32, 4)}[os.uname().machine]
        regs = ctypes.create_string_buffer(words * 8)
        iov = (ctypes.c_uint64 * 2)(ctypes.addressof(regs), words * 8)
        libc.ptrace(GETREGSET, pid, kind, ctypes.addressof(iov))
        return struct.unpack_from("Q", conf)[0], struct.unpack_from("Q", regs, at * 8)[0]
    finally:
        libc.ptrace(DETACH, pid, None, None)


def symbols(path):
    """The values and types of the defined symbols in a file's symbol tables."""
    data = open(path, "rb").read()
    if data[:5] != b"\x7fELF\x02":
        return {}, 0
    shoff, = struct.unpack_from("Q", data, 0x28)
    size, count = struct.unpack_from("HH", data, 0x3a)
    sections = [struct.unpack_from("IIQQQQIIQQ", data, shoff + i * size) for i in range(count)]
    found = {}
    for s in sections:
        if s[1] not in (2, 11):  # SHT_SYMTAB, SHT_DYNSYM
            continue
        strings = sections[s[6]]
        for at in range(s[4], s[4] + s[5], 24):
            name, info, _, index, value, _ = struct.unpack_from("IBBHQQ", data, at)
            start = strings[4] + name
            if index and data.startswith(b"__rseq_", start):
                found[data[start:data.index(b"\0", start)].decode()] = value
    pie = struct.unpack_from("H", data, 16)[0] == 3
    return found, pie


def owner(pid):
    asked = ask(pid)
    if asked is None:
        return None
    address, tp = asked
    if not address:
        return "none"
    memory = open(f"/proc/{pid}/mem", "rb", 0)
    claims = False
    for line in open(f"/proc/{pid}/maps", "rb"):
        f = line.rstrip(b"\n").split(None, 5)
        if len(f) < 6 or not f[5].startswith(b"/") or int(f[2], 16):
            continue
        start = int(f[0].split(b"-")[0], 16)
        for path in (b"/proc/%d/map_files/%s" % (pid, f[0]), b"/proc/%d/root" % pid + f[5]):
            try:
                table, pie = symbols(path)
                break
            except OSError:
                table, pie = {}, False
        if "__rseq_abi" in table:
            claims = True
        if "__rseq_offset" in table:
            memory.seek(table["__rseq_offset"] + (start if pie else 0))
            offset, = struct.unpack("q", memory.read(8))
            if tp + offset == address:
                return "libc"
    return "object" if claims else "unknown"


for arg in sys.argv[1:]:
    try:
        said = owner(int(arg))
    except (OSError, struct.error, ValueError):
        continue
    if said:
        print(arg, said)

"""The sandboxed command that all sides run: `true` in bubblewrap's namespaces, without network, on a read-only /usr."""

import sys
from pathlib import Path

LINKS = [
    word
    for name in ("/bin", "/lib", "/lib64")
    for word in (
        ("--symlink", str(Path(name).readlink()), name) if Path(name).is_symlink() else ("--ro-bind-try", name, name)
    )
]
COMMAND = [
    "bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", *LINKS, "--proc", "/proc", "--dev", "/dev",
    "--tmpfs", "/tmp", "--chdir", "/tmp", "--clearenv", "--", "/bin/sh", "-c", "true",
]  # fmt: skip

if __name__ == "__main__":
    import os

    os.execvp(COMMAND[0], COMMAND)
    sys.exit(1)

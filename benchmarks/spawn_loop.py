"""The bare loop: spawn and reap a program, two at a time, for some seconds; print how many a second. Keeps nothing.

Run as a script, isolated, so that nothing of the program measured is in it: `python -I -S spawn_loop.py SECONDS`.
"""

import os
import sys
import time


def main(seconds: float, program: str = "/bin/true", together: int = 2) -> float:
    """Return spawns a second."""
    running = ended = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        while running < together:
            os.posix_spawn(program, [program], os.environ)
            running += 1
        os.wait()
        running, ended = running - 1, ended + 1
    while running:
        os.wait()
        running -= 1
    return ended / elapsed


if __name__ == "__main__":
    print(main(float(sys.argv[1])))

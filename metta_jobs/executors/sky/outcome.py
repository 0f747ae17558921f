"""What runs on the node: the job's command under a few lines of POSIX sh that leave evidence in its log.

SkyPilot runs a shell script, tells of a job only that the script exited 0 or did not, and takes the cluster away when
it ends. So the script that we give it is our own: it decodes the job's argument list (base64, one word an argument:
nothing is quoted, split or expanded on the way), runs it, keeps its time limit even when nobody is left to look, and
prints two kinds of marked lines at its end: the outcome, and the small files of the run folder, packed. The mark holds
a word that only this attempt knows, so that nothing a job prints by chance is taken for evidence.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The packed run folder comes home when it is no larger than this (bytes); larger things belong into a bucket or W&B.
SHIP_BYTES = 4_000_000
#: Exit code of a command that could not be found or run, as shells have it.
_LINE = 4000  # characters of base64 a line: log readers split longer ones

_SCRIPT = r"""
set +e +m  # SkyPilot runs us in an interactive shell: with job control, setsid would fork and leave us without a child
exec 2>&1  # schedulers carry two streams apart, and a traceback's last line came after what was printed before it
PATH=$HOME/.local/bin:$PATH
set --
for word in $METTA_ARGV; do
  [ "$word" = - ] && word=
  arg=$(printf %s "$word" | base64 -d; printf x)
  set -- "$@" "${arg%x}"
done
rank=${SKYPILOT_NODE_RANK:-0}
METTA_JOB_DIR=$HOME/.metta/$METTA_MARK/$rank
export METTA_JOB_DIR WANDB_DIR="$METTA_JOB_DIR" METTA_NODE_RANK="$rank"
mkdir -p "$METTA_JOB_DIR"
cd "$(printf %s "$METTA_CWD" | base64 -d)" || exit 126
started=$(date +%s)
late=$METTA_JOB_DIR/.time-limit-reached
rm -f "$late"
if command -v setsid >/dev/null; then setsid "$@" & else "$@" & fi
job=$!
end() { kill -s "$1" -- -$job 2>/dev/null || kill -s "$1" $job 2>/dev/null; }  # dash knows `--` behind -s only
trap 'end TERM' TERM INT
if [ -n "$METTA_LIMIT_S" ]; then
  ( sleep "$METTA_LIMIT_S"; : > "$late"; end TERM; sleep "$METTA_GRACE_S"; end KILL ) >/dev/null 2>&1 &
  watch=$!
fi
wait $job; code=$?
while kill -0 $job 2>/dev/null; do wait $job; code=$?; done
trap - TERM INT
[ -n "$watch" ] && kill $watch 2>/dev/null
ended=$(date +%s)
limit=false; [ -e "$late" ] && limit=true
rm -f "$late"
printf '{"exit_code": %d, "started": %s, "ended": %s, "rank": %s, "limit": %s}' \
  $code "$started" "$ended" "$rank" $limit > "$METTA_JOB_DIR/outcome.json"
if [ "$rank" = 0 ]; then
  packed=$METTA_JOB_DIR.tar.gz
  if tar -C "$METTA_JOB_DIR" -czf "$packed" . 2>/dev/null && [ "$(wc -c < "$packed")" -le "$METTA_SHIP_BYTES" ]; then
    printf '\n'
    base64 < "$packed" | tr -d '\n' | fold -w @LINE@ | while IFS= read -r part || [ -n "$part" ]; do
      printf '%s files %s\n' "$METTA_MARK" "$part"
    done
  fi
  rm -f "$packed"
fi
printf '\n%s outcome %s\n' "$METTA_MARK" "$(cat "$METTA_JOB_DIR/outcome.json")"
exit $code
""".replace("@LINE@", str(_LINE))


@dataclass(frozen=True)
class Outcome:
    """How the command ended on its nodes: the first exit code that is not 0, else 0; seconds; by its time limit?"""

    exit_code: int
    ran_s: float
    limit: bool


def mark(token: str) -> str:
    """The word that begins an attempt's marked lines."""
    return f"::metta-{token}::"


def script(command: Sequence[str], token: str, *, cwd: str | None = None, limit_s: float | None, grace_s: float) -> str:
    """Return the shell script that runs `command` on each node and leaves evidence under this token.

    `cwd` is a folder below the one that the code is shipped to.
    """
    words = " ".join(map(_word, command))
    head = [
        f"METTA_CWD='{_word(cwd or '.')}'",
        f"METTA_ARGV='{words}'",
        f"METTA_MARK='{mark(token)}'",
        f"METTA_LIMIT_S='{'' if limit_s is None else int(limit_s)}'",
        f"METTA_GRACE_S='{int(grace_s) + 1}'",
        f"METTA_SHIP_BYTES='{SHIP_BYTES}'",
    ]
    return "\n".join(head) + _SCRIPT


def _word(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode() or "-"


def read_outcome(log: str, token: str) -> Outcome | None:
    """Find the outcome in a log: of a job that was started again, the last of each node. None where there is none."""
    found: dict[int, dict[str, Any]] = {}
    for match in re.finditer(rf"{re.escape(mark(token))} outcome (\{{[^\n]*\}})", log):
        try:
            record = json.loads(match[1])
            found[int(record["rank"])] = {
                "exit_code": int(record["exit_code"]),
                "ran_s": max(0.0, float(record["ended"]) - float(record["started"])),
                "limit": record["limit"] is True,
            }
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut off, or another's
    if not found:
        return None
    codes = [found[rank]["exit_code"] for rank in sorted(found)]
    return Outcome(
        next((code for code in codes if code), 0),
        max(record["ran_s"] for record in found.values()),
        any(record["limit"] for record in found.values()),
    )


def unpack_files(log: str, token: str, folder: Path) -> int:
    """Put the files that a log carries into `folder`, and return how many; nothing leaves that folder.

    Of a job that was started again, the last pack that is whole counts.
    """
    parts = re.findall(rf"{re.escape(mark(token))} files ([A-Za-z0-9+/=]+)", log)
    packs: list[str] = [""]
    for part in parts:
        packs[-1] += part
        if len(part) < _LINE:
            packs.append("")
    for pack in reversed([pack for pack in packs if pack]):
        try:
            with tarfile.open(fileobj=io.BytesIO(base64.b64decode(pack, validate=True)), mode="r:gz") as archive:
                members = [m for m in archive.getmembers() if m.isfile() or m.isdir()]
                archive.extractall(folder, members, filter="data")
                return sum(member.isfile() for member in members)
        except (tarfile.TarError, binascii.Error, OSError, EOFError):
            continue
    return 0


def without_marks(log: str, token: str) -> str:
    """The log as the job wrote it, without our marked lines and the empty one before them."""
    lines = re.sub(
        rf"(?m)^(?:(?:\[rank \d+\] ?)?\n)?[^\n]*{re.escape(mark(token))} (?:files|outcome) [^\n]*\n?", "", log
    )
    return lines.rstrip("\n") + "\n" if lines.strip("\n") else ""

"""A newcomer's first hour, command by command, in an empty folder, and whether it kept its word.

    python experiments/first_hour/transcript.py --lm-ref LM_REF --stories STORIES --out OUT

Three subjects: a Llama of 6.4 M parameters with its documents (LM_REF, a folder), a small Llama
that ``stories.py`` trains on TinyStories (STORIES, JSON lines), and the vision quickstart. Of each
``init`` (but for the quickstart), ``plan``, ``search``, ``front``, ``export``, ``report``: what was
typed and printed goes to ``OUT/<subject>.md``. Then it checks what a person relies on, and writes
``OUT/table.md``: the default picks keep at least 80 % of what the dense model knows, or it is said
that none does; the plan's total is within 30 % of what the run took.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import evoprune
from evoprune.core.quality import USEFUL

HERE = Path(__file__).resolve().parent
PICKS = ("safe", "balanced", "small")
TOTAL = re.compile(r"^TOTAL\s+about ([\d.]+) (s|min|h)\b", re.MULTILINE)
# By how much of a run's seconds its plan may be off.
MOST_OFF = 0.3
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass
class Transcript:
    """What was typed into a shell and what it printed.

    Args:
        folder: an empty one, where everything is typed.
        shown: path → what it is called in the transcript, so that none is published.
    """

    folder: Path
    shown: dict[str, str]
    lines: list[str] = field(default_factory=list)

    def type(self, *words: str) -> tuple[str, float]:
        """Runs a command; returns what it printed and the seconds that it took.

        Raises:
            RuntimeError: it failed.
        """
        began = time.monotonic()
        command = [sys.executable, "-m", "evoprune.cli", *words[1:]]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
        self.lines += [f"$ {' '.join(words)}", done.stdout.rstrip(), f"# {took:.0f} s", ""]
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout}")
        return done.stdout, took

    def write(self, path: Path, title: str) -> None:
        """Writes it as Markdown, paths by their names."""
        text = "\n".join(self.lines)
        for real in sorted(self.shown, key=len, reverse=True):
            text = text.replace(real, self.shown[real])
        text = re.sub(r"node [\d.]+, process \d+", "this machine", text)
        path.write_text(f"# {title}\n\n```\n{text}```\n", encoding="utf-8")


def hour(shell: Transcript, config: str, output: str) -> list[str]:
    """Returns a row of the table, after one search from its plan to its report.

    Args:
        shell: where things are typed.
        config: the configuration.
        output: the run folder that it names.
    """
    planned, _ = shell.type("evoprune", "plan", config)
    total = TOTAL.search(planned)
    if total is None:
        raise RuntimeError(f"the plan names no total:\n{planned}")
    said = float(total[1]) * UNITS[total[2]]
    _, took = shell.type("evoprune", "search", config)
    shell.type("evoprune", "front", output)
    for pick in PICKS:
        shell.type("evoprune", "export", output, "-p", pick)
    shell.type("evoprune", "report", output)
    front = evoprune.Run.load(shell.folder / output).front
    kept = [kept_in_words(front.choose(pick)) for pick in PICKS]
    return [*kept, f"{said:.0f} s", f"{took:.0f} s", f"{said / took - 1:+.0%}"]


def kept_in_words(choice: "evoprune.folder.picks.Choice") -> str:
    """Returns what a pick keeps on validation and on report, and what was said of it.

    Raises:
        RuntimeError: it keeps less than is useful, and nothing was said.
    """
    values = choice.point.values
    kept = values["val_quality_kept"]
    if kept < USEFUL and choice.warning is None:
        raise RuntimeError(f"a pick keeps {kept:.1%} without a word")
    said = f" ({choice.warning})" if choice.warning else ""
    return f"{kept:.1%}, {values['report_quality_kept']:.1%}{said}"


def main() -> None:
    """Runs the subjects that are asked for, and writes transcripts and table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lm-ref", type=Path, help="a Llama with documents.jsonl beside it")
    parser.add_argument("--stories", type=Path, help="TinyStories, JSON lines with a field text")
    parser.add_argument("--minutes", default="4", help="for each search")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="first-hour-") as scratch:
        folder = Path(scratch)
        shown = {f"{folder.resolve()}{os.sep}": "", str(folder.resolve()): "."}
        if asked.lm_ref:
            shell = Transcript(folder, {**shown, str(asked.lm_ref.resolve()): "lm_ref"})
            data = asked.lm_ref.resolve() / "documents.jsonl"
            shell.type("evoprune", "init", str(asked.lm_ref.resolve()), str(data), "--minutes",
                       asked.minutes, "-o", "lm_ref.yaml")  # fmt: skip
            rows.append(["lm_ref", *hour(shell, "lm_ref.yaml", "runs/lm_ref")])
            shell.write(asked.out / "lm_ref.md", "A Llama of 6.4 M parameters and its documents")
        if asked.stories:
            subprocess.run([sys.executable, HERE / "stories.py", asked.stories, folder], check=True)
            shell = Transcript(folder, shown)
            shell.type("evoprune", "init", "model", "held_out.txt", "--minutes", asked.minutes,
                       "-o", "stories.yaml")  # fmt: skip
            rows.append(["stories", *hour(shell, "stories.yaml", "runs/stories")])
            shell.write(asked.out / "stories.md", "A small Llama, trained here on TinyStories")
        shell = Transcript(folder, shown)
        config = "experiments/quickstart_vision/config.yaml"
        rows.append(["vision quickstart", *hour(shell, config, "runs/quickstart_vision")])
        shell.write(asked.out / "vision.md", "The vision quickstart")
    header = ["subject", *(f"{pick}: kept on validation, report" for pick in PICKS)]
    table = [[*header, "plan says", "took", "plan is off by"], ["---"] * 7, *rows]
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    (asked.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    off = [row[0] for row in rows if abs(float(row[-1].rstrip("%"))) > 100 * MOST_OFF]
    if off:
        raise SystemExit(f"the plan is off by more than {MOST_OFF:.0%}: {', '.join(off)}")


if __name__ == "__main__":
    main()

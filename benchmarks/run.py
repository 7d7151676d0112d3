"""Every benchmark, one after the other, each writing its page. `--try` shows in minutes that all run."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Script, page, what --try adds to make it small.
BENCHMARKS = {
    "startup": ("startup.py", "startup.md", ""),
    "million": ("trust/million.py", "trust/million.md", "--sizes 20000 --with-test 20000"),
    "speed": ("question_answering.py --speed", "question-answering.md", "--rows 24 --repeats 1"),
    "memory": ("question_answering.py --memory", "question-answering.md", "--rows 48"),
    "ablation": ("question_answering.py --ablation", "question-answering.md", "--rows 24 --repeats 1"),
    "prediction": (
        "prediction.py",
        "prediction.md",
        "--rows 24 --repeats 1 --train-rows 48 --epochs 1",
    ),
    "frozen": ("frozen_features.py", "frozen-features.md", "--rows 64 --test-rows 64 --epochs 2"),
    "entities": ("entities.py", "entities.md", "--rows 48 --test-rows 48 --seeds 1 --epochs 1"),
    "imdb": ("imdb_quality.py", "imdb-quality.md", "--rows 48 --test-rows 48 --seeds 1"),
    "instructions": ("instruction_tuning.py --quality", "instruction-tuning.md", "--quality-rows 40 --new-tokens 16"),
    "trl": ("instruction_tuning.py --speed", "instruction-tuning.md", "--rows 8 --repeats 1"),
    "forgetting": ("forgetting.py", "forgetting.md", "--rows 20 --seeds 1 --epochs 1"),
    "adversarial": ("adversarial.py", "adversarial.md", "--rows 32 --test-rows 32 --seeds 1 --epochs 1"),
    "prompt-or-tune": (
        "prompt_or_tune.py",
        "prompt-or-tune.md",
        "--rows 8 --validation-rows 4 --test-rows 4 --epochs 1",
    ),
    "situations": ("situations.py", "situations.md", "leaked few --seeds 0"),
    "bias": ("bias.py", "bias.md", "--rows 400 --epochs 1 --seeds 7"),
    "evidence": ("evidence_cost.py", "evidence-cost.md", "--part 0.01"),
    "soundness": (
        "soundness.py",
        "soundness.md",
        "--seeds 0 --rows 200 --deep-rows 200 --epochs 1 --max-length 32 --questions 200 --copy-rows 2000",
    ),
    "retrieval": ("retrieval.py", "retrieval.md", "--rows 200 --seeds 1 --epochs 1"),
    "quality": (
        "question_answering.py --quality",
        "question-answering.md",
        "--quality-rows 32 --seeds 2 --epochs 1",
    ),
    "reach": (
        "question_answering.py --reach",
        "question-answering.md",
        "--quality-rows 32 --seeds 1 --epochs 1",
    ),
    "unanswerable": (
        "question_answering.py --unanswerable",
        "question-answering.md",
        "--quality-rows 32 --seeds 1 --epochs 1",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("names", nargs="*", help=f"which ones (default: all): {', '.join(BENCHMARKS)}")
    parser.add_argument("--data", help="handed to those that read SQuAD; a folder also to the one that reads WNUT-17")
    parser.add_argument("--try", dest="small", action="store_true", help="tiny settings, no page is written")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    codes = {}
    for name in args.names or BENCHMARKS:
        script, page, small = BENCHMARKS[name]
        command = [sys.executable, *shlex.split(script)]
        command[1] = str(HERE / command[1])
        command += shlex.split(small) if args.small else ["--page", str(HERE / page)]
        if args.data and command[1].endswith(("question_answering.py", "prediction.py", "soundness.py")):
            command += ["--data", args.data]
        if args.data and Path(args.data).is_dir() and command[1].endswith("entities.py"):
            command += ["--data", args.data]
        print(f"== {name}", file=sys.stderr, flush=True)
        codes[name] = subprocess.run(command).returncode
    words = {0: "every demand met", 3: "a demand missed", 2: "not measured: something is missing"}
    for name, code in codes.items():
        print(f"{name}: {words.get(code, f'failed with {code}')}")
    return next((code for code in codes.values() if code not in words), max(codes.values()))


if __name__ == "__main__":
    sys.exit(main())

"""The command line, see the package."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from eval.benchmarks.default_loss import __doc__ as about
from eval.benchmarks.default_loss.jobs import JOBS, STUDY, Job, build_jobs, read_jobs, write_jobs
from eval.benchmarks.default_loss.objectives import OBJECTIVES
from eval.benchmarks.default_loss.starts import STARTS

RESULTS = Path(__file__).parents[2] / "results"
RUNS = Path("runs/default-loss")


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.benchmarks.default_loss",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="train and score what is missing")
    run.set_defaults(do=_run)
    _add_jobs(run)
    run.add_argument("--models", type=Path, default=os.environ.get("FMICL_MODELS"), help="folder with minilm-mlm/")
    run.add_argument("--objectives", nargs="*", metavar="NAME", help="names or beginnings of names; default all")
    run.add_argument("--starts", nargs="*", choices=STARTS, default=list(STARTS), help="default all")
    run.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3], help="default 1 2 3")
    run.add_argument("--workers", type=int, default=1, help="processes; they share one GPU; default 1")
    run.add_argument("--threads", type=int, default=1, help="threads of a process; default 1")
    run.add_argument("--device", help="default cuda where there is one, else cpu")
    run.add_argument("--minutes", type=float, help="begin no run after so many; go on later by the same command")

    pack = commands.add_parser("pack", help="write the jobs to a file, to be run where the data is not")
    pack.set_defaults(do=_pack)
    _add_jobs(pack)
    pack.add_argument("file", type=Path)

    report = commands.add_parser("report", help="write the report of the runs")
    report.set_defaults(do=_report)
    _add_jobs(report)
    report.set_defaults(runs=RESULTS)
    report.add_argument("--output", type=Path, default=RESULTS, help="folder; default eval/results")
    report.add_argument("--seeds", nargs="*", type=int, help="seeds of the report; default all")

    args = parser.parse_args()
    args.do(args)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=Path, default=RUNS, help=f"folder of the files of runs; default {RUNS}, of `report` eval/results"
    )
    parser.add_argument(
        "--jobs", nargs="*", choices=JOBS, metavar="JOB", help=f"of {', '.join(JOBS)}; default the study's"
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("FMICL_DATA"), help="folder of the data")
    parser.add_argument("--packed", type=Path, help="file of jobs written by `pack`, in place of --data")


def _jobs(args: argparse.Namespace) -> dict[str, Job]:
    names = args.jobs or STUDY
    if args.packed:
        packed = read_jobs(args.packed)
        return {name: packed[name] for name in names if name in packed}
    if args.data is None:
        raise SystemExit("give --data FOLDER, or --packed FILE")
    return build_jobs(args.data, names)


def _run(args: argparse.Namespace) -> None:
    import torch

    from eval.benchmarks.default_loss.runs import Setting, plan, read_runs, run_all

    chosen = [o for o in OBJECTIVES if not args.objectives or o.name.startswith(tuple(args.objectives))]
    deadline = None if args.minutes is None else time.time() + 60 * args.minutes
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    units = plan(_jobs(args).values(), args.starts, args.seeds, chosen, read_runs(args.runs))
    began = time.perf_counter()
    run_all(units, Setting(args.runs, args.models, device, args.threads, deadline), args.workers)
    print(f"{len(units)} units, {time.perf_counter() - began:.0f} s; {len(read_runs(args.runs))} runs in {args.runs}")


def _pack(args: argparse.Namespace) -> None:
    write_jobs(_jobs(args).values(), args.file)


def _report(args: argparse.Namespace) -> None:
    from eval.benchmarks.default_loss.report import Study, write_report
    from eval.benchmarks.default_loss.runs import read_runs

    wanted = [run for run in read_runs(args.runs) if not args.seeds or run["seed"] in (0, *args.seeds)]
    write_report(Study.of(_jobs(args), wanted), args.output)


if __name__ == "__main__":
    main()

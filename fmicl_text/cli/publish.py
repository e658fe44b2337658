"""``fmicl publish``: put a run or an encoder on the Hugging Face Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from fmicl_text.bars import silence_model_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source",
        metavar="RUN_OR_MODEL",
        help="a run folder (of several seeds the first is published), a seed's folder, or an encoder's",
    )
    parser.add_argument("repo", metavar="REPO", help="OWNER/NAME on the Hub; created if it does not exist")
    parser.add_argument("--license", metavar="ID", help="such as apache-2.0; default: what the run's recipe says")
    parser.add_argument(
        "--language",
        action="append",
        default=[],
        metavar="CODE",
        help="such as en; may be repeated; default: what the run's recipe says, or the base model's card",
    )
    parser.add_argument("--private", action="store_true", help="only you can see it")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to (main); created if it does not exist")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write everything to the folder RUN_OR_MODEL-publish, and send the Hub no request",
    )
    parser.add_argument(
        "--merge-adapter", action="store_true", help="merge an adapter into its base model, and publish the result"
    )
    parser.add_argument(
        "--exports",
        action="store_true",
        help="publish too what `fmicl export` has made of the run",
    )
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what the branch, or the folder of a dry run, holds"
    )


def run(args: argparse.Namespace) -> int:
    """Publish, and print where."""
    from fmicl_text.cli.console import Console

    with Console(stderr=True).status("loading libraries"):
        from fmicl_text.hub import publish

        silence_model_files()
    console = Console()
    source = Path(args.source)
    folder = source.resolve().with_name(f"{source.resolve().name}-publish") if args.dry_run else None
    published = publish(
        source,
        args.repo,
        license=args.license,
        language=args.language,
        private=args.private,
        revision=args.revision,
        dry_run=folder,
        merge_adapter=args.merge_adapter,
        create_pr=args.create_pr,
        overwrite=args.overwrite,
        exports=args.exports,
    )
    if published is None:
        console.print(f"{args.repo} would be {folder}", soft_wrap=True)
    else:
        console.print(f"published and checked: commit {published.commit}", soft_wrap=True)
        console.print(published.url, soft_wrap=True)
    return 0

"""Mutation testing: does a test fail when the code is changed?  `make mutants` runs it.

    python tests/mutation/run.py              # 400 mutants
    python tests/mutation/run.py --count 0    # all of them: hours
    python tests/mutation/run.py --groups flow layout

Results are kept in `.cache/mutants`: an interrupted run goes on where it was.  After a change of a
file its mutants are run again, after a change of tests those that survived.  `equivalent.yaml`
lists mutants that behave like the original; they are not counted.
"""

import argparse
import concurrent.futures
import hashlib
import json
import math
import multiprocessing
import os
import random
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mutate  # pyright: ignore[reportMissingImports]
import worker  # pyright: ignore[reportMissingImports]
import yaml
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / "mutants"
LEAST_OF_A_GROUP = 25
CPU_SECONDS = 20.0  # and twice what the tests take without a mutant

Results = dict[str, dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=400, help="mutants to run, 0 for all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--groups", nargs="*", help="only these groups of mutation.toml")
    arguments = parser.parse_args()
    settings = tomllib.loads((Path(__file__).parent / "mutation.toml").read_text())
    groups = settings["groups"]
    if arguments.groups:
        groups = {name: groups[name] for name in arguments.groups}
    FOLDER.mkdir(parents=True, exist_ok=True)
    everything = {name: all_mutants(group["sources"]) for name, group in groups.items()}
    drawn = draw(everything, arguments.count, settings["seed"])
    results = {}
    with concurrent.futures.ProcessPoolExecutor(
        arguments.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=worker.start,
        initargs=(ROOT, FOLDER),
    ) as pool:
        for name, group in groups.items():
            results[name] = run_group(pool, name, group, drawn[name], settings["markers"])
        for _ in range(arguments.jobs):
            pool.submit(worker.stop)
    return report(everything, results, settings["least_share"])


def all_mutants(sources: Iterable[str]) -> list[mutate.Mutant]:
    """Every mutant of files and folders."""
    files = [
        path.relative_to(ROOT).as_posix()
        for source in sources
        for path in (sorted((ROOT / source).rglob("*.py")) or [ROOT / source])
    ]
    return [mutant for file in files for mutant in mutate.mutants(ROOT, file)]


def draw(
    everything: dict[str, list[mutate.Mutant]], count: int, seed: int
) -> dict[str, list[mutate.Mutant]]:
    """A random sample of each group, by its size but of at least `LEAST_OF_A_GROUP`."""
    total = sum(map(len, everything.values()))
    drawn = {}
    for name, members in everything.items():
        wanted = max(LEAST_OF_A_GROUP, round(count * len(members) / total)) if count else total
        shuffled = random.Random(f"{seed} {name}").sample(members, len(members))
        chosen, texts = [], set()
        for mutant in shuffled:
            if len(chosen) == wanted:
                break
            if mutant.valid and mutant.source not in texts:
                texts.add(mutant.source)
                chosen.append(mutant)
        drawn[name] = chosen
    return drawn


def run_group(
    pool: concurrent.futures.Executor,
    name: str,
    group: dict[str, Any],
    mutants: Sequence[mutate.Mutant],
    markers: str,
) -> list[dict[str, Any]]:
    """Runs a group's tests on its mutants; results of earlier runs are used where they hold."""
    tests = group["tests"]
    store = FOLDER / f"{name}.jsonl"
    digest, known = _digest(tests), _read(store)
    waiting = [m for m in mutants if not _holds(known.get(_key(m)), digest)]
    if waiting:
        measured = pool.submit(worker.measure, group["sources"], tests, markers).result()
        if measured["failed"]:
            sys.exit(f"{name}: the tests fail without a mutant:\n{measured['failed']}")
        cpu = CPU_SECONDS + 2 * sum(measured["seconds"].values())
        order = _order(measured, waiting[0])
        file = waiting[0].file
        source = (ROOT / file).read_text(encoding="utf-8")
        for tried in (order, order[::-1]):  # the tests must not depend on their order
            control = pool.submit(worker.judge, file, source, tests, tried, markers, cpu).result()
            if control["outcome"] != "survived":
                sys.exit(f"{name}: without a mutant the tests end as {control}")
        jobs = {}
        for mutant in waiting:
            order = _order(measured, mutant)
            job = pool.submit(worker.judge, mutant.file, mutant.source, tests, order, markers, cpu)
            jobs[job] = mutant
        done = concurrent.futures.as_completed(jobs)
        with store.open("a", encoding="utf-8") as file:
            for job in tqdm(done, total=len(jobs), desc=name, file=sys.stderr):
                result = _describe(jobs[job]) | job.result() | {"tests": digest}
                known[result["key"]] = result
                print(json.dumps(result), file=file, flush=True)
    return [known[_key(m)] for m in mutants]


def report(
    everything: dict[str, list[Any]], results: dict[str, list[dict[str, Any]]], least: float
) -> int:
    """Prints survivors and the share caught in each group; 1 if it is below the least."""
    listed = yaml.safe_load((Path(__file__).parent / "equivalent.yaml").read_text())
    equivalent = {(e["file"], e["was"], new) for e in listed for new in e["becomes"]}
    counted = {
        name: [r for r in group if (r["file"], r["was"], r["becomes"]) not in equivalent]
        for name, group in results.items()
    }
    for group in counted.values():
        for result in group:
            if result["outcome"] == "survived":
                print(f"survived: {result['file']}:{result['line']} {result['function']}")
                print(f"  - {result['was']}\n  + {result['becomes']}")
    print(f"{'group':10} {'mutants':>8} {'run':>5} {'equivalent':>11} {'caught':>7}  share")
    weighted = variance = 0.0
    total = sum(len(everything[name]) for name in counted)
    for name, group in counted.items():
        caught = sum(r["outcome"] != "survived" for r in group)
        share, low, high = _wilson(caught, len(group))
        weight = len(everything[name]) / total
        weighted += weight * share
        variance += weight**2 * share * (1 - share) / max(len(group), 1)
        ran = results[name]
        print(
            f"{name:10} {len(everything[name]):8} {len(ran):5} {len(ran) - len(group):11} "
            f"{caught:7}  {share:.1%} ({low:.1%} to {high:.1%})"
        )
    margin = 1.96 * math.sqrt(variance)
    print(f"all, by the groups' sizes: {weighted:.1%} +- {margin:.1%}; at least {least:.0%} wanted")
    return int(weighted < least)


def _wilson(caught: int, count: int) -> tuple[float, float, float]:
    """A share and its 95 % confidence interval (Wilson 1927)."""
    if not count:
        return 1.0, 0.0, 1.0
    z, share = 1.96, caught / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return share, middle - half, middle + half


def _order(measured: dict[str, Any], mutant: mutate.Mutant) -> list[str]:
    """Files with tests that run the mutated line first; in a file these tests, the fast ones first.

    A file's tests stay together, because they share fixtures.
    """
    seconds = measured["seconds"]
    covering = set(measured["lines"].get(mutant.file, {}).get(str(mutant.line), ()))
    files: dict[str, list[str]] = {}
    for test in seconds:
        files.setdefault(test.partition("::")[0], []).append(test)

    def cost(tests: list[str]) -> tuple[bool, float]:
        hits = [test for test in tests if test in covering]
        return not hits, sum(seconds[test] for test in hits or tests)

    return [
        test
        for tests in sorted(files.values(), key=cost)
        for test in sorted(tests, key=lambda test: (test not in covering, seconds[test]))
    ]


def _describe(mutant: mutate.Mutant) -> dict[str, Any]:
    was, becomes = mutant.change
    place = {"file": mutant.file, "line": mutant.line, "function": mutant.function}
    return {"key": _key(mutant), **place, "was": was, "becomes": becomes}


def _key(mutant: mutate.Mutant) -> str:
    return hashlib.sha256(f"{mutant.file}\0{mutate.meaning(mutant.source)}".encode()).hexdigest()


def _holds(result: dict[str, Any] | None, digest: str) -> bool:
    """Tests that were changed may catch what survived; what was caught stays so."""
    return result is not None and (result["outcome"] != "survived" or result["tests"] == digest)


def _digest(tests: Iterable[str]) -> str:
    files = [f for t in tests for f in (sorted((ROOT / t).rglob("*.py")) or [ROOT / t])]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


def _read(store: Path) -> Results:
    lines = store.read_text(encoding="utf-8").splitlines() if store.is_file() else []
    return {result["key"]: result for result in map(json.loads, lines)}


if __name__ == "__main__":
    sys.exit(main())

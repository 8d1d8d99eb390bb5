"""Contenders side by side: the rounds of their runs, ratios taken in each, as tables and a picture.

Shared by bench/compare and bench/python.
"""

import argparse
import dataclasses
import json
import pathlib

import picture
import report

from runs import mean

TURNS = 8  # runs of each contender in a round where several take turns


def parser(name, text):
    """The arguments that all benchmarks have."""
    made = argparse.ArgumentParser(
        prog=f"bench/{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="for a first look: few rounds, short")
    made.add_argument("--rounds", metavar="N", type=int)
    made.add_argument("--seconds", metavar="S", type=float, help="of each run")
    made.add_argument(
        "--only",
        metavar="TEXT",
        action="append",
        help="only comparisons with TEXT in their titles; can be given several times",
    )
    made.add_argument("--output", metavar="FOLDER", type=pathlib.Path, default=report.RESULTS)
    return made


def parse(made):
    options = made.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


@dataclasses.dataclass
class Comparison:
    work: str
    ours: str  # names of runs
    theirs: list  # the best of them counts in each round
    against: str
    goal: float = None  # None: there is no goal
    takes_turns: bool = False  # in each round, in short runs: for small differences

    def ratios(self, found):
        pairs = zip(found[self.ours], self.best(found))
        # A run that was too short may have counted nothing.
        return [max(ours, 1) / max(theirs, 1) for ours, theirs in pairs]

    def best(self, found):
        """The others' operations per second in each round."""
        return [max(each) for each in zip(*(found[name] for name in self.theirs))]


class Plan:
    """The runs to be made, by name, each a function, and the comparisons to be made of them."""

    def __init__(self, only=None):
        """`only`: a list of texts, one of which each title must have."""
        self.work = {}
        self.comparisons = []
        self._only = only

    def wants(self, title):
        return self._only is None or any(text in title for text in self._only)

    def add(self, name, function, *args, **how):
        self.work[name] = lambda: function(*args, **how)
        return name

    def compare(self, *what, **how):
        self.comparisons.append(Comparison(*what, **how))

    def _drop_unwanted(self):
        """Drop the comparisons that are not wanted, and runs that are not needed then."""
        if self._only is None:
            return
        self.comparisons = [each for each in self.comparisons if self.wants(each.work)]
        wanted = {name for each in self.comparisons for name in [each.ours, *each.theirs]}
        self.work = {name: run for name, run in self.work.items() if name in wanted}

    def _groups(self):
        """The names of the runs in lists: a list for those that take turns, and one for each of the
        others."""
        together = {}
        for each in self.comparisons:
            if each.takes_turns:
                together.setdefault(each.ours, [each.ours]).extend(each.theirs)
        grouped = {name for names in together.values() for name in names}
        alone = {name: [name] for name in self.work if name not in grouped}
        return [(together | alone)[name] for name in self.work if name in together | alone]

    def _take_turns(self, names):
        """{name: the mean of its runs}."""
        results = {name: [] for name in names}
        for turn in range(TURNS if len(names) > 1 else 1):
            for name in names if turn % 2 == 0 else reversed(names):
                results[name].append(self.work[name]())
        return {name: mean(each) for name, each in results.items()}

    def measure(self, rounds, log):
        """Make all runs, one after the other in each round, the next round in the opposite order.
        """
        self._drop_unwanted()
        results = {name: [] for name in self.work}
        groups = self._groups()
        for number in range(rounds):
            for names in groups if number % 2 == 0 else reversed(groups):
                for name, result in self._take_turns(names).items():
                    results[name].append(result)
                    log(f"round {number + 1} of {rounds}, {name}: {result.per_second:,.0f}/s")
        return Measured(self.comparisons, results)


class Measured:
    """The results of a plan."""

    def __init__(self, comparisons, results):
        self.comparisons = comparisons
        self.results = results  # {name: the Result of each round}
        self._found = {
            name: [each.per_second for each in rounds] for name, rounds in results.items()
        }

    def main_table(self):
        rows = []
        for each in self.comparisons:
            ratios = each.ratios(self._found)
            verdict = ""
            if each.goal is not None:
                verdict = "reached" if report.median(ratios) >= each.goal else "MISSED"
            rows.append(
                [
                    each.work,
                    report.spread(self._found[each.ours], "{:,.0f}"),
                    f"{each.against}: {report.spread(each.best(self._found), '{:,.0f}')}",
                    report.spread(ratios, "{:.2f}"),
                    "" if each.goal is None else f"{each.goal:g}",
                    verdict,
                ]
            )
        heads = ["", "hypervault, per second", "against, per second", "ratio", "goal", ""]
        return report.table(heads, rows)

    def all_table(self):
        rows = []
        for name, rounds in sorted(self.results.items()):
            client, server = (
                report.spread(
                    [getattr(each, cpu) / each.operations * 1e6 for each in rounds], "{:.2f}"
                )
                for cpu in ("client_cpu", "server_cpu")
            )
            rows.append([name, report.spread(self._found[name], "{:,.0f}"), client, server])
        heads = ["contender, work, callers", "per second", "client's CPU, µs each", "server's"]
        return report.table(heads, rows)

    def draw(self, title):
        bars = []
        for each in self.comparisons:
            ratios = sorted(each.ratios(self._found))
            ours, theirs = map(report.median, (self._found[each.ours], each.best(self._found)))
            rates = f"{ours:,.0f} a second; {each.against}: {theirs:,.0f}"
            bars.append((each.work, rates, ratios[0], report.median(ratios), ratios[-1], each.goal))
        return picture.draw(
            title,
            "medians; thin line: lowest to highest of all rounds; dashes: the goal; orange: below it",
            bars,
        )

    def write(self, folder, name, title, text, **more):
        """Write NAME.md, NAME.svg and NAME.json."""
        report.write(folder / f"{name}.md", text)
        report.write(folder / f"{name}.svg", self.draw(title))
        everything = json.dumps({"runs": self.results, **more}, default=dataclasses.asdict)
        report.write(folder / f"{name}.json", everything + "\n")

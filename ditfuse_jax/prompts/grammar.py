"""Instructions from a grammar, each with the requests that it makes.

The phrases are in data/instructions/grammar; the sentences of the pools are part of it.  The same
generator state gives the same sentences.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ditfuse_jax.prompts import typing_errors
from ditfuse_jax.prompts.core_sentences import core_pair, core_sentences
from ditfuse_jax.prompts.phrases import PhraseChooser, PhraseList, grammar_file, tidy
from ditfuse_jax.prompts.pools import INSTRUCTION_POOLS
from ditfuse_jax.prompts.requests import (
    CLASSES,
    DEFECTS,
    LEVELS,
    ROLES,
    TONE_AXES,
    Request,
    Requests,
    check_requests,
    conflicting,
)

# Pool -> axis and level of its sentences; the other pools but `restoration` ask for no change.
_POOL_REQUESTS = {
    "light_plus": ("brightness", 1),
    "light_plus_plus": ("brightness", 2),
    "light_minus": ("brightness", -1),
    "light_minus_minus": ("brightness", -2),
    "contrast_plus": ("contrast", 1),
    "contrast_minus": ("contrast", -1),
}
_PLAIN_POOLS = ("fusion", "ivif", "mff", "mef", "medical", "region", "stack")

# Probabilities.
_KINDS = {
    **{"nothing": 0.1, "single": 0.14, "compound": 0.1, "partly": 0.03, "pool": 0.03},
    **{"core": 0.52, "core_pair": 0.08},
}
_AXES = {
    **dict.fromkeys(TONE_AXES, 0.165),
    "emphasis": 0.15,
    "repair": 0.09,
    "segment": 0.1,
}
_NOTHING = {
    **{"fusion": 0.22, "keep": 0.3, "keep_emphasis": 0.05, "keep_segmentation": 0.05},
    **{"unknown_class": 0.07, "unknown_region": 0.06, "other": 0.1, "languages": 0.07},
    "gibberish": 0.08,
}
_CONSTRUCTIONS = {
    **{"comparative": 0.24, "verb": 0.2, "noun": 0.22, "complaint": 0.13},
    **{"adjective": 0.07, "change": 0.05, "sentences": 0.09},
}
_IN_REGION = 0.3
_SHARED_REGION = 0.35  # of compounds that begin with a limited tone
_DEGREE_FIELDS = ("degree", "amount", "adverb", "size", "very", "too")
_STRENGTH = {1: ("none", "slight"), 2: ("strong",)}


class InstructionGrammar:
    """Draws instructions with their requests."""

    def __init__(self, rng: np.random.Generator, split: str = "train"):
        """Creates a generator.

        Args:
          rng: the source of randomness.
          split: `train`, or `heldout` for sentences with at least one phrase that training
            sentences never contain.
        """
        self.choose = PhraseChooser(rng, split)
        self._regions = grammar_file("regions")
        self._degrees = grammar_file("degrees")

    def __iter__(self) -> Iterator[tuple[str, Requests]]:
        """Yields instructions without end."""
        while True:
            yield self.draw()

    def draw(self, axis: str | None = None) -> tuple[str, Requests]:
        """Draws an instruction, about one axis if it is given.

        Returns:
          The text and 0 to `MAX_REQUESTS` requests in the order of the text.
        """
        while True:
            self.choose.reset()
            text, requests = self._draw_kind("single" if axis else self._draw_key(_KINDS), axis)
            text = self._disturbed(tidy(text))
            if text and (self.choose.num_heldout or not self.choose.heldout):
                return text, requests

    def _draw_key(self, weights: Mapping[str, float]) -> str:
        shares = np.array(list(weights.values()))
        return list(weights)[int(self.choose.rng.choice(len(shares), p=shares / shares.sum()))]

    def _draw_kind(self, kind: str, axis: str | None) -> tuple[str, Requests]:
        wrappers = grammar_file("wrappers")
        if kind == "nothing":
            return self._nothing(), ()
        if kind == "pool" or (kind.startswith("core") and self.choose.heldout):
            return self._from_pool()
        if kind == "core_pair":
            return core_pair(self.choose)
        if kind == "core":
            text, asked = self.choose.one_of(core_sentences())
            return self._wrapped(text, 0.15), asked
        if kind == "partly":
            request = self.draw_request(self.choose.one_of(TONE_AXES))
            keep = self._keep(self.choose.one_of([a for a in TONE_AXES if a != request.axis]))
            fields = {"x": self._clause(request), "keep": keep}
            return self._fill(wrappers["keep_join"], fields), (request,)
        count = 1 if kind == "single" else 2 + self.choose.chance(0.35)
        requests: list[Request] = []
        shared: tuple[str, ...] = ()
        if count > 1 and self.choose.chance(_SHARED_REGION * _IN_REGION):
            shared = self._draw_classes()
        while len(requests) < count:
            new = self.draw_request(axis or self._draw_key(_AXES))
            if shared:
                if new.axis not in TONE_AXES:
                    continue
                new = dataclasses.replace(new, classes=shared)
            if not any(conflicting(one, new) for one in requests):
                requests.append(new)
        return self.express(requests), check_requests(requests)

    def draw_request(self, axis: str) -> Request:
        """Draws a request about an axis."""
        if axis == "segment":
            return Request(axis, classes=self._draw_marked())
        roles = (*ROLES, "infrared", "visible", "infrared", "visible")
        if axis == "repair":
            defect = self.choose.one_of(DEFECTS)
            needs_source = grammar_file("repair")["kinds"][defect]["needs_source"]
            named = needs_source or self.choose.chance(0.7)
            return Request(axis, role=self.choose.one_of(roles) if named else None, defect=defect)
        level = self.choose.one_of(LEVELS)
        role = self.choose.one_of(roles) if axis == "emphasis" else None
        limited = self.choose.chance(_IN_REGION * (0.4 if role else 1))
        return Request(axis, level, self._draw_classes() if limited else (), role=role)

    def express(self, requests: Sequence[Request]) -> str:
        """Returns a sentence that makes one to three requests."""
        shared = requests[0].classes if len({request.classes for request in requests}) == 1 else ()
        if len(requests) > 1 and shared and all(one.axis in TONE_AXES for one in requests):
            return self._wrapped(self._shared_region(requests, shared))
        clauses = []
        for k, request in enumerate(requests):
            # A region at the beginning would hold for later requests without one as well.
            in_front = all(later.classes for later in requests[k + 1 :])
            clauses.append(self._clause(request, in_front))
        return self._wrapped(self._joined(clauses))

    def _joined(self, clauses: Sequence[str]) -> str:
        join, text = grammar_file("wrappers")["join"], clauses[0]
        for clause in clauses[1:]:
            text += self.choose.phrase(join) + clause
        return text

    def _shared_region(self, requests: Sequence[Request], classes: tuple[str, ...]) -> str:
        """Returns a sentence that names a region once and makes several requests about it."""
        if self.choose.chance(0.25):
            return self._joined([self._clause(one) for one in requests])
        region = {"region": self._class_names(classes)}
        if self.choose.chance(0.5):
            front = self.choose.fill(self.choose.phrase(self._regions["front"]), region)
            return front + self._joined([self._tone(one.axis, one.level, ()) for one in requests])
        template, described = "{degree} {comparative}", []
        for one in requests:
            fields = self._tone_fields(grammar_file(one.axis), one.level, template)
            described.append(self.choose.fill(template, fields))
        return self._fill(self._regions["shared"], region | {"x": self._joined(described)})

    def _clause(self, request: Request, in_front: bool = True) -> str:
        """Returns a clause; `in_front` allows that it begins with the region."""
        if request.axis == "segment":
            return self._segment(request.classes)
        if request.axis == "repair":
            return self._repair(request)
        if request.axis == "emphasis":
            return self._emphasis(request, in_front)
        return self._tone(request.axis, request.level, request.classes, in_front)

    def _tone(self, axis: str, level: int, classes: tuple[str, ...], in_front: bool = True) -> str:
        """Returns a clause about brightness, contrast, saturation or detail."""
        words = grammar_file(axis)
        kind = self._draw_key(_CONSTRUCTIONS)
        if kind == "sentences":
            side = words["up" if level > 0 else "down"]
            template = self.choose.phrase(side["sentences"][f"{level:+d}"])
        else:
            template = self._construction(grammar_file("constructions")[kind], level)
        fields = self._tone_fields(words, level, template)
        front, place = self._place(template, classes, in_front)
        return front + self.choose.fill(template, fields | place)

    def _construction(self, templates: PhraseList, level: int) -> str:
        """Draws a template that can express the level: level 2 needs a word of degree."""
        while True:
            before = self.choose.num_heldout
            template = self.choose.phrase(templates)
            if abs(level) == 1 or any(f"{{{name}}}" in template for name in _DEGREE_FIELDS):
                return template
            self.choose.num_heldout = before

    def _tone_fields(self, words: Mapping[str, Any], level: int, template: str) -> dict[str, Any]:
        side = words["up" if level > 0 else "down"]
        # Only drawn if the template uses it: a held-out phrase counts.
        comparative = ""
        if "{comparative}" in template:
            comparative = self.choose.phrase(side["comparatives"])
        fields: dict[str, Any] = self._degree_fields(level, plain=comparative.startswith("not "))
        change = self._degrees["up" if level > 0 else "down"]
        return fields | {
            "comparative": comparative,
            "adjective": side["adjectives"],
            "verb": side["verbs"],
            "complaint": side["complaints"],
            "change": side["changes"],
            "noun": words["nouns"],
            "remedy": lambda: self._remedy(side),
            **change,
        }

    def _remedy(self, side: Mapping[str, Any]) -> str:
        """Returns what follows a complaint."""
        templates = ("make it {c}", "{v} it", "a bit {c} please", "fix that", "I want it {c}")
        fields = {"c": side["comparatives"], "v": side["verbs"]}
        return self.choose.fill(self.choose.one_of(templates), fields)

    def _degree_fields(self, level: int, plain: bool = False) -> dict[str, Any]:
        """Returns words for the strength of a level; `plain` leaves out the degree's."""
        strength = self.choose.one_of(_STRENGTH[abs(level)])
        fields: dict[str, Any] = {name: self._degrees[name][strength] for name in _DEGREE_FIELDS}
        if plain and strength != "strong":
            fields["degree"] = ""
        return fields

    def _place(
        self, template: str, classes: tuple[str, ...], in_front: bool = True
    ) -> tuple[str, dict[str, Any]]:
        """Returns a beginning and the fields `it` and `where` that limit a clause to classes."""
        whole = self._regions["whole"]

        def it() -> str:
            return "it" if self.choose.chance(0.4) else self.choose.phrase(whole)

        if not classes:
            return "", {"it": it, "where": ""}
        region = {"region": self._class_names(classes)}

        def phrase(kind: str) -> str:
            return self.choose.fill(self.choose.phrase(self._regions[kind]), region)

        options = ["it"] * 2 * ("{it}" in template) + ["where"] * 2 * ("{where}" in template)
        kind = self.choose.one_of(["front"] * (in_front or not options) + options)
        if kind == "it":
            return "", {"it": phrase("object"), "where": ""}
        if kind == "where":
            return "", {"it": it, "where": phrase("where")}
        return phrase("front"), {"it": it, "where": ""}

    def _draw_classes(self) -> tuple[str, ...]:
        count = 1 + self.choose.chance(0.15)
        drawn = self.choose.rng.choice(len(CLASSES), count, replace=False)
        return tuple(CLASSES[k] for k in sorted(drawn))

    def _class_names(self, classes: Sequence[str], form: str | None = None) -> str:
        """Returns names joined by `and`; `form` is `one`, `plural` or None for either."""
        names = []
        for name in classes:
            entry = self._regions["classes"][name]
            lists = {"train": entry["train"], "heldout": entry["heldout"]}
            plural = form == "plural" or (form is None and self.choose.chance(0.4))
            if plural and entry.get("plural"):
                lists = {"train": entry["plural"], "heldout": entry["heldout"]}
            names.append(self.choose.phrase(lists))
        return self.choose.one_of((" and ", " and the ", ", ")).join(names)

    def _emphasis(self, request: Request, in_front: bool) -> str:
        words, role, level = grammar_file("emphasis"), request.role, request.level
        sentences = words["sentences"].get(f"{role}{level:+d}")
        if sentences and self.choose.chance(0.15):
            template = self.choose.phrase(sentences)
        else:
            template = self._construction(words["up" if level > 0 else "down"], level)
        fields = self._degree_fields(level) | {"role": words["roles"][role]}
        text = self.choose.fill(template, fields)
        if request.classes:
            front, place = self._place("{where}", request.classes, in_front)
            text = f"{front}{text} {place['where']}"
        return text

    def _repair(self, request: Request) -> str:
        words = grammar_file("repair")
        kind = words["kinds"][request.defect]
        template = self.choose.phrase(words["with_source" if request.role else "without_source"])
        fields = {name: kind[name] for name in ("is", "noun", "verb")} | {"fix": words["fix"]}
        if request.role:
            names = grammar_file("emphasis")["roles"][request.role]
            names = {
                split: [n for n in names[split] if n.startswith("the ")] or names[split]
                for split in names
            }
            source = self.choose.phrase(names)
            fields |= {"source": source, "source_bare": source.removeprefix("the ")}
        return self.choose.fill(template, fields)

    def _draw_marked(self) -> tuple[str, ...]:
        """Draws the classes to mark; none for all."""
        if self.choose.chance(0.15):
            return ()
        count = 1 if self.choose.chance(0.7) else int(self.choose.rng.integers(2, 4))
        return tuple(self.choose.rng.choice(CLASSES, count, replace=False).tolist())

    def _segment(self, classes: tuple[str, ...]) -> str:
        words = grammar_file("segmentation")
        if not classes:
            return self.choose.phrase(words["everything"])
        shuffled = self.choose.rng.permutation(classes).tolist()
        return self._fill(words["named"], self._segment_fields(shuffled))

    def _segment_fields(self, classes: Sequence[str]) -> dict[str, Any]:
        return {
            "the_classes": lambda: "the " + self._class_names(classes),
            "classes": lambda: self._class_names(classes, "plural"),
            "class_one": lambda: self._class_names(classes, "one"),
        }

    def _nothing(self) -> str:
        kind = self._draw_key(_NOTHING)
        words = grammar_file("nothing")
        if kind == "keep":
            return self._wrapped(self._keep(self.choose.one_of(TONE_AXES)), 0.15)
        if kind == "gibberish":
            self.choose.num_heldout += self.choose.heldout
            return typing_errors.gibberish(self.choose)
        if kind == "unknown_region":
            # A request like others, but about something that is no class.
            axis, level = self.choose.one_of(TONE_AXES), self.choose.one_of(LEVELS)
            name = self.choose.phrase(self._regions["unknown"])
            template = self.choose.phrase(grammar_file("constructions")["comparative"])
            fields = self._tone_fields(grammar_file(axis), level, template)
            it = self.choose.fill(self.choose.phrase(self._regions["object"]), {"region": name})
            if "{it}" not in template:
                template = f"{template} in {it}"
            return self.choose.fill(template, fields | {"it": it, "where": ""})
        fields = self._segment_fields(self._draw_classes()) | {
            "role": grammar_file("emphasis")["roles"][self.choose.one_of(ROLES)],
            "region": self._regions["unknown"],
        }
        text = self._fill(words[kind], fields)
        return self._wrapped(text, 0.2) if kind != "languages" else text

    def _keep(self, axis: str) -> str:
        """Returns a clause that asks to leave an axis as it is."""
        words = grammar_file(axis)
        level = self.choose.one_of(LEVELS)
        template = self.choose.phrase(grammar_file("nothing")["keep"])
        side, opposite = (words[name] for name in (("up", "down") if level > 0 else ("down", "up")))
        fields = self._tone_fields(words, level, "") | {
            "comparative": lambda: self._comparative(side),
            "opposite": lambda: self._comparative(opposite),
        }
        classes = self._draw_classes() if self.choose.chance(0.15) else ()
        front, place = self._place(template, classes)
        return front + self.choose.fill(template, fields | place)

    def _comparative(self, side: Mapping[str, Any]) -> str:
        """Draws a comparative that is not a negation itself."""
        while True:
            before = self.choose.num_heldout
            found = self.choose.phrase(side["comparatives"])
            if not found.startswith(("not ", "less ")):
                return found
            self.choose.num_heldout = before

    def _from_pool(self) -> tuple[str, Requests]:
        """Returns a sentence of a pool, which is held out in the held-out split."""
        split = "heldout" if self.choose.heldout else "train"
        self.choose.num_heldout += self.choose.heldout

        def sentence(pool: str) -> str:
            return self.choose.one_of(INSTRUCTION_POOLS.find(pool).sentences_of(split))

        kind = self.choose.rng.random()
        if kind < 0.4:
            return sentence(self.choose.one_of(_PLAIN_POOLS)), ()
        if kind < 0.5:
            name = self.choose.one_of(CLASSES)
            text = sentence("segmentation").replace("{class}", self._class_names((name,)))
            return text, (Request("segment", classes=(name,)),)
        if kind < 0.55:
            return sentence("scene"), (Request("segment"),)
        pool = self.choose.one_of(list(_POOL_REQUESTS))
        text = sentence(pool)
        if self.choose.chance(0.4):
            text = f"{sentence('fusion')} {text}"
        return text, (Request(*_POOL_REQUESTS[pool]),)

    def _wrapped(self, text: str, probability: float = 0.4) -> str:
        """Returns the text with politeness or context around it."""
        wrappers = grammar_file("wrappers")
        if self.choose.chance(probability):
            kind = self.choose.one_of(("polite", "polite", "before", "before", "after", "fusion"))
            if kind == "fusion":
                first = self._fill(grammar_file("nothing")["fusion"], {})
                return f"{first}{self.choose.one_of(('. ', ', ', ' and ', '; '))}{text}"
            text = self._fill(wrappers[kind], {"x": text})
        return text

    def _fill(self, phrases: Any, fields: Mapping[str, Any]) -> str:
        return self.choose.fill(self.choose.phrase(phrases), fields)

    def _disturbed(self, text: str) -> str:
        if self.choose.chance(0.04):
            text = typing_errors.drop_articles(text, self.choose)
        if self.choose.chance(0.12):
            text = typing_errors.misspell(text, self.choose)
        return typing_errors.change_case(text, self.choose)


def distinct_instructions(
    count: int, seed: int, split: str, accept: Callable[[str], bool] = lambda text: True
) -> dict[str, Requests]:
    """Returns `count` distinct instructions, ignoring case, with their requests."""
    grammar = InstructionGrammar(np.random.default_rng(seed), split)
    found: dict[str, Requests] = {}
    seen: dict[str, Requests] = {}
    for text, requests in grammar:
        key = " ".join(text.casefold().split())
        if key not in seen and accept(text):
            seen[key] = requests
            found[text] = requests
        if len(found) == count:
            return found
    raise AssertionError

"""Figures of the model card: how well regions and places are named that neither taught nor chose anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import InputError
from domainsam.foundation import load_foundation
from domainsam.metrics.bootstrap import bootstrap
from domainsam.prompter.words import WordOptions, WordSource
from domainsam.protocols import Word
from domainsam.vocabulary.embedded import EmbeddedWords, load_words
from domainsam.vocabulary.known import share_classes
from recipes.words.concepts import read_concepts
from recipes.words.corpus import Named
from recipes.words.features import Samples, view_picture
from recipes.words.learn import LearnOptions, cosines, gather_words, learn_head, take

LEFT_OUT = 20
"""Concepts that the test of new classes leaves out of training, drawn once among frequent ones."""
ENOUGH = 10
LEAST = 0.5
"""Score from which one word alone is taken: below it, that it is none of it is likelier."""
SETS = {"photographs": ("coco", "feral_cat"), "garments": ("ccp",), "streets": ("camvid",)}
CITIES = ("mumbai", "beijing", "fair_kampala")
FOUND = ("informal settlement", "vegetation", "water", "built-up area", "impervious surface")
SCENES = {"informal settlement": ("mumbai", "beijing")}
"""Sets that label a word everywhere; of the others Mumbai does."""

Pair = tuple[Samples, Samples]


def judge(regions: Pair, places: Pair, records: list[Named], path: Path, work: Path) -> dict[str, Any]:
    """All figures of a file, as JSON can hold them."""
    model = load_words(path)
    held = regions[1]
    probability = tell_regions(model, held)
    sources = np.array([one.source for one in records])
    told: dict[str, Any] = {"regions": judge_sets(probability, held, sources)}
    told["places"] = judge_sets(tell_places(model, places[1]), places[1], sources)
    told["finding"] = find_by_word(probability, held, sources)
    told["finding_in_scenes"] = find_in_scenes(model, records)
    told["synonyms"] = judge_synonyms(model, probability, held)
    told["left_out"] = judge_left_out(regions, work)
    return told


@torch.inference_mode()
def tell_regions(model: EmbeddedWords, samples: Samples) -> NDArray[np.float32]:
    """Probabilities ``(N, C)`` of all concepts for regions."""
    prototypes = torch.from_numpy(model.known.prototypes())
    values = cosines(model.network.region, samples, prototypes) * model.temperatures[0]
    return spread_out(values.softmax(dim=1).numpy(), model)


def number_classes(model: EmbeddedWords) -> list[int]:
    """The concept that each of a model's classes is."""
    numbers = {one.name: number for number, one in enumerate(read_concepts())}
    return [numbers[one.name] for one in model.known.senses if len(one.classes) == 1]


def spread_out(probability: NDArray[np.float32], model: EmbeddedWords) -> NDArray[np.float32]:
    """Probabilities of a model's classes ``(N, c)`` as those of all concepts ``(N, C)``, 0 for others."""
    full = np.zeros((len(probability), len(read_concepts())), np.float32)
    full[:, number_classes(model)] = probability
    return full


@torch.inference_mode()
def tell_places(model: EmbeddedWords, samples: Samples) -> NDArray[np.float32]:
    """Probabilities ``(N, C)`` of all concepts for places."""
    prototypes = torch.from_numpy(model.known.prototypes())
    values = cosines(model.network.place, samples, prototypes) * model.temperatures[1]
    return spread_out(values.softmax(dim=1).numpy(), model)


def judge_sets(probability: NDArray[np.float32], held: Samples, sources: NDArray[np.str_]) -> dict[str, Any]:
    """Accuracy among all concepts, and among those of a set, by set, with intervals over pictures."""
    own = sources[held.pictures.numpy()]
    truth = held.concepts.numpy()
    found = {"all": score(probability.argmax(axis=1) == truth, held.pictures)}
    for name, parts in {**SETS, **{one: (one,) for one in CITIES}}.items():
        rows = np.isin(own, parts)
        if not rows.any():
            continue
        words = np.unique(truth[rows])
        among = words[probability[rows][:, words].argmax(axis=1)]
        found[name] = score(
            probability[rows].argmax(axis=1) == truth[rows], held.pictures[torch.from_numpy(rows)]
        )
        found[name]["concepts"] = len(words)
        found[name]["among_its_own"] = score(among == truth[rows], held.pictures[torch.from_numpy(rows)])
    return found


def score(right: NDArray[np.bool_], pictures: Tensor) -> dict[str, Any]:
    """Share that is right, with a 95 % interval from resampling pictures."""
    units = [right[(pictures == one).numpy()] for one in pictures.unique()]
    sums = np.array([[one.sum(), len(one)] for one in units], np.float64)
    interval = bootstrap(sums, lambda total: total[:, 0] / total[:, 1])
    return {
        "n": len(right),
        "pictures": len(units),
        "right": round(interval.value, 3),
        "from": round(interval.low, 3),
        "to": round(interval.high, 3),
    }


def find_by_word(
    probability: NDArray[np.float32], held: Samples, sources: NDArray[np.str_]
) -> dict[str, Any]:
    """Precision and recall of finding a concept by its score, in the cities, at :data:`LEAST`."""
    concepts = read_concepts()
    own = np.isin(sources[held.pictures.numpy()], CITIES)
    truth, found = held.concepts.numpy()[own], {}
    for number in np.unique(truth).tolist():
        taken, real = probability[own][:, number] >= LEAST, truth == number
        found[concepts[number].name] = {
            "n": int(real.sum()),
            "precision": round(float((taken & real).sum() / max(1, taken.sum())), 3),
            "recall": round(float((taken & real).sum() / real.sum()), 3),
        }
    return found


def find_in_scenes(model: EmbeddedWords, records: list[Named]) -> dict[str, Any]:
    """Precision and recall, of pixels, of ``urban find --words W --proposals map`` in held-back cities.

    A word is looked for alone, all else counts as none of it; only ground with a label counts.
    """
    concepts = read_concepts()
    foundation = load_foundation("embedded")
    found: dict[str, Any] = {}
    for name in FOUND:
        number = next(place for place, one in enumerate(concepts) if one.name == name)
        rows = []
        for one in records:
            if not one.held_back or one.source not in SCENES.get(name, CITIES[:1]):
                continue
            source = WordSource(model, [Word(name)], foundation, options=WordOptions(LEAST, proposals="map"))
            mask = np.zeros(one.ids.shape, bool)
            for shown in source.find(view_picture(one.image)):
                mask[shown.bounds.slices] |= shown.mask
            truth = np.isin(one.ids, np.flatnonzero(np.array(one.names) == number) + 1)
            known = one.ids > 0
            rows.append([(mask & truth).sum(), (mask & known).sum(), truth.sum()])
        sums = np.array(rows, np.float64)
        told: dict[str, Any] = {"pictures": len(rows), "with_it": int((sums[:, 2] > 0).sum())}
        for kind, over in (("precision", 1), ("recall", 2)):
            interval = bootstrap(sums[:, [0, over]], lambda total: total[:, 0] / np.maximum(total[:, 1], 1))
            told[kind] = [round(value, 3) for value in (interval.value, interval.low, interval.high)]
        found[name] = told
    return found


def judge_synonyms(model: EmbeddedWords, probability: NDArray[np.float32], held: Samples) -> dict[str, Any]:
    """What becomes of words kept from training, and how well regions are named by such words alone."""
    concepts, known = read_concepts(), number_classes(model)
    numbers, words, refused, right = [], [], 0, 0
    for number in known:
        one = concepts[number]
        for text in one.kept_back:
            try:
                taken = model.known.take([Word(text)])[0]
            except InputError:
                refused += 1
                continue
            right += number in [known[place] for place in taken.sense.classes]
            numbers.append(number)
            words.append(taken)
    shares = share_classes(words, len(known))
    rows = np.isin(held.concepts.numpy(), numbers)
    best = np.array(numbers)[(probability[rows][:, known] @ shares.T).argmax(axis=1)]
    named = score(best == held.concepts.numpy()[rows], held.pictures[torch.from_numpy(rows)])
    total = len(words) + refused
    return {"words": total, "refused": refused, "taken_rightly": right, "regions_named_by_them": named}


def judge_left_out(regions: Pair, work: Path) -> dict[str, Any]:
    """Accuracy on concepts that training never saw, among themselves: chance is one in their number."""
    concepts = read_concepts()
    words = gather_words(concepts, np.load(work / "vectors.npy"))
    counts = torch.bincount(regions[1].concepts, minlength=len(concepts)).numpy()
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(np.flatnonzero(counts >= ENOUGH), LEFT_OUT, replace=False))
    head = learn_head(regions[0], words, LearnOptions(epochs=12), without=chosen)
    rows = torch.from_numpy(np.isin(regions[1].concepts.numpy(), chosen))
    held = take(regions[1], rows)
    values = cosines(head, held, words.means()[torch.from_numpy(chosen)])
    right = chosen[values.argmax(dim=1).numpy()] == held.concepts.numpy()
    named = score(right, held.pictures)
    return {"concepts": [concepts[number].name for number in chosen], "chance": 1 / LEFT_OUT, **named}

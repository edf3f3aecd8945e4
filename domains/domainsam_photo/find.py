"""What looks like an example, in many pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.infer.pictures import PictureView
from domainsam.prompter.example import ExampleSource, learn_examples
from domainsam.prompter.persam import PublishedPerSam
from domainsam.protocols import Foundation, SceneObject
from domainsam_photo.job import Batch, Finder, PictureResult, Shown, find_by, run_pictures
from domainsam_photo.read.marked import Example, parse_example, read_example
from domainsam_photo.settings import FindOptions


def find_in_pictures(
    inputs: Sequence[Path], options: FindOptions, watch: Callable[[PictureResult], None] | None = None
) -> Batch:
    """Find in pictures, and in folders of pictures, what looks like the examples, and write it.

    A picture where nothing looks alike gets an empty mask: that is an answer.

    Raises
    ------
    ConfigError
        If there is no example, or options exclude each other.
    InputError
        If an example cannot be read or used.
    OutputError
        If an output exists or cannot be written.
    """
    if not options.like:
        raise ConfigError("nothing says what to look for; give --like PICTURE:MASK")
    examples = [parse_example(text) for text in options.like]
    against = [parse_example(text) for text in options.unlike]
    return run_pictures(
        inputs, options.run, lambda foundation: make_finder(examples, against, foundation, options), watch
    )


def make_finder(
    examples: Sequence[Example], against: Sequence[Example], foundation: Foundation, options: FindOptions
) -> Finder:
    """A function from a picture to what is found in it.

    Raises
    ------
    ConfigError
        If the published order is asked for with several examples, a counter-example, or another decoder.
    InputError
        If an example cannot be read or used.
    """
    if options.parity:
        return _make_published(examples, against, foundation, options)
    shown = [_load(example, foundation) for example in examples]
    others = [_load(example, foundation) for example in against]
    target = learn_examples(shown, foundation, others, finetune=options.finetune)
    return find_by(ExampleSource(target, foundation, options.search), foundation)


def _load(example: Example, foundation: Foundation) -> tuple[PictureView, SceneObject]:
    picture, mask = read_example(example)
    view = PictureView(lambda _: picture, 1, foundation)
    return view, view.shrink_mask(mask)


def _make_published(
    examples: Sequence[Example], against: Sequence[Example], foundation: Foundation, options: FindOptions
) -> Finder:
    if len(examples) != 1 or against:
        raise ConfigError("--parity follows the public code, which takes one example and no counter-example")
    if not isinstance(foundation, SamStyleFoundation) or not foundation.guidable:
        raise ConfigError(
            f"PerSAM's own order (--parity, --method persam) needs SAM's decoder, which {foundation.name} has"
            " not: leave it out (--method example), or name a SAM"
        )
    public = PublishedPerSam(foundation)
    picture, mask = read_example(examples[0])
    target = public.learn(picture, mask, options.finetune)

    def find(other: NDArray[np.uint8]) -> list[Shown]:
        answer = public.find(target, other)
        if answer is None:
            return []
        return [Shown(answer.masks[answer.best], float(np.clip(answer.scores[answer.best], 0, 1)))]

    return find

"""What looks like an example, found anywhere in a scene, a volume or a picture (PerSAM, Zhang et al. 2023).

An example gives a target (:func:`domainsam.prompter.target.learn_target`); every cell of the scene is
compared with it, standardised over the scene; where it looks most alike a point is set, where least a
point against; a cascade of decodings makes the mask. That repeats until nothing looks alike any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from domainsam.errors import InputError
from domainsam.prompter.cascade import learn_weights
from domainsam.prompter.search import ExampleOptions, Search, suppress_same
from domainsam.prompter.similarity import map_similarity, place_cell
from domainsam.prompter.target import Target, compare_shown, learn_target, show_example
from domainsam.protocols import Foundation, SceneObject, View

__all__ = ["ExampleOptions", "ExampleSource", "Target", "learn_examples"]


class ExampleSource:
    """Objects that look like a target: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    target
        From :func:`domainsam.prompter.target.learn_target` or :func:`learn_examples`.
    foundation
        The one that it was learned with; the views that are searched have to use it too.
    options
        How far the search goes.

    Raises
    ------
    InputError
        If the target was learned with another foundation.
    """

    def __init__(self, target: Target, foundation: Foundation, options: ExampleOptions | None = None) -> None:
        if target.foundation != foundation.sha256:
            raise InputError(
                f"the target was learned with another foundation than {foundation.name}; learn it again"
            )
        self.target, self.foundation = target, foundation
        self.options = options or ExampleOptions()

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects of all frames, the most alike first; none where nothing looks alike.

        Each has a box, a mask, the point that found it, and a score: the product of the foundation's
        estimate of the mask's IoU, of how much its inside looks like the target, of how well it agrees
        with what looks alike there, and of a factor for its size.
        """
        alike = map_similarity(view, self.target, self.foundation.image_size)
        search = Search(view, alike, self.target, self.foundation, self.options)
        found = [one for frame in range(view.frames) for one in search.look_through(frame)]
        yield from suppress_same(found)[: self.options.most]


def learn_examples(
    examples: Sequence[tuple[View, SceneObject]],
    foundation: Foundation,
    counterexamples: Sequence[tuple[View, SceneObject]] = (),
    *,
    finetune: bool = False,
) -> Target:
    """A target, with PerSAM-F's two weights learned on the examples where ``finetune`` asks for it.

    Parameters, errors as of :func:`domainsam.prompter.target.learn_target`.
    """
    target = learn_target(examples, foundation, counterexamples)
    if not finetune:
        return target
    shown = []
    for number, (view, one) in enumerate(examples, 1):
        seen = show_example(view, one, foundation.image_size, f"example {number}")
        similarity = np.where(seen.own, compare_shown(seen, target), -np.inf)
        row, col = divmod(int(similarity.argmax()), similarity.shape[1])
        shown.append((view.features(seen.window), place_cell(row, col), seen.mask))
    return replace(target, weights=learn_weights(shown, foundation))

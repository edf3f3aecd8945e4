"""Tests that every foundation, prompt source, namer and pack must pass; subclass one beside your own.

::

    @pytest.fixture(scope="module")
    def mine():
        return MyFoundation(...)

    class TestMine(FoundationContract):
        @pytest.fixture
        def foundation(self, mine):
            return mine
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import InputError, PackError
from domainsam.foundation import FoundationSpec, load_foundation
from domainsam.grid import Grid
from domainsam.packs import DomainPack, find_packs, load_pack
from domainsam.prompts import PromptSet
from domainsam.protocols import (
    Block,
    Features,
    Foundation,
    Masks,
    Namer,
    PromptSource,
    SceneObject,
    View,
    Window,
    Word,
    WordMapper,
)


def make_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Smooth random RGB images ``(count, 3, H, W)`` in 0 to 1, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size[0] // 16, size[1] // 16, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def make_prompts(count: int, images: int, size: tuple[int, int], seed: int = 0) -> PromptSet:
    """Prompts of all kinds at once, spread over ``images`` images of ``size`` (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    extent = torch.tensor([width, height], dtype=torch.float32)
    corner = torch.rand(count, 2, generator=generator) * extent / 2
    boxes = torch.cat([corner, corner + extent / 3], dim=1)
    inside = corner[:, None] + torch.rand(count, 2, 2, generator=generator) * extent / 3
    points = torch.cat([inside, torch.tensor([1.0, 0.0]).expand(count, 2)[..., None]], dim=2)
    return PromptSet(
        image_index=torch.arange(count) % images,
        labels=torch.ones(count, dtype=torch.int64),
        scores=torch.ones(count),
        points=points,
        boxes=boxes,
        mask_logits=torch.randn(count, 1, height // 4, width // 4, generator=generator),
    )


class FoundationContract:
    """What the rest of the project relies on; ``foundation`` is a fixture of the subclass.

    Attributes
    ----------
    tolerance
        Largest accepted difference of logits between a batch and its items,
        relative to the largest logit: kernels may sum in another order.
    sizes
        Image sizes (H, W) to try, multiples of 32.
    understands
        Prompts that it can express; see :attr:`domainsam.foundations.FoundationSpec.prompts`.
    """

    tolerance = 1e-4
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (96, 160))
    understands: tuple[str, ...] = FoundationSpec.prompts

    def _prompts(self, count: int, images: int, size: tuple[int, int]) -> PromptSet:
        """Prompts of all kinds that it understands at once."""
        prompts = make_prompts(count, images, size)
        if "points outside" not in self.understands:
            assert prompts.points is not None
            prompts = prompts.replace(points=prompts.points.clamp(min=1.0))
        return prompts if "masks" in self.understands else prompts.replace(mask_logits=None)

    @pytest.fixture
    def foundation(self) -> Foundation:
        raise NotImplementedError("give the contract a foundation: override this fixture")

    def _same(self, one: Tensor, other: Tensor) -> bool:
        limit = self.tolerance * max(1.0, float(other.abs().max()))
        return one.shape == other.shape and float((one - other).abs().max()) <= limit

    def test_says_what_it_is(self, foundation: Foundation) -> None:
        assert isinstance(foundation, Foundation)
        assert foundation.name
        assert foundation.image_size % 32 == 0
        assert len(foundation.sha256) == 64
        assert set(foundation.sha256) <= set("0123456789abcdef")
        assert torch.device(foundation.device)

    def test_shapes_for_any_size(self, foundation: Foundation) -> None:
        for height, width in self.sizes:
            features = foundation.encode(make_images(2, (height, width)))
            assert features.size == (height, width)
            assert features.image.shape == (2, 256, height // 16, width // 16)
            assert len(features.levels) in (0, 2)
            for level, stride in zip(features.levels, (4, 8), strict=False):
                assert (level.shape[0], *level.shape[2:]) == (2, height // stride, width // stride)
            prompts = self._prompts(3, 2, (height, width))
            for multimask, readings in ((False, 1), (True, 3)):
                masks = foundation.decode(features, prompts, multimask)
                assert masks.logits.shape == (3, readings, height // 4, width // 4)
                assert masks.iou.shape == (3, readings)
                assert masks.logits.dtype == masks.iou.dtype == features.image.dtype == torch.float32
                assert torch.isfinite(masks.logits).all()

    def test_no_prompts_no_masks(self, foundation: Foundation) -> None:
        features, prompts = self._case(foundation)
        masks = foundation.decode(features, prompts[:0])
        assert masks.logits.shape[:2] == (0, 1)
        assert masks.iou.shape == (0, 1)

    def test_deterministic(self, foundation: Foundation) -> None:
        first, second = self._decoded(foundation), self._decoded(foundation)
        assert torch.equal(first.logits, second.logits)
        assert torch.equal(first.iou, second.iou)

    def test_batch_equals_items(self, foundation: Foundation) -> None:
        size = self.sizes[-1]
        images, prompts = make_images(2, size), self._prompts(5, 2, size)
        together = foundation.encode(images)
        masks = foundation.decode(together, prompts)
        for index in range(2):
            alone = foundation.encode(images[index : index + 1])
            assert self._same(alone.image, together.image[index : index + 1])
            for number in torch.nonzero(prompts.image_index == index).flatten().tolist():
                one = prompts[number : number + 1]
                one = one.replace(image_index=torch.zeros_like(one.image_index))
                single = foundation.decode(alone, one)
                assert self._same(single.logits, masks.logits[number : number + 1])
                assert self._same(single.iou, masks.iou[number : number + 1])

    def test_tokens_stand_for_points_and_boxes(self, foundation: Foundation) -> None:
        features, prompts = self._case(foundation)
        tokens = foundation.embed(prompts, features.size)
        assert tokens.shape[0] == len(prompts)
        assert tokens.shape[2] == 256
        plain = foundation.decode(features, prompts)
        replaced = foundation.decode(features, prompts.replace(tokens=tokens))
        assert self._same(replaced.logits, plain.logits)

    def test_every_prompt_matters(self, foundation: Foundation) -> None:
        features, prompts = self._case(foundation)
        masks = foundation.decode(features, prompts)
        for part in ("points", "boxes", "mask_logits"):
            if getattr(prompts, part) is None:
                continue
            without = foundation.decode(features, prompts.replace(**{part: None}))
            assert not torch.equal(without.logits, masks.logits), f"{part} changed nothing"

    def test_gradient_reaches_prompts_and_never_weights(self, foundation: Foundation) -> None:
        features, prompts = self._case(foundation)
        tokens = foundation.embed(prompts, features.size).detach().requires_grad_()
        given = {"tokens": tokens}
        if prompts.mask_logits is not None:
            given["mask_logits"] = prompts.mask_logits.clone().requires_grad_()
        masks = foundation.decode(features, prompts.replace(**given))
        gradients = torch.autograd.grad(masks.logits.square().mean(), list(given.values()))
        assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)
        model = getattr(foundation, "model", None)
        for parameter in model.parameters() if isinstance(model, torch.nn.Module) else ():
            assert not parameter.requires_grad
            assert parameter.grad is None

    def test_stays_frozen_inside_a_module_that_trains(self, foundation: Foundation) -> None:
        class Holder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.foundation = foundation

        holder, before = Holder(), self._decoded(foundation)
        assert not list(holder.parameters())
        assert not holder.state_dict()
        holder.train()
        assert torch.equal(self._decoded(foundation).logits, before.logits)

    def test_refuses_unfit_input(self, foundation: Foundation) -> None:
        for shape in ((1, 3, 50, 64), (3, 64, 64), (1, 4, 64, 64)):
            with pytest.raises(InputError, match="multiples of 32"):
                foundation.encode(torch.zeros(shape))
        features, prompts = self._case(foundation)
        with pytest.raises(InputError, match="were encoded"):
            foundation.decode(features, prompts.replace(image_index=prompts.image_index + 2))
        with pytest.raises(InputError, match="quarter"):
            foundation.decode(features, prompts.replace(mask_logits=torch.zeros(len(prompts), 1, 8, 8)))

    def _case(self, foundation: Foundation) -> tuple[Features, PromptSet]:
        size = self.sizes[0]
        return foundation.encode(make_images(2, size)), self._prompts(4, 2, size)

    def _decoded(self, foundation: Foundation) -> Masks:
        return foundation.decode(*self._case(foundation))


class ArrayView:
    """A smooth random picture as a :class:`~domainsam.protocols.View`, the same every time.

    Parameters
    ----------
    shape
        Rows and columns, multiples of 16.
    frames
        Number of pictures.
    foundation
        Encodes them; without one there are no features.
    """

    def __init__(
        self, shape: tuple[int, int] = (64, 96), frames: int = 1, foundation: Foundation | None = None
    ) -> None:
        self.shape = shape
        self.frames = frames
        self.grid = Grid.of_pixels(shape)
        self.foundation = foundation
        self._images = make_images(frames, shape).numpy()
        self._kept: dict[Window, Features] = {}

    def image(self, window: Window) -> NDArray[np.float32]:
        """RGB picture ``(3, h, w)``, 0 outside."""
        return self.block(window).image

    def block(self, window: Window) -> Block:
        """Picture of a window, valid inside."""
        image = np.zeros((3, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        rows, cols = window.slices
        inside = (
            slice(max(0, rows.start), min(self.shape[0], rows.stop)),
            slice(max(0, cols.start), min(self.shape[1], cols.stop)),
        )
        place = tuple(
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(inside, (rows, cols), strict=True)
        )
        image[:, *place] = self._images[window.frame][:, *inside]
        valid[place] = True
        return Block(window, image, valid)

    def features(self, window: Window) -> Features:
        """Features of the picture of a window whose sides are multiples of 32."""
        if self.foundation is None:
            raise InputError("this view has no foundation, so it has no features; give it one")
        if window not in self._kept:
            self._kept[window] = self.foundation.encode(torch.from_numpy(self.image(window))[None])
        return self._kept[window]


class PromptSourceContract:
    """What the engine relies on; ``source``, and ``view`` if need be, are fixtures of the subclass.

    The given view has two frames of 64 x 96 pixels and the features of the fake foundation.
    """

    @pytest.fixture
    def source(self) -> PromptSource:
        raise NotImplementedError("give the contract a prompt source: override this fixture")

    @pytest.fixture
    def view(self) -> View:
        """What the source looks at."""
        return ArrayView(frames=2, foundation=load_foundation("fake"))

    def test_is_a_prompt_source(self, source: PromptSource, view: View) -> None:
        assert isinstance(source, PromptSource)
        assert isinstance(view, View)

    def test_objects_lie_in_the_view(self, source: PromptSource, view: View) -> None:
        rows, columns = view.shape
        for found in source.find(view):
            assert isinstance(found, SceneObject)
            bounds = found.bounds
            assert 0 <= bounds.frame < view.frames
            assert bounds.row >= 0
            assert bounds.col >= 0
            assert bounds.row + bounds.height <= rows
            assert bounds.col + bounds.width <= columns
            assert all(0 <= point.x < columns and 0 <= point.y < rows for point in found.points)

    def test_bounds_are_the_smallest(self, source: PromptSource, view: View) -> None:
        for found in source.find(view):
            if found.mask is None:
                smallest = SceneObject.marked(found.points, found.box, found.bounds.frame)
                assert found.bounds == smallest.bounds

    def test_finds_the_same_again(self, source: PromptSource, view: View) -> None:
        first, second = list(source.find(view)), list(source.find(view))
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert one.bounds == other.bounds
            assert (one.label, one.score, one.points, one.box) == (
                other.label,
                other.score,
                other.points,
                other.box,
            )
            masks = [np.zeros(0) if mask is None else mask for mask in (one.mask, other.mask)]
            assert np.array_equal(masks[0], masks[1])


class NamerContract:
    """What naming by words relies on; the subclass gives ``namer``, and ``words`` that it understands.

    The given view has two frames of 96 x 128 pixels and the features of the fake foundation.
    """

    words: tuple[Word, ...] = (Word("red"), Word("green", ("emerald",)), Word("blue"))

    @pytest.fixture
    def namer(self) -> Namer:
        raise NotImplementedError("give the contract a namer: override this fixture")

    @pytest.fixture
    def view(self) -> View:
        """What the objects lie in."""
        return ArrayView((96, 128), frames=2, foundation=load_foundation("fake"))

    def _objects(self) -> list[SceneObject]:
        mask = np.zeros((40, 60), bool)
        mask[:30, 10:50] = mask[35:, :1] = True
        return [
            SceneObject(Window(20, 30, 40, 60), mask=mask),
            SceneObject.marked(box=(3.5, 4.5, 20.0, 31.0)),
            SceneObject.marked(box=(0, 0, 128, 96), frame=1),
            SceneObject(Window(90, 120, 6, 8, 1), mask=np.ones((6, 8), bool)),
            SceneObject.marked(box=(64, 64, 65, 65)),
        ]

    def _named(self, namer: Namer, view: View, objects: Sequence[SceneObject]) -> NDArray[np.float32]:
        scores = namer.name_objects(view, objects, self.words)
        assert scores.shape == (len(objects), len(self.words))
        assert scores.dtype == np.float32
        return scores

    def test_is_a_namer(self, namer: Namer) -> None:
        assert isinstance(namer, Namer)
        assert namer.name
        assert namer.side % 32 == 0

    def test_says_how_words_are_taken(self, namer: Namer) -> None:
        told = namer.understand(self.words)
        assert [one.word for one in told] == [word.name for word in self.words]
        assert all(one.nearness is None or -1 <= one.nearness <= 1.0001 for one in told)
        assert all((one.known is None) == (one.nearness is None) for one in told)

    def test_scores_every_object(self, namer: Namer, view: View) -> None:
        scores = self._named(namer, view, self._objects())
        silent = np.isnan(scores).any(axis=1)
        assert np.isnan(scores[silent]).all()
        assert not silent.all()
        assert scores[~silent].min() >= 0
        assert scores[~silent].sum(axis=1).max() <= 1.001

    def test_no_objects_no_names(self, namer: Namer, view: View) -> None:
        self._named(namer, view, [])

    def test_an_object_is_named_whatever_the_others(self, namer: Namer, view: View) -> None:
        objects = self._objects()
        together = self._named(namer, view, objects)
        for number, one in enumerate(objects):
            alone = self._named(namer, view, [one])[0]
            assert alone == pytest.approx(together[number], abs=1e-3, nan_ok=True)

    def test_the_order_of_words_does_not_count(self, namer: Namer, view: View) -> None:
        objects = self._objects()[:2]
        forwards = namer.name_objects(view, objects, self.words)
        backwards = namer.name_objects(view, objects, self.words[::-1])
        assert backwards[:, ::-1] == pytest.approx(forwards, abs=1e-3, nan_ok=True)


class WordMapperContract:
    """What maps of words rely on; ``mapper``, and ``words`` it understands, are the subclass's."""

    words: tuple[Word, ...] = (Word("red"), Word("green"), Word("blue"))

    @pytest.fixture
    def mapper(self) -> WordMapper:
        raise NotImplementedError("give the contract a mapper: override this fixture")

    @pytest.fixture
    def view(self) -> View:
        """What is mapped."""
        return ArrayView((96, 128), frames=2, foundation=load_foundation("fake"))

    def test_is_a_mapper(self, mapper: WordMapper) -> None:
        assert isinstance(mapper, WordMapper)

    def test_scores_every_place(self, mapper: WordMapper, view: View) -> None:
        for window in (Window(0, 0, 96, 128, 1), Window(64, 96, 64, 64)):
            scores = mapper.map_words(view, window, self.words)
            assert scores.shape == (len(self.words), window.height // 4, window.width // 4)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()
            assert scores.min() >= 0
            assert scores.sum(axis=0).max() <= 1.001

    def test_says_the_same_again(self, mapper: WordMapper, view: View) -> None:
        window = Window(0, 0, 96, 128)
        one, other = (mapper.map_words(view, window, self.words) for _ in range(2))
        assert np.array_equal(one, other)


HEAVY = ("torch", "rasterio", "nibabel", "scipy")
"""Imports that would make ``domainsam --help`` slow."""


class PackContract:
    """Subclass it in a test module and set ``name`` to the pack's entry-point name."""

    name: str

    @pytest.fixture
    def pack(self) -> DomainPack:
        """The pack under test, found the way the command line finds it."""
        return load_pack(self.name)

    def test_is_installed_under_its_own_name(self, pack: DomainPack) -> None:
        assert self.name in find_packs()
        assert pack.name == self.name

    def test_name_can_be_typed(self, pack: DomainPack) -> None:
        assert pack.name.isidentifier()
        assert pack.name == pack.name.lower()

    def test_summary_fits_a_line_of_help(self, pack: DomainPack) -> None:
        assert 0 < len(pack.summary) <= 80
        assert "\n" not in pack.summary

    def test_labels_begin_with_background_and_differ(self, pack: DomainPack) -> None:
        assert pack.labels[0] == "background"
        assert len(pack.labels) >= 2
        assert len(set(pack.labels)) == len(pack.labels)

    def test_commands_are_a_group_with_help(self, pack: DomainPack) -> None:
        commands: Any = pack.load("commands")
        assert commands.help
        assert callable(commands.list_commands)

    @pytest.mark.parametrize("part", ["open", "save"])
    def test_opens_scenes_and_saves_what_is_found(self, pack: DomainPack, part: str) -> None:
        assert callable(pack.load(part))

    @pytest.mark.parametrize("part", ["demo", "describe"])
    def test_optional_parts_load_or_are_absent(self, pack: DomainPack, part: str) -> None:
        if getattr(pack, part) is None:
            with pytest.raises(PackError, match=part):
                pack.load(part)
        else:
            assert callable(pack.load(part))

    def test_listing_it_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from domainsam.packs import load_pack; "
            f"load_pack({self.name!r}); print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

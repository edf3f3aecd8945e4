"""A block's prediction has one form in every pack, whatever sensors saw it."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.protocols import Block, Window
from domainsam_scene.model.scene import SceneModel, load_model
from domainsam_scene.read.modalities import Plane, SensorBlock

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model() -> SceneModel:
    return load_model(device="cpu")


def test_sensors_and_a_picture_are_predicted_alike(model: SceneModel) -> None:
    rng = np.random.default_rng(0)
    valid = np.ones(SIZE, bool)
    valid[:8] = False
    first = Plane(rng.random((3, *SIZE), np.float32), valid)
    window = Window(0, 0, *SIZE)
    found = model.predict(Block(window, first.image, valid))
    assert found.names == model.labels
    assert found.probability.shape == (len(model.labels), *SIZE)
    assert found.probability.dtype == np.float32
    assert (found.labels[:8] == 255).all()
    assert (found.labels[8:] == found.probability.argmax(axis=0)[8:]).mean() > 0.999
    name, other = model.modalities[:2]
    same = model.predict(SensorBlock(window, first.image, valid, {name: first}))
    assert np.array_equal(same.probability, found.probability)
    second = Plane(rng.random((3, *SIZE), np.float32), np.ones(SIZE, bool))
    both = model.predict(SensorBlock(window, first.image, valid, {name: first, other: second}))
    assert both.valid.all()
    whole = model.predict_sensors(
        {name: first.image, other: second.image}, {name: first.valid, other: second.valid}
    )
    assert np.array_equal(both.labels, whole.labels)


def test_an_unknown_sensor_is_refused(model: SceneModel) -> None:
    with pytest.raises(InputError, match="not trained on x-ray"):
        model.predict(
            Block(Window(0, 0, *SIZE), np.zeros((3, *SIZE), np.float32), np.ones(SIZE, bool)), "x-ray"
        )

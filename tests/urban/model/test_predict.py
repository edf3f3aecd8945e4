"""A block's prediction has one form in every pack."""

from __future__ import annotations

import numpy as np

from domainsam.protocols import Block, Window
from domainsam_urban.model.settlement import SettlementModel


def test_a_block_is_predicted_as_pass_one_sees_it(model: SettlementModel) -> None:
    image = np.random.default_rng(0).random((3, 64, 96), np.float32)
    valid = np.ones((64, 96), bool)
    valid[:8] = False
    found = model.predict(Block(Window(0, 0, 64, 96), image, valid))
    assert found.names == ("background", "settlement")
    assert found.probability.shape == (2, 64, 96)
    assert found.probability.dtype == np.float32
    assert np.allclose(found.probability.sum(axis=0), 1)
    assert (found.labels[:8] == 255).all()
    assert ((found.labels == 1) == (valid & (found.probability[1] >= 0.5))).all()
    assert (found.valid == valid).all()

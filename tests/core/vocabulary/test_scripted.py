"""The tensors of a TorchScript archive are read by name, and nothing of its program is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from domainsam.errors import CheckpointError
from domainsam.vocabulary.clip import EXTRAS, read_clip
from domainsam.vocabulary.scripted import is_scripted, read_scripted
from tests.core.vocabulary.tiny import CLIP, tiny_clip

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")


def save_archive(network: nn.Module, path: Path) -> Path:
    """Write a network as TorchScript with its parts under their names, as OpenAI's file holds CLIP."""
    torch.jit.save(torch.jit.script(Holder(network)), str(path))
    return path


class Holder(nn.Module):
    """Holds a network's tensors in modules of the same names, none of which can do anything."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, child in network.named_children():
            setattr(self, name, Holder(child))
        for name, parameter in network.named_parameters(recurse=False):
            setattr(self, name, nn.Parameter(parameter.detach().half()))
        for name, buffer in network.named_buffers(recurse=False):
            self.register_buffer(name, buffer.clone())

    def forward(self) -> int:
        return 1


def test_clip_is_read_from_an_archive(tmp_path: Path) -> None:
    network = tiny_clip()
    path = save_archive(network, tmp_path / "RN50x16.pt")
    assert is_scripted(path)
    tensors = read_scripted(path, EXTRAS)
    expected = network.state_dict()
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        wanted = value.half().float() if value.is_floating_point() and "running" not in name else value
        assert torch.equal(tensors[name], wanted), name
    loaded = read_clip(path, CLIP)
    tokens = torch.tensor([[49406, 320, 1125, 49407, *[0] * 16]])
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for verb, given in (("encode_text", tokens), ("encode_image", picture)):
            one, other = (getattr(part.eval(), verb)(given) for part in (loaded, network))
            assert torch.allclose(one, other, atol=1e-2)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read_scripted(path)


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    path = save_archive(nn.Sequential(nn.Linear(2, 2)), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"does not hold a CLIP with a residual network"):
        read_clip(path, CLIP)
    empty = save_archive(nn.Identity(), tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="without tensors"):
        read_scripted(empty)
    plain = tmp_path / "plain.pt"
    torch.save({"a": torch.zeros(1)}, plain)
    assert not is_scripted(plain)

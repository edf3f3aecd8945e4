"""Released checkpoints of SAM-LST as model files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from domainsam.checkpoint import CheckpointHeader, collect_tensors, save
from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.released import Converted, ConvertOptions, Ledger, list_frozen
from domainsam.side.ladder import LadderConfig
from domainsam_ct.labels import load_label_map, name_classes
from domainsam_ct.model.network import PREFIX, NetworkConfig, OrganNetwork
from domainsam_ct.model.organs import ModelConfig
from domainsam_ct.model.shipped import PACK

SYSTEM = "SAM-LST"
FOUNDATION = "sam_vit_b"
PATCH = 16
RENAMED = (
    (r"CNN_encoder\.(conv1|bn1|layer[123])\.(.+)", r"ladder.specialist.model.\1.\2"),
    (r"sam\.alpha", "ladder.gates"),
    (r"sam\.mask_decoder\.mask_tokens\.weight", "decoder.tokens"),
    (r"sam\.mask_decoder\.output_upscaling\.(.+)", r"decoder.upscaling.layers.\1"),
)
"""Names there and here; a perceptron's layers are counted in another way."""
PERCEPTRON = re.compile(r"sam\.mask_decoder\.output_hypernetworks_mlps\.(\d+)\.layers\.(\d+)\.(.+)")
UNUSED = {
    r"CNN_encoder\.(layer4|fc)\..+": "the end of the ResNet, which is never run",
    r"sam_encoder\..+": "the frozen encoder, stored a second time",
    r"sam\.mask_decoder\.iou_prediction_head\..+": "an estimate of IoU that nothing reads",
    r"sam\.prompt_encoder\..+": "prompts, of which there are none",
}


def convert(ledger: Ledger, options: ConvertOptions) -> Converted | None:
    """Make a model file of a checkpoint of SAM-LST; None if it is of another system.

    Raises
    ------
    ConfigError
        If classes have to be named.
    WeightsError, CheckpointError
        If the foundation is absent, or a tensor cannot be accounted for.
    """
    tokens = ledger.tensors.get("sam.mask_decoder.mask_tokens.weight")
    if tokens is None or "CNN_encoder.conv1.weight" not in ledger.tensors:
        return None
    # The Synapse split in the numbers that TransUNet and its followers give its organs.
    labels = options.labels or name_classes(load_label_map("synapse"))
    if len(labels) != len(tokens):
        raise ConfigError(
            f"the checkpoint has {len(tokens)} classes, background included, and {len(labels)} are named: "
            "name all of them with --labels"
        )
    foundation = load_foundation(options.foundation or FOUNDATION)
    code = ledger.tensors["sam.image_encoder.pos_embed"]
    network = NetworkConfig(0, "random", LadderConfig("resnet18", (16,)), "published")
    config = ModelConfig(pixel_mm=0.0, side=int(code.shape[1]) * PATCH, network=network)
    organs = OrganNetwork(network, foundation, len(labels))
    own = organs.state_dict()
    names = {key: ours for key in ledger.tensors if (ours := _rename(key)) is not None and ours in own}
    found = ledger.take(names, own)
    for pattern, reason in UNUSED.items():
        ledger.leave(reason, [key for key in ledger.left() if re.fullmatch(pattern, key)])
    ledger.compare(_resized(ledger, list_frozen(foundation)))
    ledger.close(foundation.name, sorted(set(own) - set(found)))
    organs.load_state_dict(found)
    header = CheckpointHeader(
        PACK,
        foundation.name,
        foundation.sha256,
        labels,
        {"model": to_table(config), "converted": ledger.name},
    )
    save(options.out, collect_tensors(organs, PREFIX), header)
    return ledger.summary(SYSTEM, options.out, PACK, foundation.name, ())


def _rename(key: str) -> str | None:
    layer = PERCEPTRON.fullmatch(key)
    if layer is not None:
        return f"decoder.hypernetworks.{layer[1]}.{2 * int(layer[2])}.{layer[3]}"
    for pattern, ours in RENAMED:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    return None


def _resized(ledger: Ledger, frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The foundation's tensors by their names in the checkpoint, position codes resized as there."""
    found = {}
    for key in ledger.left():
        own = frozen.get(key.removeprefix("sam."))
        if own is None:
            continue
        theirs = ledger.tensors[key]
        if key.endswith("pos_embed") and own.shape != theirs.shape:
            size = (int(theirs.shape[1]), int(theirs.shape[2]))
            own = F.interpolate(own.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
            own = own.permute(0, 2, 3, 1)
        elif ".rel_pos_" in key and own.shape != theirs.shape:
            size = (int(theirs.shape[0]), int(theirs.shape[1]))
            own = F.interpolate(own[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        found[key] = own
    return found
